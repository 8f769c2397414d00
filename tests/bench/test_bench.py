"""`vergence bench`, the comparison of two commits, and the tables: what they say, never how fast it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark_scripts import PAGE, fill, script
from commands import vergence, words_of
from repository import ROOT
from small_runs import run_of, small
from vergence import config as c
from vergence.bench import parts, table
from vergence.bench import record as records
from vergence.bench.cost import Ceilings, Cost, achieved, cost_of, count
from vergence.bench.order import Order
from vergence.command.bench import read_order
from vergence.command.commands import Bench
from vergence.engine import step
from vergence.errors import MachineError

pytestmark = pytest.mark.xdist_group("bench")  # one process makes the record that all look at

TINY = {
    "encoder": "test_resnet",
    "data.size": 16,
    "views.size": 16,
    "batch-size": 8,
    "projector.hidden": 16,
    "projector.out": 8,
    "predictor.hidden": 16,
    "steps": 2,
    "warmup": 1,
    "rounds": 2,
    "pictures": 24,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="module")
def compare():
    return script("compare")


@pytest.fixture(scope="module")
def tables():
    return script("tables")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A record of every part that one process makes, and what was printed; it takes seconds, so who asks is slow."""
    out = tmp_path_factory.mktemp("bench") / "record.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "IMPORTS", dict.fromkeys(parts.IMPORTS, ""))  # importing torch ten times takes long
        patch.delenv("VERGENCE_DATA_DIR", raising=False)
        answer = vergence("bench", *words_of(TINY), "--out", out)
    assert answer.code == 0, answer.err
    return json.loads(out.read_bytes()), answer


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_record_says_what_it_depends_on(measured):
    record, _ = measured
    here, settings = record["environment"], record["settings"]
    assert record["date"].endswith("+00:00")
    assert here["device"] == "cpu"
    assert here["threads"] == 1
    assert {"torch", "vergence", "device_name", "cores"} <= set(here)
    assert settings["run"]["batch_size"] == 8
    assert settings["pictures"] == "32 of noise, 32 px, in the place of cifar10's"
    assert (settings["steps"], settings["warmup"], settings["rounds"]) == (2, 1, 2)
    tracked = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True)
    if tracked.returncode == 0:
        assert record["commit"] == tracked.stdout.strip()
        assert record["dirty"] in (True, False)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["step", "train"])
def test_rates_of_a_step_follow_from_its_rounds(measured, part):
    found = measured[0][part]
    seconds = [each["seconds"] / 2 for each in found["rounds"]]  # of a step; two in a round
    assert len(seconds) == 2
    for name, factor in (("step_ms", 1000), ("samples_per_s", None)):
        values = sorted(8 / each if factor is None else factor * each for each in seconds)
        assert found[name] == pytest.approx({"min": values[0], "max": values[1], "median": sum(values) / 2})
    for each in found["rounds"]:
        assert each["cpu_seconds"] > 0
        assert each["foreign"] is None or 0 <= each["foreign"] <= 1


@pytest.mark.slow
def test_training_makes_views_and_the_step_alone_none_and_they_take_turns(monkeypatch):
    """Else what the machine does meanwhile hides what views cost."""
    views, held, taken = [], [], []
    real_views, real_lap, real_steps = step.multi_crop, parts.lap, parts.steps

    def multi_crop(*arguments):
        views.append(1)
        return real_views(*arguments)

    def steps(work, stepper, begin, count):
        held.append(stepper.held is not None)
        return real_steps(work, stepper, begin, count)

    def lap(function, device):
        before = len(views)
        timed = real_lap(function, device)
        taken.append((held[-1], len(views) - before))
        return timed

    for module, name, other in ((step, "multi_crop", multi_crop), (parts, "steps", steps), (parts, "lap", lap)):
        monkeypatch.setattr(module, name, other)
    monkeypatch.setattr(records, "ceilings", lambda _: Ceilings(1.0, "float32", 1.0))  # seconds, seen in `measured`
    answer = vergence("bench", *words_of(TINY), "--what", "step,train")
    assert answer.code == 0, answer.err
    assert taken == [(True, 0), (False, 2)] * 2  # two rounds of two steps
    assert "others took up to" in answer.out or not Path("/proc/stat").exists()


def test_what_was_measured_before_a_fault_is_kept(monkeypatch, tmp_path):
    def fault(work):
        raise MachineError("no memory")

    monkeypatch.setattr(records, "MEASURES", {"import": lambda work: {"seconds": 1.0}, "views": fault})
    order = Order(run=run_of(small(c.BYOL())), parts=("import", "views"))
    with pytest.raises(MachineError):
        records.run_benchmark(order, torch.device("cpu"), tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_bytes())
    assert record["import"] == {"seconds": 1.0}
    assert "views" not in record


@pytest.mark.slow
@pytest.mark.parametrize("part", ["step", "train"])
def test_achieved_rates_are_those_of_the_counted_cost(measured, part):
    record, _ = measured
    found, most = record[part], record["ceilings"]
    seconds = found["step_ms"]["median"] / 1000
    assert found["achieved"]["tflops"] == pytest.approx(found["cost"]["operations"] / seconds / 1e12)
    assert found["achieved"]["share_of_tflops"] == pytest.approx(found["achieved"]["tflops"] / most["tflops"])
    assert found["cost"]["bytes_products_only"] < found["cost"]["bytes_every_operator"]
    assert most["dtype"] == "float32"


@pytest.mark.slow
def test_views_are_made_in_both_orders(measured):
    found = measured[0]["views"]
    assert set(found) == {"published", "folded"}
    for one in found.values():
        seconds = [each["seconds"] for each in one["rounds"]]
        assert one["views_per_s"]["max"] == pytest.approx(2 * 8 * 2 / min(seconds))  # two views, eight pictures, twice


@pytest.mark.slow
def test_the_usual_evaluation_passes_each_picture_a_hundred_times(measured):
    found = measured[0]["evaluate"]
    assert found["pictures"] == {"fitted": 20, "scored": 4}
    assert (found["passes"], found["usual_passes"]) == (24, 2004)
    assert found["passes_ratio"] == pytest.approx(2004 / 24)
    assert found["seconds_ratio"] < found["passes_ratio"]  # the probe takes time too
    assert {name: len(rounds) for name, rounds in found["rounds"].items()} == {"features": 2, "knn": 2, "linear": 2}


@pytest.mark.slow
def test_imports_are_timed_in_processes_of_their_own(measured):
    found = measured[0]["import"]
    assert set(found) == {*parts.IMPORTS, "help_s", "rounds"}
    assert all(len(values) == 2 and min(values) > 0 for values in found["rounds"].values())


@pytest.mark.slow
def test_the_table_has_a_row_for_each_number(measured):
    record, answer = measured
    for text in ("views, folded order", "step, views held", "training, with views", "linear probe", "help", "noise"):
        assert text in answer.out
    assert f"{table.figure(record['train']['samples_per_s']['median'])} samples/s" in answer.out
    assert [line for line in answer.err.splitlines() if not line.startswith("measuring: ")] == []


@pytest.mark.slow
def test_several_runs_at_once_are_compared_with_one(tmp_path):
    out = tmp_path / "record.json"
    answer = vergence("bench", *words_of(TINY), "--what", "at-once", "--at-once", "2", "--out", out)
    assert answer.code == 0, answer.err
    one, two = json.loads(out.read_bytes())["at-once"]["counts"]
    assert (one["runs"], two["runs"]) == (1, 2)
    assert len(two["rounds"]) == 2
    assert one["over_one"] == 1
    assert two["over_one"] == pytest.approx(two["samples_per_s"] / one["samples_per_s"])
    assert two["samples_per_s"] * two["seconds"] == pytest.approx(2 * one["samples_per_s"] * one["seconds"])
    assert two["seconds"] >= max(sum(lap["seconds"] for lap in rounds) for rounds in two["rounds"])


MISTAKES = [
    ("--what speed", "--what: unknown choice 'speed'; known: at-once, evaluate, import, step, train, views"),
    ("--what ,", "--what: unknown choice ''; known: at-once, evaluate, import, step, train, views"),
    ("--what none", "--what: name one or more of views,step,train,evaluate,import,at-once"),
    ("--at-once 2,0", "--at-once: must lie between 1 and 64, not 0"),
    ("--at-once some", "--at-once: expected a whole number, not 'some'"),
    ("--steps 0", "--steps: must be at least 1, not 0"),
    ("--rounds 0", "--rounds: must be at least 1, not 0"),
    ("--pictures 5", "--pictures: must be at least 12, not 5"),
    ("--compile fast", "--compile: unknown choice 'fast'"),
    ("byl", "unknown method 'byl'; did you mean 'byol'?"),
    ("--data cifar", "--data: 'cifar' is no data set and no folder; did you mean 'cifar10'?"),
    ("--batch-sise 8", "--batch-sise: unknown option; did you mean '--batch-size'?"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line(words, said):
    answer = vergence("bench", *words.split())
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert answer.errors[0].startswith(said)


@pytest.mark.parametrize("words", ["--help", "--what speed", "--encoder.stem none"])
def test_help_and_mistakes_import_no_torch(words):
    code = f"import sys; from vergence.command.cli import main\ntry: main({['bench', *words.split()]})\n"
    code += "except SystemExit: pass\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_batch_that_was_not_asked_for_is_the_devices():
    words = Bench(what=("at-once",), at_once=(4, 2))
    order = read_order(words, [])
    assert (order.counts, order.parts) == ((1, 2, 4), ("at-once",))
    assert (order.run.views.size, order.run.encoder.stem) == (96, "imagenet")
    assert (order.on("cpu").run.batch_size, order.on("cuda").run.batch_size) == (64, 256)
    assert order.on("cuda").warmup > 3  # no capture in a round
    asked = read_order(words, [("batch-size", "32")])
    assert (asked.on("cpu").run.batch_size, asked.on("cuda").run.batch_size) == (32, 32)


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_operations_and_values_are_those_counted_by_hand():
    b, side, channels, out = 5, 6, 7, 4
    width = channels * side * side
    convolution = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    linear = nn.Linear(width, out, bias=False)
    operations, every, products = count(lambda: linear(convolution(torch.empty(b, 3, side, side)).flatten(1)).sum())
    of_convolution, of_linear = 2 * b * side * side * 3 * channels * 9, 2 * b * width * out
    assert operations == 2 * of_convolution + 3 * of_linear  # pictures take no gradient
    x, w, y, m, z = b * 3 * side * side, channels * 27, b * width, width * out, b * out
    forward = (x + w + y) + (y + m + z)
    backward = 2 * (z + m + y) + (y + x + w + w)  # of matrix and of maps; of the kernel, whose weight is read too
    assert products == forward + backward
    assert every >= products + z


@pytest.mark.slow
def test_a_target_costs_a_forward_pass_more():
    byol, alone = (cost_of(run_of(small(c.BYOL(target=target)))) for target in (c.Frozen(), c.StopGradient()))
    both_ways = cost_of(run_of(small(c.SimCLR()))).operations  # nearly three times a forward pass
    assert 0.33 < (byol.operations - alone.operations) / both_ways < 0.45
    assert byol.parameters == alone.parameters


@pytest.mark.slow
def test_bfloat16_moves_half_the_activations():
    run = run_of(small(c.BYOL()))
    full, half = cost_of(run), cost_of(run_of(small(c.BYOL()), precision="bfloat16"))
    assert full.operations == half.operations
    assert full.bytes_products_only > half.bytes_products_only
    rest = 2 * half.bytes_every_operator - full.bytes_every_operator
    assert rest == 4 * (5 * full.parameters + 3 * (full.parameters - 16 * 8 - 8 - 16 * 8 - 16 * 3))  # SGD; target


def test_shares_are_of_the_ceilings():
    found = achieved(Cost(10**12, 4 * 10**9, 10**9, 1), Ceilings(4.0, "float32", 16.0), 0.5)
    assert found["tflops"] == 2
    assert found["share_of_tflops"] == 0.5
    assert found["gb_per_s_every_operator"] == 8
    assert found["share_of_gb_per_s_every_operator"] == 0.5
    assert found["share_of_gb_per_s_products_only"] == 0.125


# --- two commits ------------------------------------------------------------------------------------------------------

STUB = """
import json, pathlib, sys
words = sys.argv[1:]
rate = {rate}
out = pathlib.Path(words[words.index("--out") + 1])
record = dict(what="vergence bench", environment=dict(cores=2), step=dict(samples_per_s=dict(median=rate), rounds=[9]))
out.write_text(json.dumps(record | dict(views=dict(words=len(words)))))
"""


@pytest.fixture
def repository(compare, tmp_path, monkeypatch):
    """Three commits: without `bench`, with one, with one twice as fast; and a tree that is faster still."""

    def git(*words):
        settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", tmp_path, *settings, *words], check=True, capture_output=True)

    package = tmp_path / "src" / "vergence"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git("init", "--quiet")
    for name, rate in (("none", None), ("slow", 10), ("fast", 20), (None, 30)):
        (package / "__main__.py").write_text("" if rate is None else STUB.format(rate=rate))
        if rate is not None:
            (package / "bench").mkdir(exist_ok=True)
            (package / "bench" / "__init__.py").touch()
        if name is not None:
            git("add", ".")
            git("commit", "--quiet", "-m", name)
            git("tag", name)
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    return tmp_path


def test_two_commits_take_turns(compare, repository, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("compare") / "ab.json"
    compare.main(["slow", "fast", "--rounds", "2", "--out", str(out), "--", "--what", "step"])
    said = capsys.readouterr()
    assert [line.rpartition(" ")[2] for line in said.err.splitlines()] == ["slow", "fast", "slow", "fast"]
    found = json.loads(out.read_bytes())
    assert found["compared"]["step.samples_per_s"] == {"a": 10, "b": 20, "ratio": 2, "ratios": [2, 2]}
    assert found["compared"]["views.words"]["a"] == 5  # bench --what step --out FILE
    assert "environment.cores" not in found["compared"]
    worktrees = subprocess.run(["git", "-C", repository, "worktree", "list"], capture_output=True, text=True)
    assert len(worktrees.stdout.splitlines()) == 1


def test_the_tree_as_it_stands_is_compared_too(compare, repository, capsys):
    compare.main(["slow", "work", "--rounds", "1"])
    assert "3.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none", "work"], "has no `vergence bench`: it cannot be compared; choose a later commit"),
        (["nowhere", "work"], "nowhere: no such commit in"),
        (["slow", "work", "--rounds", "0"], "--rounds: must be at least 1"),
        (["slow", "work", "--", "--out=x"], "--out belongs before the --"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_compared_is_said_in_a_line(compare, repository, capsys, words, said):
    with pytest.raises(SystemExit) as left:
        compare.main(words)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert said in error


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_page_is_filled_between_its_marks_only(tables, measured, tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(measured[0]))
    page = fill(tables, "step", tmp_path)
    assert page.startswith("before\n\n<!-- table: step -->\n\n| where |")
    assert page.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in page
    assert tables.filled(page, tables.Files(tmp_path)) == page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["step", "views", "evaluation", "import", "at-once"])
def test_what_was_not_measured_is_said_to_be_not_run(tables, measured, tmp_path, name):
    assert "| CPU | not run |" in fill(tables, name, tmp_path)
    (tmp_path / "one.json").write_text(json.dumps(measured[0]))
    page = fill(tables, name, tmp_path)
    assert ("| GPU | not run |" in page) == (name != "import")
    assert ("| CPU | not run |" in page) == (name == "at-once")
    if name != "at-once":
        assert f"[a] {measured[0]['environment']['device_name']}" in page


@pytest.mark.slow
def test_a_record_of_a_gpu_takes_the_place_of_not_run(tables, measured, tmp_path):
    record = measured[0] | {"environment": measured[0]["environment"] | {"device": "cuda", "device_name": "a card"}}
    counts = [{"runs": 2, "threads_each": 1, "samples_per_s": 300.0, "over_one": 1.5}]
    (tmp_path / "gpu.json").write_text(json.dumps(record | {"at-once": {"counts": counts}}))
    page = fill(tables, "at-once", tmp_path)
    assert "| 2 | 1 | 300 | 1.50 |" in page
    assert "[a] a card" in page
    assert "| GPU | not run |" not in page


LINES = [
    {"device": "a CPU", "commit": "abcdef0", "date": "2026-01-02", "versions": {"torch": "2"}},
    {"what": "train", "peer": "vergence", "method": "byol", "batch": 64, "size": 96, "samples_per_s": 30, "kept": True},
    {"what": "train", "peer": "other", "method": "byol", "batch": 64, "size": 96, "samples_per_s": 5, "kept": False},
    {"what": "train", "peer": "other", "method": "byol", "batch": 64, "size": 96, "samples_per_s": 20, "kept": True},
    {"what": "aug", "peer": "other", "batch": 64, "size": 96, "views_per_s_core": 700, "kept": True},
]


def test_lines_of_a_comparison_become_a_table_for_each_piece_of_work(tables, tmp_path):
    (tmp_path / "peers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    page = fill(tables, "peers", tmp_path)
    assert "**BYOL, end to end, 96 px, batch 64**" in page
    assert "| vergence | 30 | one round | 1.00 |\n| other | 20 | one round | 1.50 |" in page
    assert "**views, 96 px, batch 64**" in page
    assert "a CPU; 2026-01-02, abcdef0; torch 2." in page


def test_lines_without_a_head_say_that_nothing_was_recorded(tables, tmp_path):
    (tmp_path / "peers.jsonl").write_text(json.dumps(LINES[1] | {"time": 86_400}) + "\n")
    assert "not recorded; 1970-01-02, not recorded." in fill(tables, "peers", tmp_path)


def test_files_that_are_there_make_tables(tables):
    files = tables.Files(tables.RESULTS)
    assert files.peers
    assert files.saves
    for name in tables.TABLES:
        tables.filled(PAGE.format(name), files)


@pytest.mark.parametrize(
    ("page", "said"),
    [(PAGE.format("speed"), "unknown table 'speed'"), ("<!-- table: step -->\n", "no `<!-- end -->`")],
    ids=["unknown", "open"],
)
def test_a_page_with_wrong_marks_is_refused(tables, tmp_path, page, said):
    with pytest.raises(SystemExit, match=said):
        tables.filled(page, tables.Files(tmp_path))


def test_an_outdated_page_is_noticed_and_mended(tables, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format("save"))
    assert tables.main(["--check", str(page)]) == 1
    assert "old" in page.read_text()
    assert tables.main([str(page)]) == 0
    assert tables.main(["--check", str(page)]) == 0


def test_the_page_is_what_the_files_say(tables):
    page = tables.PAGES[0]
    if not page.exists():
        pytest.skip("no docs/performance.md")
    assert tables.main(["--check", str(page)]) == 0, "run python benchmarks/tables.py"
