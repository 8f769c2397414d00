"""The shape of the code: one direction, small pieces, every range stated."""

import ast
import functools
import inspect
import subprocess
import sys

import pytest

import vergence
from repository import MODULES
from vergence import losses
from vergence.metrics import collapse, diagnosis, table

LEVELS = (
    {"", "errors", "fast.compiled", "files.names", "losses"},
    {"exports.suffixes", "metrics.table"},
    {"config", "metrics.verdict"},
    {"register"},
    {"plugins"},
    {"files", "machine", "optim", "presets"},
    {"fast"},
    {"augment", "networks"},
    {"data"},
    {"methods"},
    {"metrics"},
    {"engine"},
    {"runs", "trackers", "watching"},
    {"report"},
    {"exports", "grid"},
    {"bench", "study"},
    {"few_labels"},
    {"papers"},
    {"command"},
    {"__main__"},
)
"""From the ground up. A module may import what is below it, and its neighbours in a package on the same level."""

FILES = ("durable", "run_folder", "results", "series")
LONGEST: dict[str, int] = {}
"""Lines of a module, where not 400."""


def level(module):
    """A module's own place, or that of the package it is in."""
    name = module.removeprefix("vergence").removeprefix(".")
    while True:
        for number, names in enumerate(LEVELS):
            if name in names:
                return number, name
        assert "." in name, f"{module} stands on no level"
        name = name.rpartition(".")[0]


def imported(path):
    """The modules of this package that a module imports, inside functions too; not what it imports for types only."""
    tree = ast.parse(path.read_text())
    for node in [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]:
        tree.body.remove(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES:
                    yield name
                elif node.module in MODULES:
                    yield node.module


GRAPH = {module: set(imported(path)) - {module} for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    own, place = level(module)
    for other in GRAPH[module]:
        number, beside = level(other)
        assert number < own or beside == place, f"{module} (level {own}) imports {other} (level {number})"


PUBLIC = {
    *("augment", "config", "data", "errors", "losses", "methods", "metrics", "presets", "runs", "study"),
    *("optim", "machine.randomness", "engine.step"),
}
"""What papers may import; the last three are what a training loop of one's own needs."""


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("vergence.papers")])
def test_papers_are_written_on_public_modules(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{alias.name}" if node.module == "vergence" else node.module for alias in node.names
            ]
            for name in names:
                top, _, rest = (name or "").partition(".")
                own = rest.startswith(".".join(module.split(".")[1:3])) and rest.startswith("papers.")
                assert top != "vergence" or own or (rest in PUBLIC or rest.split(".")[0] in PUBLIC), (
                    f"{module} imports {name}"
                )
                assert not rest.startswith("study."), f"{module} imports {name}: take it from vergence.study"


def test_imports_run_in_no_circle():
    done: set[str] = set()

    def visit(module, above):
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for other in GRAPH[module]:
                visit(other, [*above, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])
    assert done == set(MODULES)


def test_the_search_for_imports_finds_them():
    assert "vergence.losses" in GRAPH["vergence.methods.byol"]
    assert "vergence.runs" in GRAPH["vergence.command.handlers"]  # from inside a function
    assert sum(map(len, GRAPH.values())) > 80


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are_and_stay_small(module):
    text = MODULES[module].read_text()
    assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
    assert len(text.splitlines()) <= LONGEST.get(module, 400)
    assert MODULES[module].stem not in {"utils", "util", "helpers", "common", "misc"}


def functions():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", node


def test_functions_fit_on_a_screen():
    """80 lines, without the docstring and the signature that explain them."""
    long = {name: lines for name, node in functions() if (lines := node.end_lineno - node.body[0].end_lineno) > 80}
    assert not long


def public(module):
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__.startswith(module.__name__) and not name.startswith("_"):
            yield pytest.param(value, id=f"{module.__name__}.{name}")


@functools.cache
def texts_and_names(module):
    """What stands in a module: its texts, and its names."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return texts, {getattr(node, key, None) for node in nodes for key in ("id", "attr", "name")}


@pytest.mark.parametrize("metric", table.BUILT_IN)
def test_a_metric_has_one_home(metric):
    """The table names it, its function may, and one more: the verdict's rules. Papers' claims name what they claim.

    `loss` is a word of many things. What is a function of `losses` too is named by objectives, as a function.
    """
    named = set()
    for module in MODULES:
        texts, words = texts_and_names(module)
        if metric in texts or (metric in words and not hasattr(losses, metric)):
            named.add(module)
    here = {module for module in named if not module.startswith(("vergence.papers", "vergence.losses"))}
    assert "vergence.metrics.table" in here
    assert len(here) <= 3 or metric == "loss", f"{metric} is named in {', '.join(sorted(here))}"


STATED_OTHERWISE = {"normalize", "of_embeddings", "tangential", "spectrum", "whiten"}
"""No number comes out, or one whose value means nothing: the docstring says which."""


@pytest.mark.parametrize("function", [*public(losses), *public(collapse), *public(diagnosis)])
def test_losses_and_metrics_state_their_range(function):
    said = inspect.getdoc(function) or ""
    assert said
    if function.__name__ not in STATED_OTHERWISE:
        ranged = any(word in said for word in ("In [", "Each in [", "At least"))
        assert ranged, f"{function.__name__} says no range"


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, vergence, vergence.command.cli, vergence.metrics, vergence.files.results;"
        "print({'torch', 'numpy', 'rich', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


PUBLIC_NAMES = [
    *("Watch", "augment", "config", "data", "export", "load_encoder", "losses", "methods", "metrics", "presets"),
    *("register", "runs", "study"),
]


def test_the_public_names_are_listed_once_and_found_when_they_are_asked_for():
    assert vergence.__all__ == sorted(vergence.__all__) == PUBLIC_NAMES
    script = """
import sys, vergence
assert "torch" not in sys.modules
assert not any(name.startswith("vergence.") for name in sys.modules)
for name in ("config", "presets", "register"):
    getattr(vergence, name)
assert "torch" not in sys.modules
assert all(getattr(vergence, name) is not None for name in vergence.__all__)
assert {*vergence.__all__} < {*dir(vergence)}
try:
    vergence.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'vergence' has no attribute 'nothing'\n"


def test_what_the_public_modules_export_is_sorted_and_there():
    for name in vergence.__all__:
        module = getattr(vergence, name)
        exported = getattr(module, "__all__", [])
        assert all(hasattr(module, part) for part in exported), name


@pytest.mark.parametrize(
    "module", ["config", "command.options", "presets", "errors", "metrics.table", *(f"files.{name}" for name in FILES)]
)
def test_what_reads_a_configuration_stands_on_the_standard_library(module):
    """A wrong key is answered before torch is imported."""
    used: set[str] = set()
    waiting = [f"vergence.{module}"]
    while waiting:
        name = waiting.pop()
        used.add(name)
        waiting += GRAPH[name] - used
    for name in used:
        for node in ast.parse(MODULES[name].read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                top = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
                assert top == "vergence" or top in sys.stdlib_module_names, f"{name} imports {top}"


WINGS = tuple(f"vergence.{wing}" for wing in ("engine", "runs", "study", "papers", "report", "command"))


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith(WINGS)])
def test_functions_have_few_parameters(module):
    """What belongs together travels in one object."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in given)
            assert count <= 7, f"{module}.{node.name} has {count} parameters"


OPENINGS = ("Of ", "As ", "What of", "So many", "The same", "Whether an exception says so")
SHOWN_IN_HELP = {"Supervised", "Constant"}
"""Settings whose first line the golden help holds."""


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_name_what_they_are_about(module):
    """A sentence that begins so has its subject in another place."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in SHOWN_IN_HELP:
            said = ast.get_docstring(node) or ""
            assert not said.startswith(OPENINGS), f"{module}.{node.name}: {said.splitlines()[0]}"
        if isinstance(node, ast.Module):
            for one in node.body:
                if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                    assert not str(one.value.value).startswith(OPENINGS), f"{module}, line {one.lineno}"
