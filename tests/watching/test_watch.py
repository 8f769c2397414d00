"""`vergence.Watch`: the numbers and verdicts of a run in a loop that is not ours, of which it changes no bit."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import vergence
from repository import SUPPORT  # noqa: F401, where the other imports are
from small_runs import VARIANTS, pictures, run_of
from vergence import losses, methods
from vergence.command import cli
from vergence.engine.batches import batch_of
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.step import Setup, stepping
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files.run_folder import read_log
from vergence.machine.processes import SINGLE_PROCESS
from vergence.metrics import table
from vergence.metrics.table import TIMING
from vergence.optim import build_optimizer
from vergence.report.page import render, runs_page
from vergence.watching import watch as watching

Z = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(1))


def timeless(lines, *others):
    return [{name: value for name, value in line.items() if name not in (*TIMING, *others)} for line in lines]


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- a loop of ours, watched ------------------------------------------------------------------------------------------


def own_loop(run, images, watch=None):
    """The steps that `train` does, without its log."""
    per_epoch = len(images) // run.batch_size
    method = methods.build(run).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(run.optimizer, method)
    setup = Setup(run, method, optimizer, images, torch.device("cpu"), per_epoch)
    with stepping(setup, Where().compile, SINGLE_PROCESS) as step_once:
        for step in range(1, run.epochs * per_epoch + 1):
            outputs = step_once(step, batch_of(run, len(images), step), with_layer_stats=False).outputs
            if watch is not None:
                embeddings = {name: getattr(outputs, name) for name in ("z", "y", "p", "z_target")}
                watch(step, **embeddings, loss=outputs.loss)
    return method


@pytest.mark.parametrize("name", ["byol", "simclr", "moco", "raft", "byol, independent, running, before"])
def test_a_watched_loop_has_the_log_of_a_run(name, tmp_path):
    run, images = run_of(VARIANTS[name], epochs=3), pictures()
    (tmp_path / "run").mkdir()
    trained = train(run, images, tmp_path / "run", periods=Periods(log_every=1), reporter=Reporter())
    with vergence.Watch(tmp_path / "watched", every=1, steps_per_epoch=3, say=None) as watch:
        watched = own_loop(run, images, watch)
    ours, theirs = (read_log(tmp_path / folder / "metrics.jsonl") for folder in ("watched", "run"))
    assert len(ours) == 9
    assert timeless(ours, "layers", "terms") == timeless(theirs, "layers", "terms")
    assert ours == watch.lines
    assert list(ours[0]) == list(theirs[0])
    assert same(weights(watched), weights(trained))


def test_a_loop_of_our_own_has_the_same_bits_unwatched():
    run, images = run_of(VARIANTS["byol"], epochs=2), pictures()
    watch = vergence.Watch(every=1, say=None)
    assert same(weights(own_loop(run, images, watch)), weights(own_loop(run, images)))
    assert len(watch.lines) == 6


# --- a loop of somebody else's ----------------------------------------------------------------------------------------


def plain_loop(watch=None, steps=60, collapses=False, dtype=None, seed=0):
    """An encoder with dropout and batch norm on random vectors; without negatives it collapses."""
    torch.manual_seed(seed)
    pool = torch.rand(256, 24)
    encoder = nn.Sequential(nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16))
    projector = nn.Linear(16, 8)
    net = nn.ModuleDict({"encoder": encoder, "projector": projector})
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(1, steps + 1):
        batch = pool[torch.randint(len(pool), (64,))]
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            y = [encoder(batch + 0.05 * torch.randn_like(batch)) for _ in range(2)]
            z = [projector(one) for one in y]
            loss = losses.alignment(*z) if collapses else losses.nt_xent(*z, 0.5)
            if watch is not None:
                watch(step, z=z, y=tuple(y), loss=loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights(net) | {"random numbers": torch.get_rng_state()}


@pytest.mark.parametrize("how", [{"every": 1}, {"every": 7}, {"share": 1.0}, {"share": 0.01}])
def test_watching_changes_no_bit(how, tmp_path):
    watch = vergence.Watch(tmp_path / "run", **how, say=None)
    assert same(plain_loop(watch), plain_loop())
    watch.close()
    assert [line["step"] for line in watch.lines][:2] == [1, max(2, how.get("every", 2))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float32(dtype):
    """What is measured inside of an autocast is what is measured of the same embeddings outside."""
    inside, outside = vergence.Watch(every=1), vergence.Watch(every=1)
    z, y = Z.to(dtype), Y.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        inside(1, z=z, y=y, loss=z.sum())
    outside(1, z=z.float(), y=y.float(), loss=z.sum().float())
    assert timeless(inside.lines) == timeless(outside.lines)
    assert same(plain_loop(vergence.Watch(every=3, say=None), dtype=torch.bfloat16), plain_loop(dtype=torch.bfloat16))


def test_a_loop_that_collapses_is_called_collapsed():
    told = []
    watch = vergence.Watch(name="mine", every=5, say=told.append)
    plain_loop(watch, steps=200, collapses=True)
    assert watch.verdict.state == "complete collapse"
    assert watch.representation.state != "healthy"
    last = [line for line in told if "projections" in line][-1]
    assert last.startswith("mine: step ")
    assert "projections: complete collapse: all pictures give one projection" in last
    assert "; try: projector norm batch or predictor norm batch" in last  # no options: there is no command
    assert "--" not in "".join(told)


def test_a_verdict_is_told_when_it_changes():
    told = []
    watch = vergence.Watch(name="mine", every=1, say=told.append)
    plain_loop(watch, steps=150)
    assert watch.verdict.state == watch.representation.state == "healthy"
    before, changes = {"projections": "undecided", "representation": "undecided"}, []
    for line in watch.lines:
        for what, now in (("projections", line["verdict"]), ("representation", line["representation"])):
            if now != before[what]:
                changes.append(["mine", f"step {line['step']}", what, now])
            before[what] = now
    assert [line.split(": ")[:4] for line in told] == changes
    assert len(changes) >= 2


def test_verdicts_are_returned_at_the_steps_that_are_logged():
    watch = vergence.Watch(every=2, say=None)
    said = [watch(step, z=Z, loss=0.5) for step in range(1, 6)]
    assert [verdict is not None for verdict in said] == [True, True, False, True, False]
    assert said[3] is watch.verdict
    assert [line["verdict"] for line in watch.lines] == ["undecided", "undecided", watch.verdict.state]


def test_only_what_is_given_is_measured():
    watch = vergence.Watch(every=1, say=None)
    watch(1, z=Z)
    line = watch.lines[0]
    assert "loss" not in line
    assert line["y_rank"] is line["y_agreement"] is line["cross_model"] is None
    assert line["pos_cos"] is not None
    assert watch.representation.state == "undecided"
    with_target = vergence.Watch(every=1, say=None)
    with_target(1, z=tuple(Z), p=list(Z + 1), z_target=Z - 1, loss=torch.tensor([2.0], dtype=torch.float64))
    assert with_target.lines[0]["loss"] == 2
    assert with_target.lines[0]["cross_model"] is not None
    one_view = vergence.Watch(every=1, say=None)
    one_view(1, z=Z[0], z_target=Z[1], y=Y[0], loss=1)
    assert one_view.lines[0]["pos_cos"] == pytest.approx(line["pos_cos"])
    assert one_view.lines[0]["y_agreement"] is None


def test_metrics_of_a_users_own_are_measured():
    table.register(table.Metric("deviation", label="deviation", compute=lambda z: z.std(), views=1))
    try:
        watch = vergence.Watch(every=1, say=None)
        watch(1, z=Z)
        assert watch.lines[0]["deviation"] > 0
    finally:
        table.unregister("deviation")


def test_gradients_that_are_accumulated_are_one_step():
    watch = vergence.Watch(every=1, say=None)
    assert [watch(step, z=Z) is not None for step in (1, 1, 1, 2, 2)] == [True, False, False, True, False]


def test_two_watches_in_one_process_know_nothing_of_each_other(tmp_path):
    one, other = (vergence.Watch(tmp_path / name, every=1, say=None) for name in "ab")
    for step in range(1, 5):
        one(step, z=Z)
        other(step, z=torch.ones(2, 8, 5))
    assert one.verdict.state == "healthy"
    assert other.verdict.state == "complete collapse"


# --- how often --------------------------------------------------------------------------------------------------------


def test_watching_takes_its_share_of_the_time(monkeypatch):
    """On a clock of our own: a step takes a second, a measurement 5, and the first one 100."""
    clock = [0.0]
    monkeypatch.setattr(watching.time, "perf_counter", lambda: clock[0])
    begin = watching.begin

    def slow(*arguments):
        clock[0] += 5 if watch.lines else 100
        return begin(*arguments)

    monkeypatch.setattr(watching, "begin", slow)
    watch = vergence.Watch(share=0.1, say=None)
    for step in range(1, 501):
        clock[0] += 1
        watch(step, z=Z)
    steps = [line["step"] for line in watch.lines]
    assert steps[:2] == [1, 2]
    assert {later - earlier for earlier, later in pairwise(steps[2:])} == {45}
    assert 5 * (len(steps) - 1) <= 0.1 * (clock[0] - 101)


def test_calls_that_measure_nothing_have_their_part_of_the_share(monkeypatch):
    """On a clock of our own: a step takes a second, a measurement 5, and each call 0.05 besides."""
    clock, spent = [0.0], [0.0]
    monkeypatch.setattr(watching.time, "perf_counter", lambda: clock[0])

    def slower(function, seconds):
        def wrapped(*arguments):
            clock[0] += seconds
            spent[0] += seconds
            return function(*arguments)

        return wrapped

    monkeypatch.setattr(watching, "begin", slower(watching.begin, 5))
    monkeypatch.setattr(watching, "given", slower(watching.given, 0.05))
    watch = vergence.Watch(share=0.1, say=None)
    for step in range(1, 501):
        clock[0] += 1
        watch(step, z=Z)
    assert 5 < len(watch.lines) < 10
    assert spent[0] - 5.1 <= 0.1 * clock[0]


def test_a_long_epoch_is_a_share_of_one():
    watch = vergence.Watch(every=5, steps_per_epoch=10, say=None)
    for step in range(1, 21):
        watch(step, z=Z)
    assert [line["epoch"] for line in watch.lines] == [0.1, 0.5, 1.0, 1.5, 2.0]


# --- what goes wrong --------------------------------------------------------------------------------------------------

WRONG = {
    "no views": ({"z": Z[0]}, r"z is 1 view \[8, 5\]; give both views, z=\(z1, z2\)"),
    "three views": ({"z": (Z[0],) * 3}, "z: expected two views, not 3; of many crops give the two global ones"),
    "views of two shapes": ({"z": (Z[0], Z[1, :7])}, r"z is 2 views \[8, 5\] and \[7, 5\]; expected views of one"),
    "maps": ({"z": Z[..., None]}, r"z is 1 view \[2, 8, 5, 1\]; expected views of one shape, \[b d\]"),
    "whole numbers": ({"z": Z.long()}, "z is 2 views .* of torch.int64; expected"),
    "no tensor": ({"z": [[1.0], [2.0]]}, r"z: expected tensors of two views, \(z1, z2\), not list"),
    "nothing": ({"z": None}, "z is missing"),
    "y of another batch": ({"y": Y[:, :7]}, r"y is 2 views \[7, 12\].*, which does not fit z, 2 views \[8, 5\]"),
    "y of one view": ({"y": Y[:1]}, "y is 1 view"),
    "p of other dimensions": ({"p": Y}, r"p is 2 views \[8, 12\].* does not fit z"),
    "a target of one view": ({"z_target": Z[0]}, "z_target is 1 view"),
    "one picture": ({"z": Z[:, :1]}, "a batch needs two"),
    "a loss for each picture": ({"loss": torch.ones(8)}, r"loss: expected one number, not of the shape \[8\]"),
    "a loss in words": ({"loss": "low"}, "loss: expected one number, not a str"),
    "step 0": ({"step": 0}, "step 0: count from 1 on, and on over all epochs"),
    "half a step": ({"step": 1.5}, "step 1.5: count from 1"),
}


@pytest.mark.unshaped
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_line(name):
    wrong, said = WRONG[name]
    with pytest.raises(InputError, match=rf"^watch: .*({said})") as caught:
        vergence.Watch(every=1, say=None)(**{"step": 1, "z": Z} | wrong)
    assert "\n" not in str(caught.value)


def test_steps_are_counted_in_any_whole_numbers():
    watch = vergence.Watch(every=1, say=None)
    for step in (np.int64(1), torch.tensor(2), 3):
        watch(step, z=Z)
    assert [line["step"] for line in watch.lines] == [1, 2, 3]


def test_steps_do_not_start_again_with_each_epoch():
    watch = vergence.Watch(every=1, say=None)
    watch(3, z=Z)
    with pytest.raises(InputError, match="step 1 after step 3: count from 1 on, and on over all epochs"):
        watch(1, z=Z)


@pytest.mark.unshaped
@pytest.mark.parametrize(
    "how", [{"every": 0}, {"every": 1.5}, {"steps_per_epoch": 0}, {"share": 0}, {"share": 2}, {"share": "1%"}]
)
def test_wrong_settings_are_one_line(how):
    with pytest.raises(InputError, match=f"^watch: {next(iter(how))}: expected"):
        vergence.Watch(**how)


def test_what_fails_inside_ends_the_watching_and_not_the_loop(tmp_path, monkeypatch):
    told = []
    watch = vergence.Watch(tmp_path / "run", name="mine", every=1, say=told.append)
    monkeypatch.setattr(watching, "begin", lambda *_: 1 / 0)
    assert same(plain_loop(watch), plain_loop())
    watch.close()
    assert told == ["mine: not watched from step 1 on: ZeroDivisionError: division by zero"]
    assert watch.is_off
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_folder_that_goes_away_ends_the_watching(tmp_path):
    told = []
    watch = vergence.Watch(tmp_path / "run", name="mine", every=1, say=told.append)
    watch(1, z=Z)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run").rmdir()
    assert watch(2, z=Z) is None
    assert len(told) == 1
    assert "mine: not watched from step 2 on: " in told[0]


def test_a_callback_that_fails_is_no_matter_of_the_loop():
    watch = vergence.Watch(every=1, say=lambda text: 1 / 0)
    for step in range(1, 5):
        watch(step, z=torch.ones(2, 8, 5))
    assert watch.is_off


@pytest.mark.parametrize("what", ["loss", "z", "y"])
def test_numbers_that_are_none_have_no_line(what, tmp_path):
    told = []
    watch = vergence.Watch(tmp_path, name="mine", every=1, say=told.append)
    for step in range(1, 6):
        bad = float("nan") if step == 4 else 1.0
        watch(step, z=Z * (bad if what == "z" else 1), y=Y * (bad if what == "y" else 1), loss=bad)
        assert (watch.verdict == watching.NOT_FINITE) == (step == 4)
    assert [line["step"] for line in read_log(tmp_path / "metrics.jsonl")] == [1, 2, 3, 5]
    assert any("mine: step 4: projections: undecided: the loss or an embedding is not a finite" in t for t in told)


@pytest.mark.parametrize("rank", ["1", "0"])
def test_of_several_processes_the_first_one_watches(rank, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    with vergence.Watch(tmp_path / "run", every=1, say=None) as watch:
        watch(1, z=Z)
    assert (tmp_path / "run").exists() == bool(watch.lines) == (rank == "0")


def test_processes_may_meet_after_the_watch_was_made(tmp_path, monkeypatch):
    watch = vergence.Watch(tmp_path / "run", every=1, say=None)
    monkeypatch.setenv("RANK", "1")
    assert watch(1, z=Z) is None
    watch.close()
    assert not list((tmp_path / "run").iterdir())


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_loop_that_goes_on_has_one_log(tmp_path):
    """As after a kill at step 12, where the loop's own checkpoint was of step 8."""
    whole = vergence.Watch(tmp_path / "whole", every=1, say=None)
    first = vergence.Watch(tmp_path / "parts", name="mine", every=1, say=None)
    embeddings = torch.randn(20, 2, 8, 5, generator=torch.Generator().manual_seed(0))
    for step in range(1, 21):
        whole(step, z=embeddings[step - 1], y=embeddings[-step], loss=step)
        if step <= 12:
            first(step, z=embeddings[step - 1], y=embeddings[-step], loss=step)
    with open(tmp_path / "parts" / "metrics.jsonl", "a") as file:
        file.write('{"step": 13, "ep')
    again = vergence.Watch(tmp_path / "parts", every=1, say=None)
    assert again.name == "mine"
    assert len(again.lines) == 12
    for step in range(9, 21):
        again(step, z=embeddings[step - 1], y=embeddings[-step], loss=step)
    assert timeless(read_log(tmp_path / "parts" / "metrics.jsonl")) == timeless(whole.lines)
    assert again.verdict == whole.verdict
    assert again.representation == whole.representation


def test_a_folder_that_was_closed_is_unfinished_while_its_loop_goes_on(tmp_path):
    with vergence.Watch(tmp_path, every=1, say=None) as watch:
        watch(1, z=Z)
    assert (tmp_path / "summary.json").exists()
    again = vergence.Watch(tmp_path, every=1, say=None)
    assert (tmp_path / "summary.json").exists()
    again(2, z=Z)
    assert not (tmp_path / "summary.json").exists()
    again.close()
    again.close()
    assert again(3, z=Z) is None
    assert [line["step"] for line in read_log(tmp_path / "metrics.jsonl")] == [1, 2]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final"]["step"] == 2


def test_a_loop_that_fails_stays_unfinished(tmp_path):
    watch = vergence.Watch(tmp_path, every=1, say=None)
    watch(1, z=Z)
    with pytest.raises(ZeroDivisionError), watch:
        _ = 1 / 0
    assert watch.is_off
    assert not (tmp_path / "summary.json").exists()


def test_what_is_anothers_is_left_alone(whole, tmp_path):
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="holds a run of vergence train; choose another folder"):
        vergence.Watch(whole)
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"has a metrics\.jsonl but no run\.json"):
        vergence.Watch(tmp_path)
    with vergence.Watch(tmp_path / "mine", name="one", say=None) as watch:
        watch(1, z=Z)
    for other in ({"name": "two"}, {"name": "one", "seed": 1}):
        with pytest.raises(
            InputError, match=r"holds the loop 'one' with seed 0, not '(one|two)' with seed [01]; choose"
        ):
            vergence.Watch(tmp_path / "mine", **other)


@pytest.mark.parametrize("command", ["train --config F/run.json", "evaluate F", "train --config F/run.json --resume"])
def test_commands_that_need_weights_say_that_there_are_none(command, tmp_path, capsys):
    with vergence.Watch(tmp_path / "F", every=1, say=None) as watch:
        watch(1, z=Z)
    code = cli.main(command.replace("F", str(tmp_path / "F"), 1).split())
    assert code == 2
    assert "run.json: of a loop that was watched: it has a log and a page, but no weights" in capsys.readouterr().err


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A healthy loop, one that collapsed, and one that is not finished."""
    folder = tmp_path_factory.mktemp("watched")
    for name, collapses, seed in (("good", False, 0), ("bad", True, 0), ("open", False, 1)):
        watch = vergence.Watch(folder / name, name=name, every=5, say=None)
        plain_loop(watch, steps=1200 if collapses else 60, collapses=collapses, seed=seed)
        if name != "open":
            watch.close()
    return folder


def test_a_watched_folder_has_a_page(watched, tmp_path, capsys):
    folders = [str(watched / name) for name in ("good", "bad")]
    assert cli.main(["report", *folders, "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    for said in ("complete collapse", "healthy", "pictures of a watched loop", "projector norm batch", "good", "bad"):
        assert said in text
    assert "None px" not in text
    assert "e+03" not in text
    page, problems = runs_page([watched / "good", watched / "open"])
    assert not problems
    (said,) = page.failures.values()
    assert said.endswith("not finished; go on with its loop, whose watch.close() writes the summary")
    assert "open, unfinished" in page.runs


def test_a_watched_folder_stands_beside_a_run(watched, whole):
    for folders in ([watched / "good", whole], [whole, watched / "good"]):
        page, problems = runs_page(folders)
        assert not problems
        assert len(page.runs) == 2
        assert not page.failures
        assert "the loop of one was watched, and its settings are not known" in render(page)


def test_loops_of_one_name_and_several_seeds_are_one_row(tmp_path):
    for seed in (0, 1):
        with vergence.Watch(tmp_path / str(seed), name="mine", seed=seed, every=5, say=None) as watch:
            plain_loop(watch, seed=seed)
    page, problems = runs_page([tmp_path / "0", tmp_path / "1"])
    assert not problems
    ((name, results),) = page.runs.items()
    assert (name, len(results)) == ("mine", 2)


def test_a_summary_that_is_damaged_is_named(watched, tmp_path):
    folder = shutil.copytree(watched / "good", tmp_path / "copy")
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": None}))
    page, _ = runs_page([folder])
    (said,) = page.failures.values()
    assert "not as a run writes it: verdict.state, verdict.rule; remove it and go on with its loop" in said


# --- where there is a GPU ---------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_numbers_come_one_call_later(tmp_path):
    watch = vergence.Watch(tmp_path, every=1, say=None)
    here = vergence.Watch(every=1, say=None)
    z, y = Z.cuda(), Y.cuda()
    said = [watch(step, z=z, y=y, loss=z.sum()) for step in (1, 2, 3)]
    assert [verdict is not None for verdict in said] == [False, True, True]
    watch.close()
    for step in (1, 2, 3):
        here(step, z=Z, y=Y, loss=Z.sum())
    assert len(watch.lines) == 3
    for ours, theirs in zip(watch.lines, here.lines, strict=True):
        assert ours["effective_rank"] == pytest.approx(theirs["effective_rank"], rel=1e-4)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
