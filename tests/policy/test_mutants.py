"""The changes that `make mutants` tries are those it says, and each is another program."""

import ast
import inspect

import pytest

import mutants

SOURCE = '''
LIMIT = 3

class Box:
    def holds(self, n: int = 4) -> bool | None:
        """A docstring."""
        if n < 5 and self.open:
            return True
        self.seen = n
        name = n
        return None
'''
FOUND = [
    (7, "And -> Or"),
    (7, "Lt -> LtE"),
    (7, "5 -> 4"),
    (7, "5 -> 6"),
    (7, "condition negated"),
    (8, "True -> False"),
    (8, "return None"),
    (9, "without Assign"),
]


def test_what_is_changed_lies_inside_functions_and_is_no_text_or_hint():
    found = mutants.changes(ast.parse(SOURCE))
    assert sorted((change.line, change.what) for change in found) == sorted(FOUND)
    assert {change.function for change in found} == {"Box.holds"}


def test_each_change_is_another_program(tmp_path):
    path = tmp_path / "box.py"
    path.write_text(SOURCE)
    programs = {SOURCE: ast.dump(ast.parse(SOURCE))}
    for number in range(len(FOUND)):
        tree = ast.parse(SOURCE)
        mutants.changes(tree)[number].make()
        programs[str(number)] = ast.dump(ast.fix_missing_locations(tree))
        change, code = mutants.changed(path, number)
        assert mutants.code_of(change, code).co_qualname == "Box.holds"
    assert len(set(programs.values())) == len(FOUND) + 1


def holds(n):
    return n < 5


@pytest.mark.parametrize(("what", "answers"), [("Lt -> LtE", [True, True]), ("return None", [None, None])])
def test_a_change_reaches_the_functions_that_live(monkeypatch, what, answers):
    monkeypatch.setattr(mutants, "MODULES", (holds.__code__.co_filename,))
    source = inspect.getsource(inspect.getmodule(holds))
    path = mutants.Path(holds.__code__.co_filename)
    number = next(
        i for i, c in enumerate(mutants.changes(ast.parse(source))) if (c.function, c.what) == ("holds", what)
    )
    before = holds.__code__
    assert [holds(n) for n in (4, 5)] == [True, False]
    try:
        new = mutants.code_of(*mutants.changed(path, number))
        mutants.put_in(mutants.living()[mutants.place(new)], new)
        assert [holds(n) for n in (4, 5)] == answers
    finally:
        holds.__code__ = before


def test_the_quickest_that_call_it_themselves_are_asked_first_and_none_for_too_long():
    class Item:
        def __init__(self, nodeid):
            self.nodeid, self.path = nodeid, mutants.Path(nodeid.split()[0])

    seconds = {"x b": 1.5, "y c": 0.2, "x a": 0.1, "y long": 3.0, **{f"z {i:02}": 1.9 for i in range(20)}}
    direct = {"x b", "z 19"}
    function = "file", 1
    baseline = {n: mutants.Tried(s, {function}, {function} if n in direct else set()) for n, s in seconds.items()}
    chosen = [item.nodeid for item in mutants.chosen(list(map(Item, seconds)), baseline, function)]
    assert chosen == ["y c", "x b", "x a", *(f"z {i:02}" for i in range(8)), "z 19"]
