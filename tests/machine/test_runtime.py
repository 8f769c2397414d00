"""Randomness by counter, when work is due, devices; and what a person sees while a run trains."""

import io
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vergence.engine import periods
from vergence.engine.reporter import Reporter
from vergence.errors import InputError
from vergence.machine import device, randomness
from vergence.metrics.verdict import ENCODER_RULES, RULES, Judge, Verdict
from vergence.report.live import COLOURS, Plain, Rich, duration, open_view, sparkline

# --- random numbers ---------------------------------------------------------------------------------------------------


def test_a_seed_is_the_same_everywhere_and_for_ever():
    """Another number here is another result of every run there is."""
    assert randomness.seed_of(0, "order", 3) == 1555077830293145243
    assert randomness.seed_of(7, "weights") == 6558859102530330247


def test_seeds_differ_in_every_part():
    calls = [
        *((seed, "views", step) for seed in range(20) for step in range(20)),
        *((seed, "order", step) for seed in range(20) for step in range(20)),
        *((seed, "weights") for seed in range(20)),
        *((1, "linear", 1, 1), (1, "linear", 11), (11, "linear", 1)),
    ]
    seeds = {randomness.seed_of(*call) for call in calls}
    assert len(seeds) == len(calls)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_depends_on_its_counters_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = torch.rand(5, generator=randomness.generator(1, "views", 4))
    torch.rand(9)
    again = torch.rand(5, generator=randomness.generator(1, "views", 4))
    other = torch.rand(5, generator=randomness.generator(1, "views", 5))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.set_rng_state(state)
    randomness.generator(2, "views")
    assert torch.equal(torch.get_rng_state(), state)


def test_neighbouring_seeds_are_unlike():
    draws = torch.stack([torch.rand(1000, generator=randomness.generator(seed, "views", 1)) for seed in range(8)])
    off_diagonal = torch.corrcoef(draws) - torch.eye(8)
    assert off_diagonal.abs().max() < 0.15


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "total", "steps"),
    [(3, 10, [3, 6, 9, 10]), (5, 10, [5, 10]), (1, 3, [1, 2, 3]), (100, 10, [10]), (0, 10, [])],
)
def test_due(every, total, steps):
    assert [step for step in range(1, total + 1) if periods.due(step, every, total)] == steps


# --- the machine ------------------------------------------------------------------------------------------------------


def with_devices(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "count", "found"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_devices(monkeypatch, name, count, found):
    with_devices(monkeypatch, count)
    assert device.find_device(name) == torch.device(found)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cuda", 0, "no CUDA device here; use --device cpu"),
        ("cuda:0", 0, "no CUDA device here"),
        ("cuda:7", 1, "no cuda:7; this machine has 1 CUDA devices"),
        ("gpu", 1, "unknown device 'gpu'; use auto, cpu, cuda or cuda:N"),
        ("mps", 1, "unknown device 'mps'"),
        ("meta", 1, "unknown device 'meta'"),
        ("cuda:-1", 1, "unknown device 'cuda:-1'"),
        ("cuda:x", 1, "unknown device 'cuda:x'"),
        ("CPU", 1, "unknown device 'CPU'"),
        ("", 1, "unknown device ''"),
    ],
)
def test_devices_that_are_not_there_are_never_replaced_by_the_cpu(monkeypatch, name, count, said):
    with_devices(monkeypatch, count)
    with pytest.raises(InputError, match=r"^--device: ") as caught:
        device.find_device(name)
    assert said in str(caught.value)


def test_the_environment_names_what_a_result_depends_on():
    here = device.environment(torch.device("cpu"))
    assert here["python"] == ".".join(map(str, sys.version_info[:3]))
    assert here["device"] == "cpu"
    assert here["device_name"]
    assert here["threads"] == torch.get_num_threads()
    assert {"vergence", "torch", "torchvision", "timm", "numpy", "numba", "scikit-learn", "cores"} <= here.keys()


# --- what a person sees -----------------------------------------------------------------------------------------------


def a_line(step, **changed):
    line = {"step": step, "epoch": step / 5, "loss": 1.5, "pos_cos": 0.9, "neg_cos": 0.25, "effective_rank": 12.3}
    return line | {"images_per_second": 100.0, "z_std": 0.8, "verdict": "healthy", **changed}


def a_verdict(state="healthy"):
    rule = next(rule for rule in RULES if rule.state == state)
    return Verdict(rule.state, rule.sentence, {})


def console(**options):
    return Console(file=io.StringIO(), width=200, **options)


def watched(view, lines, total=10, done=0, per_epoch=5, warnings=()):
    view.start(total, done, per_epoch, [line for line in lines if line["step"] <= done], warnings)
    for line in lines:
        if line["step"] > done:
            view.step()
            view.line(line, a_verdict(line["verdict"]))
    view.stop()
    return view.console.file.getvalue()


def test_off_a_terminal_there_is_a_line_an_epoch():
    said = watched(Plain(console()), [a_line(step) for step in range(1, 11)])
    lines = said.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "loss 1.5000  pos cos 0.900  neg cos 0.250  rank 12.3  100 images/s  0:00 left  healthy" in lines[-1]
    assert "\x1b" not in said


def test_a_long_epoch_is_not_silent(monkeypatch):
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr("vergence.report.live.time.monotonic", lambda: float(next(clock)))
    said = watched(
        Plain(console()), [a_line(step, epoch=step / 100) for step in range(1, 11)], total=1000, per_epoch=100
    )
    assert len(said.splitlines()) == 3


def test_a_resumed_run_says_where_it_goes_on_and_what_was_wrong():
    said = watched(Plain(console()), [a_line(step) for step in range(1, 11)], done=5, warnings=["step-9: [damaged]"])
    assert said.splitlines()[:2] == ["warning: step-9: [damaged]", "resumed after step 5 of 10"]
    assert len(said.splitlines()) == 3


def test_scores_during_training_are_in_the_line():
    online = {"knn": {"accuracy": 45.678, "protocol": ""}, "logistic": {"accuracy": None, "protocol": ""}}
    said = watched(Plain(console()), [a_line(5, online=online), a_line(10)])
    assert said.splitlines()[0].endswith("healthy  online knn 45.7%")


@pytest.mark.parametrize("state", sorted({rule.state for rule in RULES}))
def test_on_a_terminal_the_verdict_stands_in_words(state):
    lines = [a_line(step, neg_cos=step / 10, verdict=state) for step in range(1, 11)]
    said = watched(Rich(console(force_terminal=True), "byol on digits"), lines, warnings=["one [is] damaged"])
    assert "byol on digits" in said
    assert "10/10" in said
    assert "warning: one [is] damaged" in said
    assert sparkline([line["neg_cos"] for line in lines]) in said
    assert state in said
    assert a_verdict(state).rule.split(":")[0] in said


def test_the_panel_is_drawn_before_the_first_line_and_for_a_resumed_run():
    for lines, done in (([], 0), ([a_line(step) for step in range(1, 6)], 5)):
        view = Rich(console(force_terminal=True), "title")
        assert "title" in watched(view, lines, done=done)
        view.console.print(view.render())


def test_every_state_has_a_colour():
    assert set(COLOURS) == {rule.state for rule in (*RULES, *ENCODER_RULES)}


def test_the_view_suits_the_console():
    assert isinstance(open_view(console(), ""), Plain)
    assert isinstance(open_view(console(force_terminal=True), ""), Rich)


def test_quiet_is_quiet(capsys):
    view = Reporter()
    view.start(10, 0, 5, [], ["a warning"])
    view.step()
    view.line(a_line(1), Judge(8).hear(a_line(1)))
    view.say("anything")
    view.stop()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([1.0], "▁"),
        ([2.0, 2.0, 2.0], "▁▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, 0], "█▁"),
        ([-1e-300, 1e300], "▁█"),
    ],
)
def test_sparklines(values, drawn):
    assert sparkline(values) == drawn


@pytest.mark.parametrize("n", [33, 64, 1000, 4097])
def test_a_long_series_is_averaged_into_its_width(n):
    assert len(sparkline(range(n))) == 32
    assert sparkline(range(n)) == "".join(sorted(sparkline(range(n))))
    wave = sparkline([math.sin(2 * math.pi * i / n) for i in range(n)], width=8)
    assert wave[1] == "█"
    assert wave[6] == "▁"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3599.9, "1:00:00"),
        (3723, "1:02:03"),
        (360000, "100:00:00"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


LARGE_PAGES = """
import re, resource, sys
from vergence.machine.memory import keep_freed_memory
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
keep_freed_memory()
keep_freed_memory()  # once is enough
maps = open("/proc/self/smaps").read()
areas = re.findall(r"\\nSize: +(\\d+) kB(?:(?!\\nSize:).)*?VmFlags:([^\\n]*)", maps, re.DOTALL)
print(sum(int(size) for size, flags in areas if " hg" in flags) >> 10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="a system without huge pages")
@pytest.mark.parametrize(("limit", "asked"), [([], 1679), (["limited"], 0)])
def test_the_heap_is_asked_for_in_large_pages_and_not_touched(limit, asked):
    words = [sys.executable, "-c", LARGE_PAGES, *limit]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    megabytes, touched = map(int, done.stdout.split())
    assert megabytes == pytest.approx(asked, abs=3)
    assert touched < 10
