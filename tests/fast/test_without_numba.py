"""Without the extra `fast` all works: other loops, the same numbers but for rounding, and one line that says so."""

import ast
import json
import os
import subprocess
import sys

import pytest

from repository import MODULES, SOURCE, SUPPORT
from small_runs import SHORT
from vergence.engine.periods import Periods
from vergence.engine.where import Where
from vergence.fast import compiled
from vergence.runs import run_training

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""

AGREE = (1e-5, 1e-3)
"""How far numbers of the first and of the second step may lie apart: the update between them multiplies rounding."""

NUMBERS = ("loss", "alignment", "uniformity", "pos_cos", "neg_cos", "z_std", "effective_rank", "y_neg_cos")

TRAINED = """
import json, sys, torch
from pathlib import Path
from vergence.engine.periods import Periods
from vergence.runs import run_training
from small_runs import SHORT
torch.set_num_threads(1)
print(json.dumps(run_training(SHORT, Path(sys.argv[1]), periods=Periods(log_every=1))["environment"]))
assert "numba" not in sys.modules
"""


def without_numba(script, *words):
    path = os.pathsep.join([str(SOURCE), str(SUPPORT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", HIDE + script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_one_module_imports_numba():
    importing = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importing |= {name for imported in names if imported.partition(".")[0] == "numba"}
    assert importing == {"vergence.fast.compiled"}


@pytest.mark.slow
def test_a_run_without_numba_has_the_same_numbers_within_rounding(tmp_path):
    """Within `AGREE` of each number, and of one where it is smaller."""
    run_training(SHORT, tmp_path / "with", periods=Periods(log_every=1), where=Where(device="cpu"))
    done = without_numba(TRAINED, tmp_path / "without")
    assert json.loads(done.stdout)["numba"] == "none"
    assert json.loads((tmp_path / "without" / "run.json").read_text())["environment"]["numba"] == "none"
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("with", "without")]
    assert len(logs[0]) == len(logs[1]) == 2
    for (one, other), tolerance in zip((map(json.loads, pair) for pair in zip(*logs, strict=True)), AGREE, strict=True):
        assert one.keys() == other.keys()
        apart = {name: abs(one[name] - other[name]) / max(1, abs(one[name])) for name in NUMBERS}
        assert 0 < max(apart.values()) < tolerance, apart  # were it 0, numba had not been hidden


SAID = """
from vergence.command import cli
for _ in range(2):
    assert cli.main(["evaluate", sys.argv[1], "--probes", "knn", "--device", "cpu"]) == 0
"""


@pytest.mark.slow
def test_a_command_says_once_what_numba_would_give(folder, monkeypatch):
    gain = f"training a ResNet-18 on the CPU takes about {compiled.SLOWER:g} times as long"
    said = f"note: numba is not installed: {gain}; pip install 'vergence[fast]'\n"
    assert without_numba(SAID, folder).stderr == said
    monkeypatch.setenv("RANK", "1")
    assert without_numba("from vergence.fast.compiled import note_if_missing\nnote_if_missing()").stderr == ""


def test_where_numba_is_installed_nothing_is_said(capsys):
    compiled.note_if_missing.cache_clear()
    compiled.note_if_missing()
    assert capsys.readouterr() == ("", "")
    import numba

    assert compiled.numba_version() == numba.__version__


def test_help_asks_for_no_numba():
    done = without_numba(
        "from vergence.command import cli\nassert cli.main(['--help']) == 0\nassert 'numba' not in sys.modules"
    )
    assert done.stderr == ""
