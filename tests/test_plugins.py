"""What a user adds from outside the package: from one file, from an installed package, from a script."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from repository import ROOT
from vergence import config as c
from vergence import plugins, register
from vergence.errors import InputError

EXAMPLE = ROOT / "examples" / "plugin.py"
SMALL = ["--encoder", "example-net", "--data", "digits", "--subset", "128", "--epochs", "2"]
SMALL += ["--device", "cpu", "--threads", "1"]


def vergence(*words, where=None, **environment):
    """Call the command in a process of its own: what a plugin registers stays in it."""
    command = [sys.executable, "-m", "vergence", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=where, env=os.environ | {"PYTHONPATH": ""} | environment
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a copy of the example and a run of it, trained outside of any checkout."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copy(EXAMPLE, folder / "mine.py")
    done = vergence("--plugin", "mine.py", "train", "example-vicreg", *SMALL, "--out", "run", where=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 70


@pytest.mark.slow
def test_a_run_of_a_plugin_is_trained_judged_and_evaluated(trained):
    folder, said = trained
    assert "encoder   example-net (registered)" in said
    record = json.loads((folder / "run" / "run.json").read_text())
    (plugin,) = record["plugins"]
    assert plugin["name"] == "mine"
    assert len(plugin["sha256"]) == 64
    assert plugin["parts"] == ["method example-vicreg", "backbone example-net", "metric example_hub"]
    assert str(folder) not in json.dumps(record)
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["verdict"]["state"]
    assert summary["knn"]["baselines"]["untrained"]
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["terms"].keys() == {"invariance", "variance", "covariance"}
    again = vergence("train", "example-vicreg", *SMALL, "--out", "run", "--plugin=mine.py", "--resume", where=folder)
    assert "run: this run is there, finished" in again.stdout
    scored = vergence("--plugin", "mine.py", "evaluate", "run", "--probes", "knn", where=folder)
    assert f"{summary['knn']['accuracy']:.1f}%" in scored.stdout
    reported = vergence("report", "run", where=folder, VERGENCE_PLUGINS="mine.py")
    assert reported.returncode == 0
    assert "example-vicreg" in (folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["evaluate run", "report run", "train --config run/run.json --out other"])
def test_without_the_plugin_one_line_says_which(trained, words):
    folder, _ = trained
    done = vergence(*words.split(), where=folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "its method example-vicreg came with the plugin mine, which is not loaded" in line
    assert "--plugin FILE.py" in line


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_says_that_the_file_changed(trained, tmp_path):
    folder, _ = trained
    shutil.copy(folder / "mine.py", tmp_path / "mine.py")
    half = [*SMALL, "--epochs", "1", "--schedule-epochs", "2", "--out", "half"]
    assert vergence("--plugin", "mine.py", "train", "example-vicreg", *half, where=tmp_path).returncode == 0
    (tmp_path / "half" / "summary.json").unlink()
    with (tmp_path / "mine.py").open("a") as file:
        file.write("# another line\n")
    done = vergence("--plugin", "mine.py", "train", "example-vicreg", *half, "--resume", where=tmp_path)
    assert done.returncode == 0
    assert "the plugin mine is another file than the run began with" in done.stdout + done.stderr


@pytest.mark.slow
def test_help_and_suggestions_know_the_parts(trained):
    folder, _ = trained
    helped = vergence("--plugin", "mine.py", "train", "--help", where=folder).stdout
    assert "example-vicreg: Bring the two views together" in helped
    assert "--variance  weight of the hinge" in helped
    meant = vergence("--plugin", "mine.py", "train", "example-vicre", where=folder).stderr
    assert "did you mean 'example-vicreg'?" in meant
    meant = vergence("--plugin", "mine.py", "train", "byol", "--encoder", "example-ne", where=folder).stderr
    assert "did you mean 'example-net'?" in meant


STUDY = """
from vergence import config as c, presets
from vergence.config.schema import from_dict
from vergence.study import Scale, Study, accuracy
from dataclasses import replace
method, _ = presets.method_named("example-vicreg")
run = replace(presets.default(method, c.Digits()), encoder=c.Encoder(name="example-net"), subset=128)
study = Study(title="Own", lead=("Own.",), scales={"smoke": Scale(about="s", epochs=1)}, rows={"own": run})
study.table("scores", "Scores", accuracy("knn"))
"""


@pytest.mark.slow
def test_a_study_trains_it_in_other_processes(trained):
    folder, _ = trained
    (folder / "mystudy.py").write_text(STUDY)
    done = vergence("--plugin", "mine.py", "reproduce", "mystudy.py", "--no-views", where=folder)
    assert done.returncode == 0, done.stderr
    assert "own" in (folder / "runs" / "mystudy-smoke" / "results.md").read_text()


@pytest.mark.unshaped
@pytest.mark.slow
def test_two_processes_train_it(trained):
    folder, _ = trained
    words = ["--plugin", "mine.py", "train", "example-vicreg", *SMALL, "--out", "two"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vergence"]
    done = subprocess.run(
        [*launch, *words], capture_output=True, text=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((folder / "two" / "run.json").read_text())["environment"]["processes"] == 2


# --- transforms of crops ----------------------------------------------------------------------------------------------


def snippet(page, language, after):
    """The first block of a language that follows a heading on a page of the documentation."""
    text = (ROOT / "docs" / page).read_text()
    return text[text.index(f"\n{after}\n") :].split(f"```{language}\n", 1)[1].split("```", 1)[0]


ON_DIGITS = ["--data", "digits", "--subset", "128", "--epochs", "2", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """A folder with the example of docs/extending.md and a run that passes its first views through it."""
    folder = tmp_path_factory.mktemp("transform")
    (folder / "mine.py").write_text(snippet("extending.md", "python", "## A transform of crops"))
    words = ["--views.first.transform", "trivial", *ON_DIGITS]
    done = vergence("--plugin", "mine.py", "train", "byol", *words, "--out", "run", where=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_transform_of_the_documentation_trains_a_run_that_says_so(transformed):
    record = json.loads((transformed / "run" / "run.json").read_text())
    (plugin,) = record["plugins"]
    assert (plugin["name"], plugin["parts"]) == ("mine", ["transform trivial"])
    assert len(plugin["sha256"]) == 64
    first = json.loads((transformed / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert vergence("train", "byol", *ON_DIGITS, "--out", "plain", where=transformed).returncode == 0
    plain = json.loads((transformed / "plain" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] != plain["loss"]
    assert "plugins" not in json.loads((transformed / "plain" / "run.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("words", ["evaluate run", "train --config run/run.json --out other"])
def test_without_its_plugin_one_line_says_which_transform_is_missing(transformed, words):
    done = vergence(*words.split(), where=transformed)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "its transform trivial came with the plugin mine, which is not loaded" in line


@pytest.mark.slow
def test_a_transform_that_is_unknown_is_named_before_a_picture_is_read(transformed):
    words = ["train", "byol", *ON_DIGITS, "--out", "never", "--views.second.transform"]
    for plugin, name, advice in (
        (["--plugin", "mine.py"], "trivia", "did you mean 'trivial'?"),
        ([], "trivial", "load its plugin with --plugin FILE.py"),
    ):
        done = vergence(*plugin, *words, name, where=transformed)
        assert done.returncode == 2
        assert done.stderr == f"error: --views: unknown transform '{name}'; {advice}\n"
        assert not (transformed / "never").exists()


@pytest.mark.slow
def test_a_transform_that_fails_ends_the_run_in_one_line(transformed):
    (transformed / "bad.py").write_text(
        "from vergence import register\n@register.transform('bad')\ndef bad(crop):\n    return crop / 255\n"
    )
    words = ["--views.first.transform", "bad", *ON_DIGITS, "--out", "bad"]
    done = vergence("--plugin", "bad.py", "train", "byol", *words, where=transformed)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the transform bad of the plugin bad: gives float32 [3 32 32] for uint8 [3 32 32]")


# --- files that cannot be loaded --------------------------------------------------------------------------------------

BROKEN = {
    "an error": ("x = 1\n1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
    "not Python": ("x = = 1\n", "line 1: SyntaxError: invalid syntax"),
    "it leaves": ("raise SystemExit(0)\n", "line 1: SystemExit: 0"),
    "no kind": (
        "from vergence import config\n@config.configuration\nclass Mine(config.Method):\n    'Mine.'\n",
        "Mine: needs a kind, as in kind: ClassVar[str] = 'my-mine'",
    ),
    "a kind that is taken": (
        "from vergence import config\nclass Mine(config.Method):\n    'Mine.'\n    kind = 'byol'\n",
        "Mine: another configuration, BYOL, is of the kind 'byol'",
    ),
    "a method registered twice": (
        "from vergence import config, methods, register\n@register.method(config.BYOL)\nclass Mine: ...\n",
        "BYOL: registered already, by vergence.methods.byol",
    ),
    "a name with a space": (
        "from vergence import register\n@register.backbone('my net')\ndef net(size): ...\n",
        "'my net': a name has letters, digits, - and _ only",
    ),
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path, which):
    text, said = BROKEN[which]
    path = tmp_path / f"{which.replace(' ', '_')}.py"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        plugins.load(path)
    assert str(caught.value).startswith(f"--plugin: {path}, ")
    assert said in str(caught.value)
    assert plugins.environment() == {}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*absent\.py; give a Python file"):
        plugins.load(tmp_path / "absent.py")
    (tmp_path / "text.txt").write_text("x = 1")
    with pytest.raises(InputError, match=r"is no Python file; its name must end in \.py"):
        plugins.load(tmp_path / "text.txt")


def test_a_file_is_loaded_once_and_its_name_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_files", [])
    one, other = tmp_path / "once.py", tmp_path / "other" / "once.py"
    other.parent.mkdir()
    one.write_text("import sys\nsys.counted_by_a_plugin = getattr(sys, 'counted_by_a_plugin', 0) + 1\n")
    other.write_text("")
    try:
        plugins.load(one)
        plugins.load(one)
        assert sys.counted_by_a_plugin == 1
        assert plugins.environment() == {plugins.VARIABLE: str(one)}
        with pytest.raises(InputError, match=r"a file of this name is loaded already, .*once\.py; rename one"):
            plugins.load(other)
    finally:
        del sys.counted_by_a_plugin, sys.modules["vergence_plugin_once"]


@pytest.mark.slow
def test_an_installed_package_is_loaded_by_its_entry_point(tmp_path):
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text())
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vergence.plugins]\nmine = mine\n")
    done = vergence("train", "example-vicre", where=tmp_path, PYTHONPATH=str(tmp_path))
    assert "did you mean 'example-vicreg'?" in done.stderr
    (tmp_path / "mine.py").write_text("1 / 0")
    done = vergence("train", "byol", where=tmp_path, PYTHONPATH=str(tmp_path))
    (line,) = done.stderr.splitlines()
    assert "the installed plugin mine (mine) cannot be loaded: ZeroDivisionError: division by zero" in line


# --- what a run says of it --------------------------------------------------------------------------------------------


def test_a_run_of_the_library_alone_names_no_plugin():
    assert plugins.of_run(c.Run(method=c.BYOL())) == []


def test_what_a_file_needs_is_required_and_what_is_no_list_of_ours_is_not():
    plugins.require(None, "run.json")
    plugins.require([{"name": "mine", "parts": ["method byol"]}, 3, {"parts": 4}], "run.json")
    for part in ("method mine", "backbone mine", "data set mine"):
        with pytest.raises(InputError, match=f"run.json: its {part} came with the plugin own, which is not loaded"):
            plugins.require([{"name": "own", "parts": [part]}], "run.json")


def test_what_a_file_calls_its_plugin_is_shown_as_text():
    with pytest.raises(InputError) as caught:
        plugins.require([{"name": "\x1b[31m\n", "parts": ["method \x07"]}], "run.json")
    assert str(caught.value).isprintable()


def test_another_file_under_the_same_name_is_noticed():
    now = [{"name": "mine", "sha256": "b"}, {"name": "new", "sha256": "c"}]
    assert plugins.changed([{"name": "mine", "sha256": "a"}], now) == ["mine"]
    assert plugins.changed([{"name": "mine", "sha256": "b"}], now) == []
    assert plugins.changed(None, now) == []


def test_what_is_registered_can_be_listed():
    from vergence import data, methods  # noqa: F401, they register what the library has

    listed = register.parts()
    assert {"method byol", "method raft", "data set digits", "data set folder"} <= listed.keys()


# --- data sets and trackers -------------------------------------------------------------------------------------------

RINGS = '''
import json
from typing import Annotated, ClassVar
import torch
from vergence import config, register
from vergence.config import AtLeast, configuration
from vergence.data import Images
from vergence.engine.reporter import Reporter

@configuration
class Rings(config.Data):
    """Noisy rings of three radii."""

    kind: ClassVar[str] = "rings"
    size: Annotated[int, AtLeast(8), "side in pixels"] = 16

@register.data(Rings)
def load(settings, split, *, data_dir=None, cache_dir=None):
    draw, side = torch.Generator().manual_seed(int(split == "test")), settings.size
    labels = torch.arange(60 if split == "test" else 240) % 3
    at = torch.linspace(-1, 1, side)
    rings = ((at[:, None] ** 2 + at**2).sqrt() - (labels[:, None, None] + 1) / 4).abs() < 0.15
    pixels = (rings * 180 + torch.rand(len(labels), side, side, generator=draw) * 60).to(torch.uint8)
    return Images(pixels[:, None].repeat(1, 3, 1, 1), labels, ("small", "middle", "large"), side)

@configuration
class Bare(config.Data):
    """Settings that nothing reads."""

    kind: ClassVar[str] = "bare"
    size: int = 16

@register.tracker("file")
class File(Reporter):
    """Writes each line's loss into a file of its own."""

    def __init__(self, run, folder):
        self.path, self.kept = folder.with_suffix(".tracked"), {"epochs": run.epochs, "losses": [], "stopped": False}

    def line(self, line, verdict):
        self.kept["losses"].append(line["loss"])

    def stop(self):
        self.path.write_text(json.dumps(self.kept | {"stopped": True}))
'''
FEW = ["--encoder", "test_resnet", "--epochs", "2", "--batch-size", "32", "--device", "cpu", "--threads", "1"]


@pytest.mark.slow
def test_a_data_set_is_trained_on_and_a_tracker_is_told(tmp_path):
    (tmp_path / "mine.py").write_text(RINGS)
    words = ["--plugin", "mine.py", "train", "byol", "--data", "rings", *FEW, "--track", "file", "--out", "run"]
    done = vergence(*words, where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3, of 80 training pictures: small, middle, large" in done.stdout
    (plugin,) = json.loads((tmp_path / "run" / "run.json").read_text())["plugins"]
    assert plugin["parts"] == ["data set rings"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = json.loads((tmp_path / "run.tracked").read_text())
    assert told == {"epochs": 2, "losses": [line["loss"] for line in lines], "stopped": True}
    scored = vergence("--plugin", "mine.py", "evaluate", "run", "--probes", "knn", where=tmp_path)
    assert "60 test pictures" in scored.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train byol --data ring", "did you mean 'rings'?"),
        ("train byol --data digits --track fil", "--track: unknown tracker 'fil'; did you mean 'file'?"),
        ("train byol --data bare", "data set bare: has settings, but no function with @register.data beside them"),
    ],
)
def test_a_part_that_is_not_there_is_one_line(tmp_path, words, said):
    (tmp_path / "mine.py").write_text(RINGS)
    done = vergence("--plugin", "mine.py", *words.split(), where=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
