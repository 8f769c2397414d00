"""A run whose power is cut at any moment has its newest checkpoint, the log up to it, and can go on."""

import math
import shutil

import pytest

import power
import soak
from checker import check
from small_runs import VARIANTS, run_of
from vergence.engine.periods import Periods
from vergence.errors import InputError
from vergence.files import durable, series
from vergence.runs import find_finished, run_training

RUN = run_of(VARIANTS["simclr"], subset=28)
PERIODS = Periods(log_every=0, save_every=2)
"""A checkpoint comes before the first line of the log: the log's name must then be flushed for its own sake."""
STEPS = {0, 2, 3, 4, 6}
INSIDE = ("deep", "run")


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("power")]


class Recorded:
    """The log of a run from nothing to its end, and what each event promised."""

    def __init__(self, root):
        self.root, self.folder = root, root.joinpath(*INSIDE)
        self.recorder = power.Recorder(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "disk", self.recorder)
            patch.setattr(series, "add", self._marked(series.add, lambda checkpoints, step, files: ("saved", step)))
            real = durable.write_file
            patch.setattr(durable, "write_file", self._marked(real, lambda path, data: ("written", path.name, data)))
            run_training(RUN, self.folder, periods=PERIODS)
        self.lines = durable.read_lines(self.folder / "metrics.jsonl")

    def _marked(self, real, said):
        def marked(*arguments):
            kind, name, *more = said(*arguments)
            self.recorder.mark(f"not {kind}", name)
            result = real(*arguments)
            self.recorder.mark(kind, name, *more)
            return result

        return marked


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(tmp_path_factory.mktemp("recorded"))


class Broken(Exception):
    """A promise was."""


def judge(recorded, log, number, folder):
    """Compare what a cut after `number` events left in `folder` with what had been promised by then.

    Returns:
        The step of the newest checkpoint.
    """
    saved, coming, written = [0], None, {}
    for _, kind, name, *more in (event for event in log[:number] if event[0] == "mark"):
        if kind == "not saved":
            coming = name
        elif kind == "saved":
            saved, coming = [*saved, name], None
        elif kind == "not written":
            written.pop(name, None)
        else:
            (written[name],) = more
    try:
        newest, _, _ = series.newest(folder / "checkpoints")
        there = [durable.read_folder(path) for path in series.found(folder / "checkpoints")]
    except InputError as error:
        raise Broken(str(error)) from error
    step = int(newest.name.removeprefix("step-")) if newest else 0
    if step not in (saved[-1], coming):
        raise Broken(f"checkpoint {step} where {saved[-1]} was saved and {coming} begun")
    if len(there) < min(2, len(saved) - 1):
        raise Broken("the checkpoint before it was dropped")
    for name, data in written.items():
        if name != "metrics.jsonl" and (not (folder / name).exists() or (folder / name).read_bytes() != data):
            raise Broken(f"{name} is not what was written")
    lines = durable.read_lines(folder / "metrics.jsonl")
    kept = [line for line in lines if line["step"] <= step]
    if kept != [line for line in recorded.lines if line["step"] <= step]:
        raise Broken(f"the log up to step {step} is not whole")
    if find_finished(RUN, folder, resume=True) is not None and step != recorded.lines[-1]["step"]:
        raise Broken("finished without its last checkpoint")
    return step


def violation(recorded, log, since, tmp_path):
    """The first promise that a cut breaks; None where none does."""
    for seed in range(20):
        for number, state in power.states(log, 1, seed, since):
            shutil.rmtree(tmp_path / "state", ignore_errors=True)
            power.put(state, tmp_path / "state")
            try:
                judge(recorded, log, number, (tmp_path / "state").joinpath(*INSIDE))
            except (Broken, InputError) as broken:
                return str(broken)
    return None


def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new_checkpoint(recorded, tmp_path):
    """The states are many; a run is really resumed from each that is unlike the ones before it."""
    log = recorded.recorder.log
    moments = sum(event[0] not in ("folder", "file") for event in log)
    at_random = max(1, math.ceil(soak.times(200, 2000) / moments))
    resumed, done = set(), 0
    for number, state in power.states(log, at_random, seed=0):
        root = tmp_path / str(done)
        power.put(state, root)
        folder = root.joinpath(*INSIDE)
        step = judge(recorded, log, number, folder)
        soak.count("power-loss states")
        kind = (step, *((folder / name).exists() for name in ("run.json", "metrics.jsonl", "summary.json")))
        if kind not in resumed:
            resumed.add(kind)
            run_training(RUN, folder, resume=True, periods=PERIODS)
            check(folder, recorded.folder)
        shutil.rmtree(root)
        done += 1
    assert done >= soak.times(200, 2000)
    assert {step for step, *_ in resumed} == STEPS


def test_every_flush_is_needed(recorded, tmp_path):
    """Forgotten, each is found out; the test above finds nothing where none is forgotten."""
    log = recorded.recorder.log
    sites = power.sites(log)
    assert len(sites) >= 10, sites
    sites.remove("deep/run: metrics.jsonl")  # the log begins before the checkpoints' folder, flushed in the same place
    found = {site: violation(recorded, *power.without(log, site), tmp_path) for site in sites}
    assert [site for site, broken in found.items() if broken is None] == []
