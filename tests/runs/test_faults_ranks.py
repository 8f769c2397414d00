"""What happens to a run of two processes: one is killed, hangs, is slow, is another's; and it goes on with one."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

import soak
from checker import check, check_answer, leftovers, newest_step
from repository import SOURCE
from small_runs import VARIANTS, run_of
from vergence.config.schema import to_dict
from vergence.files import durable
from vergence.metrics.table import TIMING

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ranks")]
RUN = run_of(VARIANTS["moco"], subset=20, batch_size=6, epochs=3)
LIMIT = 30.0
"""Seconds within which all have left, counted from the start of the run, which takes three."""


def command(config, folder, *more):
    words = ["train", "--config", config, "--out", folder, "--resume", "--device", "cpu", "--threads", "1"]
    return [*words, "--log-every", 2, "--save-every", 3, *more]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(to_dict(RUN)))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config, ranks):
    """The run of two ranks that nobody touched: nine steps, saved after 3, 6 and 9."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended(ranks(*command(config, folder)))
    check(folder, at_least=9)
    assert json.loads((folder / "run.json").read_text())["environment"]["processes"] == 2
    return folder


def ended(answers):
    """All is well, on every rank."""
    assert [(answer["code"], answer["error"]) for answer in answers] == [(0, "")] * len(answers)
    for answer in answers:
        check_answer(answer, 0)
        assert answer["error"] == ""


def failed(answers, codes, said, limit=LIMIT):
    """Each rank left with its code, in time, and one line was said by all of them together."""
    lines = [line for answer in answers for line in answer["error"].splitlines()]
    assert [answer["code"] for answer in answers] == codes, f"(f) {answers}"
    assert len(lines) == 1, f"(e) {answers}"
    assert lines[0].startswith("error: "), f"(e) {lines}"
    for part in said:
        assert part in lines[0], f"(e) {lines}"
    assert max(answer["seconds"] for answer in answers) < limit, f"(h) {answers}"
    assert not any(answer["orphans"] for answer in answers), "(g)"


# --- a rank dies ------------------------------------------------------------------------------------------------------

STEP = "vergence.engine.step.update"
KILLS = [
    (1, ("signal_at", STEP, 5, signal.SIGKILL), 3),
    (0, ("failpoint", "replace.before:3"), 3),
    (0, ("signal_at", STEP, 8, signal.SIGKILL), 6),
    (1, ("signal_at", STEP, 1, signal.SIGKILL), 0),
    (0, ("signal_at", "vergence.files.series.add", 2, signal.SIGKILL), 3),
    (0, ("signal_at", "vergence.runs.execute.evaluate", 1, signal.SIGKILL), 9),
    (0, ("signal_at", "vergence.files.durable._write_synced", 9, signal.SIGKILL), 3),
    (1, ("signal_at", "vergence.methods.build", 1, signal.SIGKILL), 0),
]
"""Which rank is killed, where, and the step that is saved then, or more. The first two are those of every commit."""


def special(rank, fault):
    if fault[0] == "failpoint":
        return {rank: {"environment": {"VERGENCE_FAILPOINT": fault[1]}}}
    return {rank: {"faults": [fault]}}


@pytest.mark.parametrize("number", range(soak.times(2, 40)))
def test_a_rank_that_is_killed_ends_the_other_and_changes_nothing(number, config, whole, tmp_path, ranks):
    rank, fault, saved = KILLS[number % len(KILLS)]
    folder = tmp_path / "run"
    answers = ranks(*command(config, folder), special=special(rank, fault))
    codes = [4, 4]
    codes[rank] = -signal.SIGKILL
    failed(answers, codes, ["a process was killed, or hangs", "--resume"])
    check(folder, at_least=saved)
    soak.count("kills")
    ended(ranks(*command(config, folder)))
    check(folder, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_hangs_ends_the_other(rank, config, tmp_path, ranks):
    """The one that hangs is killed once it is alone, as by a launcher."""
    folder = tmp_path / "run"
    patience, stops = {"VERGENCE_HANG_SECONDS": "5"}, {rank: {"faults": [("signal_at", STEP, 5, signal.SIGSTOP)]}}
    answers = ranks(*command(config, folder), environment=patience, special=stops)
    assert answers[rank]["code"] == -signal.SIGKILL
    failed([answers[1 - rank]], [4], ["a process was killed, or hangs", "--resume"])
    check(folder, at_least=3)


def test_a_failing_rank_says_why_once(config, tmp_path, ranks):
    """Rank 0 cannot write: the other leaves with the same code, and says nothing more."""
    folder = tmp_path / "run"
    answers = ranks(*command(config, folder), special={0: {"faults": [("limited_files", 20_000)]}})
    failed(answers, [4, 4], ["cannot write", "ulimit"])
    assert newest_step(folder) == 0


def test_a_signal_to_one_rank_stops_both_after_the_same_step(config, whole, tmp_path, ranks):
    folder = tmp_path / "run"
    answers = ranks(*command(config, folder), special={1: {"faults": [("signal_at", STEP, 4, signal.SIGTERM)]}})
    failed(answers, [143, 143], ["stopped after step 4 of 9, saved"])
    assert newest_step(folder) == 4
    ended(ranks(*command(config, folder)))
    check(folder, whole)


def test_a_slow_rank_is_waited_for(config, whole, tmp_path, ranks):
    """Stopped for less than it takes to be given up, at its fifth step."""
    folder = tmp_path / "run"
    ended(ranks(*command(config, folder), special={1: {"faults": [("asleep_at", STEP, 5, 4.0)]}}))
    check(folder, whole)


# --- ranks that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"arguments": ["--optimizer.lr", "0.1"]}, "optimizer.lr: 0.05 -> 0.1"),
        ({"arguments": ["--save-every", "2"]}, "save_every: 3 -> 2"),
        ({"arguments": ["--subset", "21"]}, "subset: 20 -> 21"),
        ({"faults": [("other_pictures",)]}, "pictures: "),
        ({"faults": [("other_weights",)]}, "state: "),
    ],
    ids=["rate", "periods", "subset", "pictures", "weights"],
)
def test_ranks_that_differ_are_refused(own, said, config, tmp_path, ranks):
    answers = ranks(*command(config, tmp_path / "run"), special={1: own})
    failed(answers, [2, 2], ["rank 1 differs from rank 0", said])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_batch_that_cannot_be_shared_is_refused(config, tmp_path, ranks):
    answers = ranks(*command(config, tmp_path / "run", "--batch-size", 7))
    failed(answers, [2, 2], ["--batch-size: 7 pictures cannot be shared evenly by 2 processes"])


def test_a_wrong_option_is_said_once(config, tmp_path, ranks):
    failed(ranks(*command(config, tmp_path / "run", "--no-such", 7)), [2, 2], ["no-such"])


# --- other numbers of ranks -------------------------------------------------------------------------------------------


def test_one_process_goes_on_where_two_stopped(config, whole, tmp_path, ranks, vergence):
    """The same pictures in the same order; losses to 1e-2, for rounding grows from step to step."""
    folder = tmp_path / "run"
    killed = ranks(*command(config, folder), special={0: {"faults": [("signal_at", STEP, 8, signal.SIGKILL)]}})
    assert killed[0]["code"] == -signal.SIGKILL
    soak.count("kills")
    answer = vergence(*command(config, folder))
    assert (answer["code"], answer["error"]) == (0, "")
    assert not leftovers(folder)
    ours, theirs = (durable.read_lines(f / "metrics.jsonl") for f in (folder, whole))
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our["loss"] == pytest.approx(their["loss"], rel=1e-2)
        if our["step"] <= 6:
            assert {k: v for k, v in our.items() if k not in TIMING} == {
                k: v for k, v in their.items() if k not in TIMING
            }


@pytest.mark.parametrize("number", range(soak.times(0, 20)))
def test_three_ranks_killed_and_resumed_equal_three_that_nobody_touched(number, config, tmp_path, ranks):
    """In `make soak`: three ranks once ended with exit 4 where nothing was done to them, which is not explained."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    ended(ranks(*command(config, whole), size=3))
    killed = ranks(*command(config, folder), size=3, special={2: {"faults": [("signal_at", STEP, 5, signal.SIGKILL)]}})
    failed(killed, [4, 4, -signal.SIGKILL], ["a process was killed, or hangs"])
    soak.count("kills")
    ended(ranks(*command(config, folder), size=3))
    check(folder, whole)


# --- what several processes do together -------------------------------------------------------------------------------


def test_ranks_embed_and_diagnose_as_one_process_does(whole, tmp_path, ranks, vergence):
    for size in (1, 3):
        place = tmp_path / str(size)
        words = ["embed", whole, "digits", "--out", place / "y.npz", "--device", "cpu", "--threads", "1"]
        look = ["diagnose", whole, "--json", place / "numbers.json", "--most", 300, "--device", "cpu", "--threads", "1"]
        for command_words in (words, look):
            answers = [vergence(*command_words)] if size == 1 else ranks(*command_words, size=size)
            assert [(answer["code"], answer["error"]) for answer in answers] == [(0, "")] * size
    for name in ("y.npz", "numbers.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    assert {path.name for path in (tmp_path / "3").iterdir()} == {"y.npz", "numbers.json"}


# --- SLURM ------------------------------------------------------------------------------------------------------------


def test_a_run_that_slurm_warns_saves_and_is_started_again(config, whole, tmp_path, ranks):
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    place = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    warned = {1: {"faults": [("signal_at", STEP, 4, signal.SIGUSR1)]}}
    answers = ranks(*command(config, tmp_path / "run"), environment=place, special=warned)
    failed(answers, [138, 138], ["stopped after step 4 of 9, saved", "SLURM starts job 77 again"])
    assert asked.read_text() == "requeue 77\n"
    ended(ranks(*command(config, tmp_path / "run")))
    check(tmp_path / "run", whole)


# --- torchrun ---------------------------------------------------------------------------------------------------------


def torchrun(*words, environment=None, options=()):
    """The real launcher, which imports torch in each process."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options]
    return subprocess.run(
        [*map(str, (*launcher, "-m", "vergence", *words))],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_torchrun_starts_a_run_and_starts_it_again(config, whole, tmp_path):
    """Rank 0 is killed in its last checkpoint; at the second start its failpoint is never reached."""
    folder = tmp_path / "run"
    killed = torchrun(
        *command(config, folder),
        environment={"VERGENCE_FAILPOINT": "replace.before:4"},
        options=["--max-restarts=1"],
    )
    assert killed.returncode == 0, killed.stderr
    assert "exitcode: -9" in killed.stderr, killed.stderr
    lines = [line for line in killed.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "a process was killed, or hangs" in lines[0]
    soak.count("kills")
    check(folder, whole)


def test_the_command_starts_its_processes_itself(config, whole, tmp_path):
    words = [*command(config, tmp_path / "run"), "--processes", 2]
    start = [sys.executable, "-m", "vergence", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check(tmp_path / "run", whole)
    wrong = subprocess.run(
        [*start, "--batch-size", "7"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1, wrong.stderr


def test_a_port_that_is_taken_is_one_line(config, tmp_path, ranks):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        words = command(config, tmp_path / "run")
        answer = ranks(*words, special={0: {"environment": {"MASTER_PORT": port}}}, timeout=3)[0]
        check_answer(answer, 4, [port, "choose another MASTER_PORT"])
