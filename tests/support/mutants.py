"""What the tests would notice: small changes of our code, each tried against the tests that call the changed function.

    python tests/support/mutants.py docs/mutants.json --seed 0 --each 20 tests    # as root; `make mutants`

What follows the options goes to pytest: which tests to collect.

A sample is drawn by seed, so many changes of each module, inside functions: another comparison, `and` for `or`, a
negated condition, other arithmetic, a number one more or less, None returned, a statement left out. (Texts are not
changed, nor are names that are assigned: that would be found out at once.) The tests are collected once; each change is
put into the functions of a forked process, which runs what calls them, the quickest first, until one fails.

A changed program deletes what it likes: here all disks are read-only but a small one in memory, which takes root.
"""

import argparse
import ast
import contextlib
import functools
import gc
import json
import os
import platform
import random
import resource
import signal
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

import soak
from repository import ROOT

PACKAGE = ROOT / "src" / "vergence"
MODULES = tuple(
    str(path.relative_to(PACKAGE))
    for pattern in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]["include"]
    for path in sorted(ROOT.glob(pattern))
    if path.name != "__init__.py"
)
"""Those of which each branch is covered."""
LONGEST, ALL = 3.0, 20.0
"""Seconds of a test, and of all tests, that a change is tried against."""
GOAL = 0.9
FAULT = 99

SWAPPED: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}

# --- changes ----------------------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """One change of a module: where, what, the function it lies in, and how it is made in the tree."""

    line: int
    what: str
    function: str
    make: Callable[[], None]


def changes(tree: ast.Module) -> list[Change]:
    """All changes of the functions of a module, always in the same order."""
    return [
        Change(node.lineno, what, name, make)
        for name, function in functions(tree)
        for node, what, make in changes_in(function)
    ]


def functions(tree: ast.Module | ast.ClassDef, above: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods; what is defined inside a function belongs to it."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{above}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield above + node.name, node


def changes_in(function: ast.FunctionDef) -> Iterator[tuple[Any, str, Callable[[], None]]]:
    hints = {id(part) for node in ast.walk(function) for hint in annotations(node) for part in ast.walk(hint)}
    nodes = [node for statement in function.body for node in ast.walk(statement) if id(node) not in hints]
    for node in nodes:
        match node:
            case ast.Compare(ops=ops):
                for i, op in enumerate(ops):
                    yield node, swap(op), functools.partial(ops.__setitem__, i, SWAPPED[type(op)]())
            case ast.BoolOp(op=op) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPPED:
                yield node, swap(op), functools.partial(setattr, node, "op", SWAPPED[type(op)]())
            case ast.Constant(value=bool() as value):
                yield node, f"{value} -> {not value}", functools.partial(setattr, node, "value", not value)
            case ast.Constant(value=int() | float() as value):
                for other in (value + 1, value - 1):
                    yield node, f"{value} -> {other}", functools.partial(setattr, node, "value", other)
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield node, "return None", functools.partial(setattr, node, "value", ast.Constant(None))
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node, "condition negated", functools.partial(setattr, node, "test", ast.UnaryOp(ast.Not(), node.test))
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            yield from omissions(body)
    yield from omissions(function.body)


def omissions(body: Any) -> Iterator[tuple[Any, str, Callable[[], None]]]:
    for i, node in enumerate(body if isinstance(body, list) else []):
        kept = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        stored = isinstance(node, ast.Assign) and not any(isinstance(target, ast.Name) for target in node.targets)
        if stored or (isinstance(node, ast.Expr | ast.Raise | ast.AugAssign | ast.Continue | ast.Break) and not kept):
            yield node, f"without {type(node).__name__}", functools.partial(body.__setitem__, i, ast.Pass())


def annotations(node: ast.AST) -> list[ast.AST]:
    return [hint for name in ("annotation", "returns") if (hint := getattr(node, name, None)) is not None]


def swap(op: ast.AST) -> str:
    return f"{type(op).__name__} -> {SWAPPED[type(op)].__name__}"


def changed(path: Path, number: int) -> tuple[Change, CodeType]:
    """A module's code with one change, and the change."""
    tree = ast.parse(path.read_text())
    change = changes(tree)[number]
    change.make()
    return change, compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)


def code_of(change: Change, code: CodeType) -> CodeType:
    """The code of the changed function, within that of its module."""
    return next(one for one in codes(code) if one.co_qualname == change.function)


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes(inner)


Place = tuple[str, str, int]
"""A function's file, name and first line."""


def living() -> dict[Place, list[FunctionType]]:
    """The functions of the modules that are changed, as they are in this process."""
    files, found = {str(PACKAGE / name) for name in MODULES}, dict[Place, list[FunctionType]]()
    for function in (o for o in gc.get_objects() if type(o) is FunctionType and o.__code__.co_filename in files):
        found.setdefault(place(function.__code__), []).append(function)
    return found


def place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def put_in(functions: list[FunctionType], new: CodeType) -> None:
    for function in functions:
        function.__code__ = new


def caches() -> list[Any]:
    """What keeps results of our functions."""
    kept = [o for o in gc.get_objects() if type(o) is functools._lru_cache_wrapper]
    return [cache for cache in kept if str(cache.__module__).startswith("vergence")]


# --- tests ------------------------------------------------------------------------------------------------------------


Function = tuple[str, int]
"""A function's file and first line."""


class Tried(NamedTuple):
    """A test as it was without a change: how long it took, the functions called, those by the test itself."""

    seconds: float
    called: set[Function]
    itself: set[Function]


class Trials:
    """A plugin: instead of running the tests it tries the changes, each in a process that is forked for it."""

    def __init__(self, seed: int, each: int, say: Callable[[str], None]):
        self.seed, self.each, self.say = seed, each, say
        self.modules: dict[str, Any] = {}
        self.living: dict[Place, list[FunctionType]] = {}
        self.caches: list[Any] = []
        self.called: set[Function] = set()
        self.itself: set[Function] = set()
        self.of_fixture: dict[str, set[Function]] = {}
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from vergence.report import figures, views  # noqa: F401, others import them only when they draw

        self.living, self.caches = living(), caches()
        gc.freeze()  # what is here already, no child's collector need look at, and so copy
        baseline = self.baseline(session.items)
        for name in MODULES:
            self.modules[name] = self.module(PACKAGE / name, session.items, baseline)
            found = self.modules[name]
            left = "; ".join(found["survivors"])
            self.say(
                f"{name}: {found['killed']} of {found['tried']} killed, {found['possible']} possible. Left: {left}"
            )
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        """What a fixture of a module calls is called for each of its tests, though only the first sets it up."""
        before, self.called = self.called, set()
        result = yield
        self.of_fixture.setdefault(f"{fixturedef.baseid} {fixturedef.argname}", set()).update(self.called)
        self.called |= before
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Any:
        before, self.called = self.called, set()
        result = yield
        self.itself = self.called
        self.called = before | self.itself
        return result

    def baseline(self, items: list[pytest.Item]) -> dict[str, Tried]:
        """Run every test once, in a process of its own: this one must stay as it is."""
        kept = Path("baseline.json")
        if (child := os.fork()) == 0:
            sources = {str(PACKAGE / name) for name in MODULES}

            def heard(frame: Any, event: str, _: Any) -> None:
                if event == "call" and frame.f_code.co_filename in sources:
                    self.called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

            threading.setprofile(heard)
            sys.setprofile(heard)
            found = {}
            for item, following in zip(items, [*items[1:], None], strict=True):
                for cache in self.caches:  # else only the first test that wants a result calls the function
                    cache.cache_clear()
                self.called, self.itself, self.failed, began = set(), set(), False, time.monotonic()
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if not self.failed:
                    found[item.nodeid] = [time.monotonic() - began, sorted(self.called), sorted(self.itself)]
            for item in (item for item in items if item.nodeid in found):
                fixtures = (one for defs in item._fixtureinfo.name2fixturedefs.values() for one in defs)  # pyright: ignore
                for one in fixtures:
                    found[item.nodeid][1] += sorted(self.of_fixture.get(f"{one.baseid} {one.argname}", ()))
            kept.write_text(json.dumps(found))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the tests without a change: {status}"
        found = {
            name: Tried(seconds, set(map(tuple, called)), set(map(tuple, itself)))
            for name, (seconds, called, itself) in json.loads(kept.read_text()).items()
        }
        if strange := [item.nodeid for item in items if item.nodeid not in found]:
            self.say(f"left out, for they fail here without a change: {', '.join(strange)}")
        return found

    def module(self, path: Path, items: list[pytest.Item], baseline: dict[str, Tried]) -> dict[str, Any]:
        possible = len(changes(ast.parse(path.read_text())))
        numbers = random.Random(f"{self.seed} {path.name}").sample(range(possible), possible)
        outcomes: dict[str, list[str]] = {"killed": [], "timed out": [], "survived": []}
        for number in numbers:
            if sum(map(len, outcomes.values())) == self.each:
                break
            change, code = changed(path, number)
            new = code_of(change, code)
            known = [item for item in items if item.nodeid in baseline]
            function = str(path), new.co_firstlineno
            calling = [i for i in known if function in baseline[i.nodeid].called]
            outcome = self.attempt(change, new, chosen(calling, baseline, function))
            if outcome is not None:
                outcomes[outcome].append(f"{change.line}: {change.what}")
        return {
            "possible": possible,
            "tried": sum(map(len, outcomes.values())),
            "killed": len(outcomes["killed"]) + len(outcomes["timed out"]),
            "of these by time": len(outcomes["timed out"]),
            "survivors": sorted(outcomes["survived"], key=lambda place: int(place.partition(":")[0])),
        }

    def attempt(self, change: Change, new: CodeType, items: list[pytest.Item]) -> str | None:
        """ "killed", "timed out" or "survived"; None where the change cannot be put into the living function."""
        if (child := os.fork()) == 0:
            code_of_exit = FAULT
            try:
                os.setsid()
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(3 * ALL + 20))
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30),) * 2)
                code_of_exit = self.child(new, items)
            except BaseException:
                self.say(traceback.format_exc())
            finally:
                os._exit(code_of_exit)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have started
        assert ended != FAULT, f"{new.co_filename}:{change.line}: {change.what}"
        return {0: "survived", 3: None, -signal.SIGALRM: "timed out"}.get(ended, "killed")

    def child(self, new: CodeType, items: list[pytest.Item]) -> int:
        """What the exit code is to be: 0 where all tests pass, 3 where the change cannot be made."""
        try:
            put_in(self.living[place(new)], new)
        except ValueError:  # the function has lost a variable that it shared with what is around it
            return 3
        for cache in self.caches:
            cache.cache_clear()
        for item, following in zip(items, [*items[1:], None], strict=False):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return 1
        return 0


def chosen(calling: list[pytest.Item], baseline: dict[str, Tried], function: Function) -> list[pytest.Item]:
    """As many as there is time for, the quickest of those that call the function themselves, then those whose
    fixtures do; file by file, so that no fixture is set up anew."""
    of_file, left = dict[Path, float](), ALL
    found = set()

    def rank(item: pytest.Item) -> tuple[bool, float]:
        tried = baseline[item.nodeid]
        return function not in tried.itself, tried.seconds

    for item in sorted(calling, key=rank):
        left -= (seconds := baseline[item.nodeid].seconds)
        if seconds < LONGEST and left > 0:
            found.add(item)
            of_file[item.path] = of_file.get(item.path, 0.0) + seconds
    return sorted((item for item in calling if item in found), key=lambda item: (of_file[item.path], item.path))


# --- the whole --------------------------------------------------------------------------------------------------------


def shut_in(scratch: Path) -> None:
    """Leave this process one small disk in memory that it can write to; its folder is there from now on."""
    import faults

    faults._own_mounts()
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in (place for place in places if not place.startswith(("/proc", "/dev", "/sys"))):
        faults._mount("", place, "", faults.MS_REMOUNT | faults.MS_BIND | faults.MS_RDONLY)
    for place in (str(scratch), "/dev/shm"):
        faults._mount("tmpfs", place, "tmpfs", 0, f"size={2 << 30}")
    os.chdir(scratch)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "VERGENCE_CACHE", "HYPOTHESIS_STORAGE_DIRECTORY"):
        os.environ[name] = str(scratch)


def trials(tests: list[str], seed: int, each: int, scratch: Path, answer: int) -> None:
    """A process's whole life: it tries all and writes what it found to the descriptor `answer`."""
    shut_in(scratch)
    spoken = os.dup(1)
    for stream in (1, 2):
        os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.dont_write_bytecode = True
    plugin = Trials(seed, each, lambda text: (os.write(spoken, f"{text}\n".encode()), None)[1])
    options = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={scratch}/tests"]
    try:
        pytest.main([*options, f"--rootdir={ROOT}", *tests], plugins=[plugin])
    except Exception:
        plugin.say(traceback.format_exc())
    if len(plugin.modules) < len(MODULES):
        plugin.say(Path("output").read_text()[-2000:])
    os.write(answer, json.dumps(plugin.modules).encode())


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    rows = [f"| `{name}` | {m['possible']} | {m['tried']} | {m['killed']} |" for name, m in report["modules"].items()]
    total = f"| together | {report['possible']} | {report['tried']} | {report['killed']} |"
    where = f"{report['date']}, commit {report['commit']}, seed {report['seed']}: "
    share = f"{report['killed']} of {report['tried']} changes were noticed, {report['killed'] / report['tried']:.1%}."
    head = ["| module | changes there are | tried | noticed |", "|---|---:|---:|---:|"]
    return "\n".join([where + share, "", *head, *rows, total])


def main(out: Path, tests: list[str], seed: int, each: int) -> int:
    scratch, commit = ROOT / "build" / "mutants", soak.commit()
    scratch.mkdir(parents=True, exist_ok=True)
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reads)
        trials(tests, seed, each, scratch, writes)
        os._exit(0)
    os.close(writes)
    with open(reads) as pipe:
        modules = json.loads(pipe.read() or "{}")
    os.waitpid(child, 0)
    tried, killed = (sum(module[name] for module in modules.values()) for name in ("tried", "killed"))
    if len(modules) < len(MODULES):
        print("error: not all was tried, and nothing is written; this takes root", file=sys.stderr)
        return 1
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "python": platform.python_version(),
        "seed": seed,
        "possible": sum(module["possible"] for module in modules.values()),
        "tried": tried,
        "killed": killed,
        "modules": modules,
    }
    out.write_text(json.dumps(report, indent=2) + "\n")
    page = out.with_name("reliability.md")
    page.write_text(soak.between_markers(page.read_text(), table(report), "mutants"))
    print(f"{killed} of {tried} killed: {killed / tried:.1%}")
    return int(killed < GOAL * tried)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=20)
    given, others = parser.parse_known_args()
    sys.exit(main(tests=[str(Path(word).resolve()) if Path(word).exists() else word for word in others], **vars(given)))
