"""Configurations and logs that are not what they should be: hand-made, drawn from the schema, and mutated at random."""

import base64
import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from configurations import BYOL, SLOTS, WHOLE, WRONG, allowed, altered, leaves, takes_numbers, with_value
from soak import count, times
from vergence import config as c
from vergence.config.schema import from_dict, to_dict
from vergence.errors import InputError, VergenceError
from vergence.files import durable
from vergence.files.results import read_result
from vergence.files.run_folder import read_log, read_run
from vergence.metrics.verdict import Judge


def changed(**fields):
    return json.dumps(to_dict(BYOL) | fields).encode()


def inside(path, value):
    return json.dumps(altered(BYOL, tuple(path.split(".")), value)).encode()


BY_HAND = [
    b"",
    b" \n",
    b"\x00" * 1000,
    b"null",
    b"true",
    b"3",
    b"[]",
    b'"byol"',
    b"{}",
    b"{",
    b'{"method"',
    b'{"method": "byol"}',
    b'{"method": ["byol"]}',
    b'{"method": {"kind": "byol"},}',
    b"{'method': {'kind': 'byol'}}",
    b"method: {kind: byol}\n",
    b"method:\n\tkind: byol\n",
    b"[run]\nmethod = 'byol'\n",
    b"!!python/object/apply:os.system ['true']",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"<html><body>404 Not Found</body></html>",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"PK\x03\x04" + b"\x00" * 60,
    b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    b"\xef\xbb\xbf" + WHOLE.encode(),
    WHOLE.encode("utf-16"),
    WHOLE.encode("utf-32"),
    WHOLE.replace("resnet18", "\u00e9").encode("latin-1").replace(b"\\u00e9", b"\xe9"),
    WHOLE.encode()[:-1],
    WHOLE.encode() + b"}",
    WHOLE.encode() + WHOLE.encode(),
    b"// a comment\n" + WHOLE.encode(),
    b'{"seed": 1, ' + WHOLE.encode()[1:-1] + b', "seed": 2}',
    b'{"run": {}, "run": {}}',
    b'{"run": []}',
    b'{"run": {"run": {}}}',
    b"[" * 100_000,
    b'{"method":' * 100_000,
    with_value("[" * 900 + "]" * 900),
    with_value("NaN"),
    with_value("Infinity"),
    with_value("-Infinity"),
    with_value("1e400"),
    with_value("-1e400"),
    with_value("1" + "0" * 400),
    with_value("1" + "0" * 5000),
    with_value("0x10"),
    with_value("01"),
    with_value("+1"),
    with_value("1_000"),
    with_value("True"),
    with_value("null"),
    with_value("-0.1"),
    with_value('"0.1"'),
    with_value('"\\ud800"'),
    changed(_target_="os.system"),
    changed(method={"_target_": "os.system", "kind": "byol"}),
    changed(method={"kind": "os.system"}),
    changed(method={"kind": "vergence.methods.byol.BYOL"}),
    changed(data={"kind": "folder"}),
    changed(data={"kind": "folder", "root": 3}),
    changed(data={"kind": "folder", "root": ["a"]}),
    changed(epochs=True),
    changed(epochs=1.0),
    changed(epochs="ten"),
    changed(epochs=-1),
    changed(epochs=5, horizon=3),
    changed(batch_size=1),
    changed(seed=2**32),
    changed(seed=-1),
    changed(epoch=3),
    changed(**{"": 1}),
    changed(**{"a\nb\x1b[31m": 1}),
    changed(**{"k" * 100_000: 1}),
    changed(schedule={"kind": "cosine", "warmup_epochs": 10}),
    changed(schedule={"kind": "cosine", "warmup_epochs": 1e308}),
    inside("views.size", 200),
    inside("views.size", 7),
    inside("views.mean", [0.5]),
    inside("views.std", [0, 0, 0]),
    inside("views.first.crop_scale", [1, 0.2]),
    inside("views.first.crop_scale", [0.2, 1.1]),
    inside("views.second.hue", 0.6),
    inside("method.target.decay", 1.01),
    inside("method.projector.norm", "bathc"),
    inside("method.projector.layers", 0),
    inside("optimizer.momentum", 2),
    inside("optimizer.layers", "encoder"),
]


def drawn(number, seed):
    """Configurations with one value of a wrong type or out of range, at any field of any class there is."""
    chance = random.Random(seed)
    while number > 0:
        _, run = chance.choice(SLOTS)
        path, annotation, _ = chance.choice(list(leaves(c.Run, run)))
        wrong = chance.choice(WRONG)
        may_be_right = takes_numbers(annotation) and isinstance(wrong, float) and abs(wrong) < 10
        if may_be_right or type(wrong) in allowed(annotation):
            continue
        yield json.dumps(altered(run, path, wrong)).encode()
        number -= 1


READER = """
import base64, contextlib, io, json, sys, time
from pathlib import Path
from vergence.command.cli import main
path, answers = Path(sys.argv[1]), []
for line in sys.stdin:
    path.write_bytes(base64.b64decode(line))
    errors, began = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(errors):
        code = main(["train", "--config", str(path), "--track", "nobody"])  # what is accepted is refused for this
    answers.append([code, errors.getvalue(), time.monotonic() - began])
heavy = sorted({"torch", "numpy", "timm", "PIL", "rich"} & set(sys.modules))
print(json.dumps({"answers": answers, "heavy": heavy}))
"""


def test_every_malformed_configuration_gets_its_lines_before_torch_is_loaded(tmp_path):
    total = times(150, 400)
    cases = [*BY_HAND, *drawn(total - len(BY_HAND), seed=0)]
    assert len(cases) == total
    path = tmp_path / "run.json"
    read = subprocess.run(
        [sys.executable, "-c", READER, str(path)],
        input="".join(base64.b64encode(case).decode() + "\n" for case in [WHOLE.encode(), *cases]),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    said = json.loads(read.stdout)
    assert said["heavy"] == []
    assert said["answers"][0][1].startswith("error: --track")  # the whole one is accepted
    for case, (code, errors, seconds) in zip(cases, said["answers"][1:], strict=True):
        assert code == 2, case[:300]
        for line in errors.splitlines():
            assert line.startswith(f"error: {path}: "), (case[:300], line)
            assert len(line) < 500
            assert line.isprintable()
        assert errors
        assert seconds < 1, case[:300]
    count("malformed inputs", total)


FIELDS = list(leaves(c.Run, BYOL))
UNUSABLE = [{}, [{}] * 3, float("nan"), float("inf"), True]


@settings(max_examples=times(100, 2000), deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(UNUSABLE)), min_size=1, max_size=8))
def test_all_that_is_wrong_is_named_at_once(wrong):
    data = to_dict(BYOL)
    for (path, _, _), value in wrong:
        node = data
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
    with pytest.raises(InputError) as caught:
        from_dict(c.Run, data, "run.json")
    lines = str(caught.value).splitlines()
    for path in {path for (path, _, _), _ in wrong}:
        assert any(line.startswith(f"run.json: {'.'.join(path)}") for line in lines), (path, lines)
    count("malformed inputs")


# --- fuzz -------------------------------------------------------------------------------------------------------------

TOKENS = [*b'{}[]":,.-+eE\\\n\t \x00\xff\xef01', b"null", b"true", b"NaN", b"1e999", b'"kind"', b'"run"', b"\\ud800"]
TOKENS = [token if isinstance(token, bytes) else bytes([token]) for token in TOKENS]


def mutated(data, chance):
    """The bytes after one to four changes: bits, tokens, pieces lost, doubled or swapped."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        to = min(len(changed), at + chance.choice([1, 1, 2, 8, 64]))
        match chance.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:at] = chance.choice(TOKENS)
            case 2:
                changed[at:to] = chance.choice(TOKENS)
            case 3:
                del changed[at:to]
            case _:
                changed[at:at] = changed[at:to] * chance.choice([1, 3])
    return bytes(changed)


@pytest.mark.slow
def test_nothing_but_our_error_comes_out_of_a_mutated_configuration(tmp_path):
    chance, path, total = random.Random(1), tmp_path / "run.json", times(2000, 100_000)
    seeds = [json.dumps(to_dict(run)).encode() for _, run in SLOTS]
    refused = 0
    for _ in range(total):
        data = mutated(chance.choice(seeds), chance)
        path.write_bytes(data)
        try:
            assert read_run(path).key
        except VergenceError:
            refused += 1
    assert refused > total / 2
    count("fuzz executions", total)


NAMES = st.sampled_from(sorted({part for path, _, _ in FIELDS for part in path} | {"kind", "run"}))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["byol", "sgd"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | NAMES, inner, max_size=6),
    max_leaves=12,
)


@pytest.mark.slow
@settings(
    max_examples=times(500, 20_000),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.dictionaries(NAMES, JSON, max_size=8), st.sampled_from([run for _, run in SLOTS]))
def test_nothing_but_our_error_comes_out_of_a_made_up_structure(parts, run):
    for data in (parts, to_dict(run) | parts):
        with contextlib.suppress(VergenceError):
            assert from_dict(c.Run, data).key
    count("fuzz executions")


def a_line(step):
    numbers = {"loss": 1.5, "pos_cos": 0.9, "neg_cos": 0.25, "z_std": 0.8, "effective_rank": 12.3, "terms": {"a": 1.0}}
    return {"step": step, "epoch": step / 5, **numbers, "verdict": "healthy", "seconds": 0.1, "images_per_second": 9.0}


SUMMARY = {"verdict": {"state": "healthy", "rule": "", "numbers": {}}, "knn": {"accuracy": 50.0, "protocol": ""}} | {
    "key": BYOL.key,
    "encoder": "of the last checkpoint",
    "verdict": {"state": "healthy", "rule": "a rule"},
    "final": dict.fromkeys(("loss", "pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank"), 0.5),
    "seconds": 1.5,
    "images_per_second": 20.0,
    "environment": {"device_name": "a processor"},
}


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"run": to_dict(BYOL)}))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "metrics.jsonl").write_bytes(LOG)
    return tmp_path


LOG = "".join(json.dumps(a_line(step)) + "\n" for step in range(1, 7)).encode()


@pytest.mark.slow
def test_nothing_but_our_error_comes_out_of_a_mutated_log(run_folder):
    chance, path, total = random.Random(2), run_folder / "metrics.jsonl", times(2000, 100_000)
    refused = shortened = 0
    for _ in range(total):
        path.write_bytes(mutated(LOG, chance))
        assert all(isinstance(line, dict) for line in durable.read_lines(path))
        for done in (None, 3):
            try:
                lines = read_log(path, done)
            except VergenceError:
                refused += 1
                continue
            shortened += len(lines) < (done or 6)
            judge = Judge(8)
            for line in lines:
                judge.hear(line)
        try:
            result = read_result(run_folder)
        except VergenceError:
            continue
        for metric in ("loss", "terms.a", "online.knn.accuracy", ("layers", "encoder.conv1")):
            result.course(metric)
            result.mean(metric)
    assert refused > total / 10
    assert shortened > 0
    count("fuzz executions", total)


@pytest.mark.slow
def test_nothing_but_our_error_comes_out_of_a_mutated_summary(run_folder):
    chance, path, total = random.Random(3), run_folder / "summary.json", times(500, 20_000)
    whole, refused = json.dumps(SUMMARY).encode(), 0
    for _ in range(total):
        path.write_bytes(mutated(whole, chance))
        try:
            result = read_result(run_folder)
            assert result.verdict is None or isinstance(result.verdict, str)
            assert result.accuracy("knn") is None or result.accuracy("knn") < 1e400
        except VergenceError:
            refused += 1
    assert refused > total / 4
    count("fuzz executions", total)


# --- logs -------------------------------------------------------------------------------------------------------------

LINES = LOG.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (LOG, 6),
        (b"", 0),
        (LOG[:-1], 6),
        (LOG[:-20], 5),
        (LOG + b"\x00" * 4096, 6),
        (LOG + b"[" * 100_000, 6),
        (LOG + b'{"step": 7}\n', 6),
        (LOG + json.dumps(a_line(7) | {"loss": float("nan")}).encode(), 6),
        (LOG + json.dumps(a_line(7) | {"loss": "1"}).encode(), 6),
        (LOG + json.dumps(a_line(7) | {"loss": 0.5}).replace("0.5", "1e999").encode(), 6),
    ],
    ids=["whole", "empty", "no newline", "torn", "zeros", "nested", "no numbers", "NaN", "text", "infinite"],
)
def test_the_end_of_a_log_may_be_missing(run_folder, content, steps):
    (run_folder / "metrics.jsonl").write_bytes(content)
    assert [line["step"] for line in read_log(run_folder / "metrics.jsonl")] == list(range(1, steps + 1))


@pytest.mark.parametrize("bad", [b"\n\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"step": 3, "epo\n', b'{"step": "3"}\n'])
def test_a_gap_in_a_log_is_named(run_folder, bad):
    path = run_folder / "metrics.jsonl"
    path.write_bytes(b"".join([*LINES[:2], bad, *LINES[3:]]))
    with pytest.raises(InputError, match="line 3 is damaged; delete it to go on without it"):
        read_log(path)
    assert "metrics.jsonl: line 3 is damaged: left out" in read_result(run_folder).gaps
    assert [line["step"] for line in read_log(path, 2)] == [1, 2]  # it will be written again
    path.write_bytes(b"".join([*LINES[:2], *LINES[3:]]))
    assert len(read_result(run_folder).lines) == 5


def test_the_log_is_not_there(run_folder):
    Path(run_folder / "metrics.jsonl").unlink()
    assert read_result(run_folder).lines == []
