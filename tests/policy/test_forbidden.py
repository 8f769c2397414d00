"""No call in this repository can run code that stands in a file.

`weights_only=True` was bypassed twice (CVE-2025-32434, CVE-2026-24747), archive filters more often, and configurations
that name a class to build have run commands in several libraries. So these calls do not stand here at all, in the
package, its examples, benchmarks and tests, but for the few that are listed with their reason.
"""

import ast
from collections import Counter

import pytest

from repository import ROOT

FILES = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("src", "examples", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

MODULES = {
    *(
        "pickle",
        "_pickle",
        "cPickle",
        "pickletools",
        "shelve",
        "marshal",
        "dill",
        "cloudpickle",
        "joblib",
        "jsonpickle",
    ),
    *("yaml", "ruamel", "hydra", "omegaconf", "importlib", "imp", "pkgutil", "runpy", "code", "codeop", "pty"),
    *("multiprocessing", "torch.package", "torch.jit", "torch.hub", "torch.multiprocessing"),
}
"""Modules that read pickles, build objects by name, or import by name. Where one is imported, it is found."""

HARMLESS = {"importlib.metadata", "importlib.resources", "importlib.util.find_spec"}

CALLS = {
    *("eval", "exec", "compile", "__import__", "breakpoint"),
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *(
        "torch.load",
        "torch.jit.load",
        "torch.hub.load",
        "torch.package.PackageImporter",
        "torch.storage._load_from_bytes",
    ),
    *("timm.load_checkpoint", "timm.models.load_checkpoint", "pandas.read_pickle"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *(f"os.{kind}{end}" for kind in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    "shutil.unpack_archive",
}
METHODS = {
    "extractall",
    "load_state_dict_from_url",
    "import_module",
    "load_module",
    "exec_module",
    "load_from_checkpoint",
}
ARGUMENTS = {"allow_pickle", "weights_only", "shell", "pretrained", "checkpoint_path", "trust_remote_code"}
"""Arguments that may not stand there, unless as False."""

WORDS = {"_target_", "!!python"}
"""Keys by which a configuration names what is to be built or run, in pieces here."""

WRITES = {"torch.save", "numpy.savez", "numpy.savez_compressed"}
"""Writing a pickle runs nothing. In the package there is none all the same; a benchmark may compare itself with it."""

PIPE = "runner and worker are one program: the pipe is inherited, has no name, and no other process holds an end of it"
ALLOWED: dict[str, tuple[set[str], str]] = {
    "src/vergence/__init__.py": ({"importlib", "import_module"}, "imports our own modules, by names of ours"),
    "src/vergence/grid/__init__.py": ({"multiprocessing"}, PIPE),
    "src/vergence/grid/worker.py": ({"multiprocessing"}, PIPE),
    "src/vergence/networks/weights.py": (
        {"pickle", "torch.load", "weights_only"},
        "reads weights that a user names, by torch's reader of tensors and plain values; pickle's error is caught",
    ),
    "src/vergence/runs/models.py": ({"torch.jit.load"}, "reads a network that a user names, in torch's own language"),
    "src/vergence/exports/formats.py": (
        {"pretrained"},
        "lets timm load the folder of tensors that was just written, to compare it",
    ),
    "src/vergence/plugins.py": (
        {"importlib", "exec_module"},
        "runs the Python file that a user names on the command line, as `python FILE.py` does, and what is installed",
    ),
    "src/vergence/study/find.py": ({"importlib", "import_module"}, "imports our own papers, by names of ours"),
    "tests/runs/test_exports.py": ({"pretrained"}, "lets timm load a folder of tensors that the test has written"),
    "tests/grid/test_grid.py": ({"multiprocessing"}, PIPE),
    "tests/support/payloads.py": (
        {"pickle", "joblib", "yaml", "importlib", "import_module", "torch.load", "allow_pickle"}
        | {"_target_", "!!python"},
        "makes files that run code, which no other file may; each creates a file in a test's folder and nothing else",
    ),
    "tests/files/test_payloads.py": ({"_target_"}, "offers a configuration that names a function"),
    "tests/support/mutants.py": (
        {"compile"},
        "compiles our own modules with a change, for functions that are there already",
    ),
    "tests/support/ranks.py": (
        {"importlib", "import_module"},
        "calls the test's own function that its parent process names",
    ),
    "tests/support/benchmark_scripts.py": (
        {"importlib", "exec_module"},
        "loads the scripts of benchmarks, which are in no package",
    ),
    "tests/engine/test_checkpoints.py": ({"extractall"}, "unpacks the golden run that lies in tests/golden"),
    "tests/config/test_malformed.py": ({"_target_"}, "offers a configuration that names a function"),
    "tests/data/test_faults_data.py": (
        {"pickle", "torch.load", "allow_pickle", "eval", "exec", "os.system"},
        "makes files that run code, as tests/support/payloads.py does, and offers them as data",
    ),
    "tests/policy/test_examples.py": ({"compile"}, "compiles the source of an example of ours"),
    "tests/policy/test_forbidden.py": ({"_target_", "!!python"}, "names what it looks for"),
}
"""For each file what it may do, and why."""


def names_in(tree):
    """What each imported name of a module stands for, in full."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {name: full.replace("np.", "numpy.") for name, full in found.items()}


def inside(name, modules):
    """The one of the modules that a dotted name is, or is in."""
    parts = name.split(".")
    return next((found for n in range(len(parts)) if (found := ".".join(parts[: n + 1])) in modules), None)


def offences(source, *, package=True):
    """Each forbidden thing in a module, by its name in full."""
    tree = ast.parse(source)
    known = names_in(tree)
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # a parameter hides the builtin
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            whole = isinstance(node, ast.ImportFrom)
            imported = [f"{node.module}.{alias.name}" if whole else alias.name for alias in node.names]
            yield from (m for n in imported if (m := inside(n, MODULES)) and not inside(n, HARMLESS))
        elif isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            name = known.get(first, first) + dot + rest
            hidden = first in own and first not in known
            if not hidden and (name in CALLS or (package and name in WRITES)):  # called or handed on
                yield name
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                yield node.attr
        elif isinstance(node, ast.keyword) and node.arg in ARGUMENTS and ast.unparse(node.value) != "False":
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (word for word in WORDS if word in node.value)


@pytest.mark.parametrize("name", FILES)
def test_no_code_comes_out_of_a_file(name):
    allowed, _ = ALLOWED.get(name, (set(), ""))
    found = Counter(offences(FILES[name].read_text(), package=name.startswith(("src", "examples"))))
    assert not {offence: count for offence, count in found.items() if offence not in allowed}


def test_each_exception_is_needed_and_has_its_reason():
    for name, (allowed, reason) in ALLOWED.items():
        assert allowed == {*offences(FILES[name].read_text())} & allowed, f"{name}: no longer needed: take it off"
        assert len(reason) > 20
    assert [name for name in ALLOWED if name.startswith("src")] == [
        "src/vergence/__init__.py",
        "src/vergence/grid/__init__.py",
        "src/vergence/grid/worker.py",
        "src/vergence/networks/weights.py",
        "src/vergence/runs/models.py",
        "src/vergence/exports/formats.py",
        "src/vergence/plugins.py",
        "src/vergence/study/find.py",
    ]


FORBIDDEN = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "import pickle as p": "pickle",
    "def f():\n    import cPickle": "cPickle",
    "import dill": "dill",
    "import cloudpickle": "cloudpickle",
    "import joblib\njoblib.load(p)": "joblib",
    "from joblib import load": "joblib",
    "import marshal": "marshal",
    "import shelve": "shelve",
    "import yaml\nyaml.load(f)": "yaml",
    "from yaml import unsafe_load": "yaml",
    "from hydra.utils import instantiate": "hydra",
    "import importlib": "importlib",
    "from importlib import import_module": "importlib",
    "import importlib.util": "importlib",
    "loader.import_module(name)": "import_module",
    "__import__(name)": "__import__",
    "import runpy": "runpy",
    "import multiprocessing": "multiprocessing",
    "from multiprocessing.connection import Client": "multiprocessing",
    "import torch\ntorch.load(p)": "torch.load",
    "import torch as t\nt.load(p, weights_only=False)": "torch.load",
    "from torch import load\nload(p)": "torch.load",
    "import torch\nread = torch.load": "torch.load",
    "import torch\nmap(torch.load, paths)": "torch.load",
    "import torch\ntorch.load(p, weights_only=True)": "weights_only",
    "import torch\ntorch.save(x, p)": "torch.save",
    "from torch.hub import load_state_dict_from_url": "torch.hub",
    "import torch\ntorch.jit.load(p)": "torch.jit.load",
    "import numpy as np\nnp.load(p, allow_pickle=True)": "allow_pickle",
    "import numpy as np\nnp.load(p, allow_pickle=choice)": "allow_pickle",
    "import numpy as np\nnp.savez(p, x)": "numpy.savez",
    "import pandas as pd\npd.read_pickle(p)": "pandas.read_pickle",
    "archive.extractall(p)": "extractall",
    "import shutil\nshutil.unpack_archive(p)": "shutil.unpack_archive",
    "x = eval(s)": "eval",
    "exec(s)": "exec",
    "list(map(eval, words))": "eval",
    "import builtins\nbuiltins.exec(s)": "builtins.exec",
    "compile(s, 'f', 'exec')": "compile",
    "import subprocess\nsubprocess.run(c, shell=True)": "shell",
    "import subprocess\nsubprocess.getoutput(c)": "subprocess.getoutput",
    "import os\nos.system(c)": "os.system",
    "from os import system\nsystem(c)": "os.system",
    "import os\nos.popen(c)": "os.popen",
    "import os\nos.execv(c, a)": "os.execv",
    "import timm\ntimm.create_model(n, pretrained=True)": "pretrained",
    "import timm\ntimm.create_model(n, checkpoint_path=p)": "checkpoint_path",
    "from_pretrained(n, trust_remote_code=True)": "trust_remote_code",
    "config['_target_']": "_target_",
    "text = '!!python/object/apply:os.system'": "!!python",
}


@pytest.mark.parametrize("source", FORBIDDEN)
def test_the_search_finds_it(source):
    assert FORBIDDEN[source] in set(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "from importlib.metadata import version",
        "import importlib.resources",
        "from importlib import resources",
        "model.eval()",
        "import safetensors.torch\nsafetensors.torch.load(data)",
        "import numpy as np\nnp.load(p)\nnp.load(p, allow_pickle=False)\nnp.save(p, x)",
        "import re\nre.compile(pattern)",
        "import torch\ntorch.compile(model)",
        "import json\njson.load(f)",
        "import subprocess\nsubprocess.run(words)",
        "import timm\ntimm.create_model(n, pretrained=False)",
    ],
)
def test_it_does_not_find_what_is_harmless(source):
    assert not list(offences(source))


def test_a_benchmark_may_write_what_it_compares_itself_with():
    assert not list(offences("import torch\ntorch.save(x, p)", package=False))


def test_all_of_the_repository_is_searched():
    assert {"src/vergence/command/cli.py", "examples/experiment.py", "benchmarks/contestant.py"} <= set(FILES)
    assert len(FILES) > 100
    other = {"src", "examples", "benchmarks", "tests", "build", "dist", "runs"}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in other and path.name[0] != "."]
    assert not [path for folder in (ROOT, *folders) for path in folder.glob("*.py" if folder == ROOT else "**/*.py")]
