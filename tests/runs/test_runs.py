"""A run's folder: who it belongs to, what stands in it, and who may go on there."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pages import lines as logged
from small_runs import SHORT as RUN
from small_runs import pictures
from vergence import config as c
from vergence import runs
from vergence.data.images import unscored
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.where import Where
from vergence.errors import InputError, MachineError, Stopped
from vergence.files.run_folder import no_run, read_json
from vergence.machine.processes import Group
from vergence.machine.randomness import generator
from vergence.metrics.table import TIMING
from vergence.metrics.verdict import Judge
from vergence.runs import execute, find_finished, run_training
from vergence.runs.pictures import kept_in, note, subset
from vergence.runs.training import Training


def read(path):
    return json.loads(path.read_text())


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


class Heard(Reporter):
    def __init__(self):
        self.said, self.stopped = [], 0

    def say(self, text):
        self.said.append(text)

    def stop(self):
        self.stopped += 1


def no_training(*_, **__):
    raise AssertionError("trained again")


# --- who goes on ------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_its_summary_and_nothing_is_touched(folder, monkeypatch):
    monkeypatch.setattr(execute, "train", no_training)
    before = times(folder)
    assert run_training(RUN, folder) == read(folder / "summary.json")
    assert times(folder) == before


def test_a_run_that_another_process_finished_meanwhile_is_its_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "train", no_training)
    found = iter([None, {"key": "of the other process"}])  # before the lock is taken, and with it
    monkeypatch.setattr(execute, "find_finished", lambda *_: next(found))
    assert run_training(RUN, tmp_path / "run") == {"key": "of the other process"}


def test_a_process_that_does_not_write_leaves_nothing(tmp_path, monkeypatch):
    class Second(Group):
        rank, size = 1, 2

        def broadcast_object(self, function):
            return "of the first" if trained else None

    trained, heard = [], Heard()

    def train(run, images, folder, **given):
        trained.append(given)
        return SimpleNamespace(encoder=None)

    monkeypatch.setattr(execute, "train", train)
    monkeypatch.setattr(execute, "evaluate", lambda *_, **__: {})
    assert run_training(RUN, tmp_path / "run", where=Where(group=Second()), reporter=heard) == "of the first"
    assert trained[0]["reporter"] is not heard  # one process shows
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("reason", "said"), [(None, []), ("there are no labels", ["not scored: there are no labels"])])
def test_what_cannot_be_scored_is_said_once_after_training(folder, monkeypatch, reason, said):
    (folder / "summary.json").unlink()
    heard = Heard()
    monkeypatch.setattr(execute, "unscored", lambda *_: reason)
    monkeypatch.setattr(execute, "evaluate", lambda *_, **__: {})
    run_training(RUN, folder, resume=True, reporter=heard)
    assert [line for line in heard.said if "scored" in line] == said
    assert heard.stopped == 1


def test_what_others_left_is_swept_and_an_old_divergence_forgotten(folder):
    (folder / "summary.json").unlink()
    (folder / ".writing-1-summary.json").touch()
    (folder / "diverged.json").touch()
    run_training(RUN, folder, resume=True, periods=Periods(log_every=1))
    names = {path.name for path in folder.iterdir()}
    assert names == {".lock", "run.json", "metrics.jsonl", "checkpoints", "summary.json"}


def test_what_is_there_is_recognised(folder):
    summary = read(folder / "summary.json")
    assert find_finished(RUN, folder, False) == summary
    other = replace(RUN, seed=5)
    with pytest.raises(InputError, match=r"holds another run; choose another --out. It differs in: seed: 0 -> 5$"):
        find_finished(other, folder, True)
    (folder / "summary.json").unlink()
    assert find_finished(RUN, folder, True) is None
    with pytest.raises(InputError, match="this run is there, unfinished; add --resume to go on"):
        find_finished(RUN, folder, False)
    with pytest.raises(InputError, match="holds another run"):
        find_finished(other, folder, True)


def test_without_checkpoints_anything_may_begin(folder):
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints")
    assert find_finished(replace(RUN, seed=5), folder, False) is None


def test_checkpoints_of_nobody_are_not_gone_on_from(folder):
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"has checkpoints but no run.json; choose another --out"):
        find_finished(RUN, folder, True)
    shutil.rmtree(folder / "checkpoints")
    for name in ("metrics.jsonl", "summary.json"):
        with pytest.raises(InputError, match=rf"has a {name} but no run.json; choose another --out"):
            find_finished(RUN, folder, True)
        (folder / name).unlink()
    (folder / "notes.txt").touch()  # is nothing that a run would write
    assert find_finished(RUN, folder, True) is None


def begin(folder, images, processes=1, device="cpu"):
    heard = Heard()
    run = replace(RUN, subset=None)
    execute._begin(run, folder, images, images, torch.device(device), heard, processes)
    return heard.said


def test_what_a_run_began_with_is_written_once_and_then_compared(tmp_path):
    images = pictures()
    assert begin(tmp_path, images, 2) == []
    written = read(tmp_path / "run.json")
    assert written["environment"]["processes"] == 2
    assert (written["key"], written["format"]) == (replace(RUN, subset=None).key, 1)
    assert (written["data"], written["pictures"]) == (images.digest(), 28)
    assert begin(tmp_path, images) == []  # nothing was trained yet: it is written anew
    assert "processes" not in read(tmp_path / "run.json")["environment"]

    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    before = (tmp_path / "run.json").read_bytes()
    assert begin(tmp_path, images) == []
    with pytest.raises(InputError, match="holds this run on other pictures: as many, 28, but not the same; choose"):
        begin(tmp_path, pictures(seed=1))
    with pytest.raises(InputError, match="holds this run on other pictures: 27, not 28; choose another --out"):
        begin(tmp_path, pictures(27))
    assert begin(tmp_path, images, 2) == [
        "warning: processes was 1, is 2: the result may differ in its last bits",
    ]
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["threads", "torch", "numba", "device_name"])
def test_another_environment_is_said(tmp_path, name):
    begin(tmp_path, pictures())
    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    path = tmp_path / "run.json"
    there = read(path)
    here, there["environment"][name] = there["environment"][name], "other"
    path.write_text(json.dumps(there))
    (said,) = begin(tmp_path, pictures())
    assert said == f"warning: {name} was other, is {here}: the result may differ in its last bits"


def test_another_file_of_a_plugin_is_said(tmp_path, monkeypatch):
    plugin = {"name": "mine", "sha256": "1", "parts": ["method mine"]}
    monkeypatch.setattr(execute.plugins, "of_run", lambda run: [plugin])
    begin(tmp_path, pictures())
    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    assert begin(tmp_path, pictures()) == []
    monkeypatch.setattr(execute.plugins, "of_run", lambda run: [plugin | {"sha256": "2"}])
    (said,) = begin(tmp_path, pictures())
    assert said == "warning: the plugin mine is another file than the run began with: the result may differ"


def test_a_run_that_is_not_on_a_cpu_has_none_of_its_convolutions(tmp_path):
    begin(tmp_path, pictures(), device="meta")
    assert "convolutions" not in read(tmp_path / "run.json")["environment"]


def test_a_run_begun_with_other_convolutions_is_said(tmp_path):
    """Runs of before they were counted have the first."""
    begin(tmp_path, pictures())
    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    path = tmp_path / "run.json"
    there = read(path)
    del there["environment"]["convolutions"]
    path.write_text(json.dumps(there))
    (said,) = begin(tmp_path, pictures())
    assert said == "warning: convolutions was 1, is 2: the result may differ in its last bits"


# --- what it comes to -------------------------------------------------------------------------------------------------


def line(epoch, loss, speed=100.0):
    numbers = dict.fromkeys(("pos_cos", "neg_cos", "z_std", "effective_rank", "alignment", "uniformity"), 0.5)
    times = {"seconds": 1.26, "images_per_second": speed}
    return {"step": int(epoch * 10), "epoch": epoch, "loss": loss, **numbers, **times, "layers": {}, "terms": {}}


def summary_of(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scores = {"knn": {"accuracy": 50.0}}
    return execute._summary(RUN, folder, scores, torch.device("cpu"))


def test_a_summary_says_what_the_last_epoch_was_like(tmp_path):
    lines = [line(0.5, 9.0, 5.0), line(1.0, 7.0, 1.0), line(1.5, 4.0, 400.0), line(2.0, 3.0, 300.0)]
    summary = summary_of(tmp_path, lines)
    assert summary["encoder"] == "of the last checkpoint"
    assert (summary["knn"], summary["linear"], summary["logistic"]) == ({"accuracy": 50.0}, None, None)
    assert summary["final"] == {k: v for k, v in lines[-1].items() if k not in (*TIMING, "layers")}
    assert summary["last_epoch"]["loss"] == 3.5  # of the lines past epoch 1
    assert summary["last_epoch"]["lines"] == 2
    assert summary["last_epoch"].keys().isdisjoint({"epoch", *TIMING, "layers"})
    assert summary["images_per_second"] == 300.0  # the upper median
    assert summary["seconds"] == 5.0
    assert summary["verdict"]["state"]


def test_a_run_of_no_steps_is_untrained(tmp_path):
    summary = summary_of(tmp_path, [])
    assert summary["encoder"] == "untrained"
    assert "verdict" not in summary
    assert summary["key"] == RUN.key


@pytest.mark.parametrize(
    ("error", "device", "peak"),
    [
        (MemoryError(), "cpu", "2.0 GB"),
        (torch.OutOfMemoryError("CUDA out of memory"), "cuda", "3.5 GB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "cpu", "2.0 GB"),
    ],
)
def test_memory_that_is_not_enough_is_explained(tmp_path, monkeypatch, error, device, peak):
    monkeypatch.setattr(execute.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=2e9 / 1024))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3.5e9)
    with pytest.raises(MachineError) as caught, execute._memory(RUN, tmp_path, torch.device(device)):
        raise error
    assert str(caught.value) == (
        f"{tmp_path}: out of memory, {peak} in use at most, with batches of 8 at 16 px; try a smaller one, such as "
        "--batch-size 4, in another --out, or --resume where there is more memory: what was saved stands"
    )


def test_the_smallest_batch_that_is_offered_is_two(tmp_path):
    run = replace(RUN, batch_size=3)
    with pytest.raises(MachineError, match="--batch-size 2,"), execute._memory(run, tmp_path, torch.device("cpu")):
        raise MemoryError


def test_another_error_is_not_one_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match=r"^shapes$"), execute._memory(RUN, tmp_path, torch.device("cpu")):
        raise RuntimeError("shapes")


def test_a_summary_is_of_the_end_of_the_log_and_of_all_its_time(tmp_path):
    log = logged(collapsed=True)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line | {"seconds": 1.26}) + "\n" for line in log))
    summary = execute._summary(RUN, tmp_path, {}, torch.device("cpu"))
    judge = Judge(min(RUN.batch_size, RUN.method.projector.out))
    verdicts = [judge.hear(line) for line in log]
    assert verdicts[0].state != verdicts[-1].state == "complete collapse"
    assert summary["verdict"] == verdicts[-1]._asdict()
    assert summary["final"]["step"] == log[-1]["step"]
    assert summary["seconds"] == round(1.26 * len(log), 1) == 50.4


# --- which pictures ---------------------------------------------------------------------------------------------------


def test_a_subset_is_the_same_every_time_and_never_more_than_there_is():
    images = pictures(12)
    for count in (None, 12):
        assert subset(images, count) is images
    five = subset(images, 5)
    assert len(five) == 5
    assert torch.equal(five.pixels, subset(images, 5).pixels)
    assert torch.equal(five.pixels, subset(images, 6).pixels[:5])
    order = torch.randperm(12, generator=generator(0, "subset"))
    assert torch.equal(five.pixels, images.pixels[order[:5]])  # whatever the run's seed
    with pytest.raises(InputError, match="--subset: 13 is more than the 12 pictures there are"):
        subset(images, 13)


def test_why_pictures_cannot_be_scored():
    images = pictures(8)
    unlabelled = replace(images, labels=None)
    assert unscored(images, images) is None
    assert unscored(images, images.take(torch.arange(2))) is None
    assert unscored(unlabelled, images) == unscored(images, unlabelled) == "these pictures have no labels"
    assert unscored(images, replace(images, classes=("a",))) == "all pictures are of one class, a"
    assert unscored(images, images.take(torch.arange(1))) == "there is only one test picture"
    pairs = replace(unlabelled, facts={"classes": 4})
    assert unscored(pairs, unlabelled) == "no class has three pictures, of which one could be held out"


def test_a_folder_that_is_no_run_is_not_taken_for_one(tmp_path):
    run = replace(RUN, data=c.Folder(root="pets", size=16))
    named = tmp_path / f"{run.method.kind}-pets-{run.key}"
    named.mkdir()
    (named / "run.json").write_text("[]")
    assert kept_in(run, tmp_path, None) == tmp_path / run.name


def test_a_listing_too_long_to_be_read_is_not_written(tmp_path, monkeypatch):
    images = replace(pictures(3), names=("a", "b", "c"))
    run = replace(RUN, data=c.Folder(root="pets", size=16))
    note(run, tmp_path, images)
    assert (tmp_path / "pictures.json").exists()
    (tmp_path / "pictures.json").unlink()
    monkeypatch.setattr("vergence.runs.pictures.MOST", 10)
    note(run, tmp_path, images)
    assert not (tmp_path / "pictures.json").exists()


# --- a job of a grid --------------------------------------------------------------------------------------------------


def test_a_training_is_a_job(whole, tmp_path, monkeypatch):
    job = Training(
        name="a",
        run=RUN,
        data_dir=tmp_path,
        periods=Periods(log_every=3, online=("knn",), online_every=2, trace_every=5),
    )
    assert job.folder == RUN.name
    assert job.work == 1
    assert replace(job, run=replace(RUN, epochs=7)).work == 7
    assert replace(job, run=replace(RUN, epochs=0)).work == 1
    assert job.finished(whole)
    assert not job.finished(tmp_path)
    assert job.read(whole).summary == read(whole / "summary.json")
    given, view = {}, Reporter()
    monkeypatch.setattr(
        runs, "run_training", lambda run, folder, **options: given.update(options, run=run, folder=folder)
    )
    job.execute(tmp_path, view)
    assert given == {
        "run": RUN,
        "folder": tmp_path,
        "where": Where(data_dir=tmp_path, device="cpu"),
        "periods": job.periods,
        "resume": True,
        "reporter": view,
    }


def test_a_summary_of_another_run_does_not_finish_a_job(folder):
    with pytest.raises(InputError, match="of another run"):
        Training(name="a", run=replace(RUN, seed=1)).finished(folder)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_folder_without_a_run_says_where_runs_are(tmp_path):
    assert str(no_run(tmp_path)).endswith(
        "no run there (no run.json); give the folder that training named, or its --out"
    )
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    assert str(no_run(tmp_path)) == (f"{tmp_path}: no run there (no run.json), but 2 in it, such as {tmp_path / 'a'}")


def test_a_folder_that_cannot_be_searched_holds_no_run(tmp_path, monkeypatch):
    def refused(self, pattern):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "glob", refused)
    assert "give the folder that training named" in str(no_run(tmp_path))


def test_a_file_may_have_as_many_bytes_as_it_may_have(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": 1}')
    assert read_json(path, most=8) == {"a": 1}
    with pytest.raises(InputError, match="has more than 7 bytes"):
        read_json(path, most=7)


def test_what_is_no_file_is_not_left_open(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InputError):
            read_json(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_is_the_exit_code():
    stopped = Stopped("saved", 15)
    assert (str(stopped), stopped.exit_code) == ("saved", 143)
