"""Checkpoints that are not what they should be: damaged, of another run, of another version."""

import copy
import json
import shutil
import typing
import zipfile
from pathlib import Path

import pytest
import torch

import soak
from checker import check, tree
from golden_run import restored
from marks import slow
from repository import GOLDEN
from small_runs import VARIANTS, run_of
from vergence import __version__, methods
from vergence import config as c
from vergence.config import Run
from vergence.config.marks import Place
from vergence.config.schema import fields, from_dict, marked, members, plain, to_dict
from vergence.engine import checkpoint
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.errors import InputError
from vergence.files import durable, series
from vergence.files.run_folder import read_run
from vergence.runs import find_finished, load, run_training

RUN = run_of(VARIANTS["byol"], subset=28)
PERIODS = Periods(log_every=2, save_every=3)
FILES = ("method.safetensors", "optimizer.safetensors", "state.json", durable.MANIFEST)

# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with checkpoints after steps 3 and 6."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_training(RUN, folder, periods=PERIODS)
    return folder


@pytest.fixture
def torn(whole, tmp_path):
    """A copy of it that has no summary yet: it can go on."""
    folder = Path(shutil.copytree(whole, tmp_path / "torn"))
    (folder / "summary.json").unlink()
    return folder


def falls_back(folder):
    """The newest checkpoint is noticed to be damaged, the one before it taken, and this is said."""
    newest, _, warnings = series.newest(folder / "checkpoints")
    assert newest is not None
    assert newest.name == "step-000000003"
    (warning,) = warnings
    assert "step-000000006: damaged" in warning
    assert warning.endswith("trying the one before it")
    soak.count("malformed inputs")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_block_is_noticed(name, torn):
    path = torn / "checkpoints" / "step-000000006" / name
    blocks = range(0, path.stat().st_size, 4096)
    for begin in blocks[:: max(1, len(blocks) // soak.times(24, len(blocks)))]:
        whole = path.read_bytes()
        data = bytearray(whole)
        data[min(begin + begin // 4096 % 4096, len(data) - 1)] ^= 1 << begin // 4096 % 8
        path.write_bytes(data)
        falls_back(torn)
        path.write_bytes(whole)
    newest, _, warnings = series.newest(torn / "checkpoints")
    assert (newest.name, warnings) == ("step-000000006", [])


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_every_sixteenth_is_noticed(name, torn):
    path = torn / "checkpoints" / "step-000000006" / name
    whole = path.read_bytes()
    for sixteenths in range(16):
        path.write_bytes(whole[: len(whole) * sixteenths // 16])
        falls_back(torn)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(name, torn):
    (torn / "checkpoints" / "step-000000006" / name).unlink()
    falls_back(torn)


def test_a_file_too_many_is_noticed(torn):
    (torn / "checkpoints" / "step-000000006" / "extra").touch()
    falls_back(torn)


class Listener(Reporter):
    def start(self, total, done, per_epoch, lines, warnings):
        self.done, self.warnings = done, warnings


@pytest.mark.parametrize("name", [*map(slow, FILES[:-1]), FILES[-1]])
def test_a_run_goes_on_from_the_one_before_and_says_so(name, torn, whole):
    path = torn / "checkpoints" / "step-000000006" / name
    path.write_bytes(path.read_bytes()[:-1])
    heard = Listener()
    run_training(RUN, torn, resume=True, reporter=heard, periods=PERIODS)
    assert heard.done == 3
    (warning,) = heard.warnings
    assert "step-000000006: damaged" in warning
    check(torn, whole)


def test_a_checkpoint_that_is_named_has_none_before_it(torn):
    folder = torn / "checkpoints" / "step-000000006"
    (folder / "state.json").unlink()
    with pytest.raises(InputError, match="step-000000006: damaged"):
        checkpoint.load_method(folder, methods.build(RUN))


# --- of another run ---------------------------------------------------------------------------------------------------

EXAMPLES = {c.Folder: c.Folder(root="pictures"), c.WMSE: VARIANTS["w-mse"]}


def example(cls):
    return EXAMPLES.get(cls) or cls()


def slots(cls, config, path=()):
    """Where a configuration holds one of several classes, and the classes it does not hold."""
    for name, annotation in fields(cls).items():
        here = getattr(config, name)
        classes = members(annotation)
        if len(classes) > 1:
            yield (*path, name), [other for other in classes if other is not type(here)]
        if classes:
            yield from slots(type(here), here, (*path, name))


def leaves(cls, config, path=()):
    """Every value of a configuration: where it is, the class and field it is of, and others that may stand there."""
    for name, annotation in fields(cls).items():
        here = getattr(config, name)
        if members(annotation):
            yield from leaves(type(here), here, (*path, name))
        else:
            yield (*path, name), (cls, name), list(others(annotation, to_dict(here)))


def others(annotation, here):
    if isinstance(here, list):
        yield [value * 0.9 for value in here if isinstance(value, float)] or ["encoder"]
    elif isinstance(here, str):
        inner, _ = plain(annotation)
        yield from typing.get_args(inner) or [f"{here}d", "3,2,1", "1,2"]
    elif here is None:
        yield from (3, 50, 8, "mine")
    elif isinstance(here, bool):
        yield not here
    elif isinstance(here, int):
        yield from (here + 1, here - 1, here * 2)
    else:
        yield from (here * 0.9, here + 0.1)


def swapped(data, path, value):
    data = copy.deepcopy(data)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return data


def valid(data):
    try:
        return from_dict(Run, data)
    except InputError:
        return None


def every_kind(run):
    """Runs that between them hold every class a run may hold."""
    yield run
    for path, classes in slots(Run, run):
        for cls in classes:
            if (other := valid(swapped(to_dict(run, stored=False), path, to_dict(example(cls))))) is not None:
                yield other


def classes_below(cls):
    found = {cls}
    for annotation in fields(cls).values():
        for member in members(annotation):
            found |= classes_below(member)
    return found


@pytest.mark.slow
def test_a_checkpoint_of_any_other_configuration_is_refused(tmp_path):
    """Each key of each class is changed once, and each class for each other: all are refused, with the key named."""
    tested = set()

    def refused(run, path, value):
        other = valid(swapped(to_dict(run, stored=False), path, value))
        if other is None or to_dict(other, places=False) == to_dict(run, places=False):
            return False
        folder = tmp_path / run.key
        if not folder.exists():
            durable.write_json(folder / "run.json", {"run": to_dict(run)})
            durable.write_folder(folder / "checkpoints" / "step-000000001", {})
        before = tree(folder)
        with pytest.raises(InputError, match="holds another run; choose another --out") as caught:
            find_finished(other, folder, resume=True)
        _, _, said = str(caught.value).partition("It differs in: ")
        dotted = ".".join(path)
        assert said
        assert all(line.startswith(dotted) for line in said.split("; ")), said
        assert tree(folder) == before
        return True

    for base in (b for method in every_kind(RUN) for b in every_kind(method)):
        for path, classes in slots(Run, base):
            for cls in classes:
                if (path, cls) not in tested and refused(base, path, to_dict(example(cls))):
                    tested.add((path, cls))
        for path, key, values in leaves(Run, base):
            if key not in tested and any(refused(base, path, value) for value in values):
                tested.add(key)
    keys = {(cls, name) for cls in classes_below(Run) for name, a in fields(cls).items() if not members(a)}
    alone = {(c.Frozen, "batch_norm")}  # has but one value
    places = {(cls, name) for cls, name in keys if marked(cls, name, Place)}
    assert keys - tested == alone | places
    assert places == {(c.Folder, "root"), (c.Folder, "more"), (c.Folder, "outside"), (c.Encoder, "weights")}
    assert len(tested) > 100


# --- of another version -----------------------------------------------------------------------------------------------


def unpacked(path, folder):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.zip")), ids=lambda path: path.stem)
def test_a_run_of_every_version_so_far_loads(path, tmp_path):
    folder = unpacked(path, tmp_path / "run")
    known = json.loads(path.with_suffix(".json").read_text())
    assert restored(folder) == known
    before = tree(folder)
    _, method, step = load(folder)
    assert step == known["step"]
    assert method.encoder(torch.zeros(1, 3, 16, 16)).isfinite().all()
    assert find_finished(read_run(folder / "run.json"), folder, resume=True)["key"]
    assert tree(folder) == before


def test_this_version_has_a_golden_run():
    assert (GOLDEN / f"run-{__version__}.zip").exists()


def test_a_checkpoint_of_a_newer_version_is_refused_in_one_line(tmp_path):
    folder = unpacked(GOLDEN / f"run-{__version__}.zip", tmp_path / "run")
    (newest,) = series.found(folder / "checkpoints")
    files = durable.read_folder(newest)
    state = json.loads(files["state.json"]) | {"format": 7, "version": "3.1.4"}
    durable.remove_folder(newest)
    durable.write_folder(newest, files | {"state.json": json.dumps(state).encode()})
    with pytest.raises(InputError) as caught:
        restored(folder)
    (line,) = str(caught.value).splitlines()
    assert "written by a newer version of vergence, 3.1.4 (format 7, known here: 1); upgrade" in line
