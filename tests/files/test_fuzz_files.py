"""Whatever stands in a checkpoint or a run's folder, only our own errors come out, and a page holds text for text."""

import json
import random
import re
import shutil
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import soak
from pages import PLAIN, page_of
from pages import RUN as SHOWN
from pages import lines as log_lines
from pages import summary as summary_of
from vergence import config as c
from vergence.config.schema import to_dict
from vergence.engine import checkpoint
from vergence.errors import VergenceError
from vergence.files import durable
from vergence.optim import build_optimizer
from vergence.report.compare import runs_page
from vergence.report.page import render, to_markdown

ODD = (
    *(None, True, -1, 0, 1e308, -1e308, 10**400, 0.5, "", "x", "\x00\n\x1b", "\ud800", [], {}, [[]], {"": None}),
    *(float("nan"), float("inf"), float("-inf"), "../../secret", "<script>", [1, "2"], {"kind": "byol"}, 2**63, 3),
)
"""Values that stand where others are expected."""

# --- checkpoints ------------------------------------------------------------------------------------------------------


def changed_bytes(data, chance):
    """The bytes with a few of them other, missing, doubled, or more."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at, width = chance.randrange(len(data) + 1), chance.choice([1, 1, 2, 8, 64])
        match chance.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + width] = b""
            case 2:
                data[at:at] = chance.randbytes(width)
            case 3:
                data[at:at] = data[at : at + width]
            case _:
                data[at : at + width] = chance.choice([b"\xff", b"\x00", b"9", b"[", b'"']) * width
    return bytes(data)


def changed_value(value, chance):
    """JSON with one of its values, keys or elements other, missing or more."""
    places = [*walked(value)]
    parent, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(["", "step", "params", "lr", "x" * 300, "\ud800"])] = chance.choice(ODD)
        case 2:
            other, place = chance.choice(places)
            parent[key] = json.loads(json.dumps(other[place])) if place in keys(other) else None
        case _:
            parent[key] = chance.choice(ODD)
    return value


def keys(value):
    return value.keys() if isinstance(value, dict) else range(len(value))


def walked(value):
    """Every container of a JSON value, with each of its keys."""
    if isinstance(value, dict | list):
        for key in keys(value):
            yield value, key
            yield from walked(value[key])


def changed_tensors(data, chance):
    """A file of safetensors with another header, whose length is right or nearly so."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if chance.random() < 0.3:
        text = changed_bytes(data[8 : 8 + length], chance)
    else:
        text = json.dumps(changed_value(header, chance)).encode("utf-8", "surrogatepass")
    said = len(text) if chance.random() < 0.9 else chance.choice([0, 1, len(text) - 1, len(text) + 1, 2**40, 2**64 - 1])
    return struct.pack("<Q", max(0, said)) + text + data[8 + length :]


OPTIMIZERS = {"sgd": c.SGD(lr=0.1), "adam": c.Adam(lr=0.1), "lars": c.LARS(lr=0.1)}


@pytest.fixture(scope="module", params=OPTIMIZERS)
def whole(request, tmp_path_factory):
    """Networks of a few weights and their optimizer, and the files of their checkpoint."""
    networks = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
    optimizer = build_optimizer(OPTIMIZERS[request.param], networks)
    for parameter in networks.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    folder = checkpoint.save(tmp_path_factory.mktemp("fuzz"), 1, networks, optimizer, {"key": "k"})
    return networks, optimizer, durable.read_folder(folder)


def one_line(error):
    assert len(str(error).splitlines()) == 1, str(error)


def read_back(folder, method, optimizer, files):
    """Through the reader of a resume: a sealed folder, whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seal = {name: durable._entry(data) for name, data in files.items()}
    for name, data in {**files, durable.MANIFEST: json.dumps(seal).encode()}.items():
        (folder / name).write_bytes(data)
    return checkpoint.load_newest(folder.parent, method, optimizer, {"key": "k"})


@pytest.mark.slow
def test_a_checkpoint_behind_its_seal_gives_only_our_errors(whole, tmp_path):
    method, optimizer, files = whole
    wanted, chance, refused = soak.times(2000, 100_000) // 3 + 1, random.Random(6), 0
    folder = checkpoint.folder_of(tmp_path, 1)
    assert read_back(folder, method, optimizer, files) == (1, [])
    for number in range(wanted):
        name = chance.choice(["state.json", "optimizer.safetensors", "method.safetensors"])
        if chance.random() < 0.3:
            data = changed_bytes(files[name], chance)
        elif name == "state.json":
            state = changed_value(json.loads(files[name]), chance)
            data = json.dumps(state).encode("utf-8", "surrogatepass")
        else:
            data = changed_tensors(files[name], chance)
        try:
            done, warnings = read_back(folder, method, optimizer, files | {name: data})
            assert (type(done), warnings) == (int, [])
        except VergenceError as error:
            refused += 1
            one_line(error)
        except Exception as error:
            raise AssertionError(f"number {number}: {name}: {data[:400]!r}") from error
    assert refused > wanted // 4  # most changes are seen; others are values that may stand there
    soak.count("fuzz executions", wanted)


@pytest.mark.slow
def test_a_seal_gives_only_our_errors(whole, tmp_path):
    """The manifest itself, and the names beside it."""
    _, _, files = whole
    wanted, chance = soak.times(700, 34_000), random.Random(7)
    folder = tmp_path / "sealed"
    small = {name: data[:64] for name, data in files.items()}
    durable.write_folder(folder, small)
    whole_seal = (folder / durable.MANIFEST).read_bytes()
    assert durable.read_folder(folder) == small
    for number in range(wanted):
        if chance.random() < 0.5:
            data = changed_bytes(whole_seal, chance)
        else:
            data = json.dumps(changed_value(json.loads(whole_seal), chance)).encode("utf-8", "surrogatepass")
        (folder / durable.MANIFEST).write_bytes(data)
        try:
            assert durable.read_folder(folder) == small  # a space more, or a name twice
        except VergenceError as error:
            one_line(error)
        except Exception as error:
            raise AssertionError(f"number {number}: {data!r}") from error
    soak.count("fuzz executions", wanted)


# --- pages ------------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=[]), max_size=40) | st.sampled_from(
    [
        *(
            "<script>alert(1)</script>",
            "</script>",
            "</style>",
            "<!--",
            "]]>",
            "'\"` onload=x ",
            "javascript:x",
            "&lt;",
        ),
        *("{{ 7 * 7 }}", "{% raise %}", "\u202e", "\x1b[31m", "\ud800", "=1+1", "url(http://x)", "<svg/onload=x>"),
    ]
)


class Parsed(HTMLParser):
    """Tags with their attributes, and how deep they nest."""

    VOID = frozenset(("meta", "img", "path", "rect", "circle", "line", "use"))

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag


ALLOWED = {tag for tag, _ in Parsed(render(page_of(PLAIN))).tags}
ATTRIBUTES = {name for _, attributes in Parsed(render(page_of(PLAIN))).tags for name in attributes} | {"open"}
"""The section of a run that stands alone is open."""


def safe(page):
    """A page of text, tables and drawings that loads nothing and runs its own script only."""
    found = Parsed(page)
    assert {tag for tag, _ in found.tags} <= ALLOWED
    assert {name for _, attributes in found.tags for name in attributes} <= ATTRIBUTES
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    policies = [a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")
    for tag, attributes in found.tags:
        assert (attributes.get("href") or "#").startswith("#"), tag
        assert (attributes.get("src") or "data:image/png").startswith("data:image/png"), tag
        assert not re.search(r"url\(|expression|@import", attributes.get("style") or ""), attributes
    page.encode()


def test_the_check_of_a_page_can_fail():
    page = render(page_of(PLAIN))
    safe(page)
    for bad in ("<script>x</script>", "<iframe></iframe>", '<a href="http://x">x</a>', "<b onclick=x>b</b>", "<p>"):
        with pytest.raises(AssertionError):
            safe(page.replace("</main>", f"{bad}</main>"))


@settings(max_examples=soak.times(60, 4000), deadline=None, derandomize=True, database=None)
@pytest.mark.slow
@given(st.tuples(TEXT, TEXT, TEXT).filter(lambda names: names[0] != names[1]))
def test_any_text_stays_text_on_a_page(names):
    page = page_of(names)
    safe(render(page))
    to_markdown(page)
    soak.count("fuzz executions")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=soak.times(300, 10_000),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.slow
@given(chance=st.randoms(use_true_random=False), value=VALUES, name=TEXT, which=st.sampled_from("slr"))
def test_any_run_is_shown_or_named(tmp_path, chance, value, name, which):
    """Summary, log and run with any value in any place: the page is built, and is safe."""
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    log = log_lines(epochs=1)
    parts = {"s": summary_of(SHOWN, log, 60.0), "l": {"lines": log}, "r": {"run": to_dict(SHOWN)}}
    parts = json.loads(json.dumps(parts))  # nothing of it is anybody else's
    parent, key = chance.choice([*walked(parts[which])])
    parent[key] = value
    if isinstance(parent, dict) and chance.random() < 0.3:
        parent[name] = value
    write = {"s": "summary.json", "r": "run.json"}
    for part, file in write.items():
        (folder / file).write_text(json.dumps(parts[part]))
    log = parts["l"].get("lines")
    log = log if isinstance(log, list) else [log]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    page, problems = runs_page([folder, tmp_path / "none"], show_views=False)
    assert tmp_path / "none" in problems
    assert len(page.runs) + len(problems) == 2
    safe(render(page))
    to_markdown(page)
    soak.count("fuzz executions")


FILES = ("run.json", "metrics.jsonl", "summary.json")


@pytest.mark.slow
def test_a_mutated_folder_is_shown_or_named(tmp_path):
    """Bytes of a run's files changed: the page is built from what is left."""
    wanted, chance = soak.times(1640, 86_000), random.Random(8)
    folder = tmp_path / "run"
    folder.mkdir()
    log = log_lines(epochs=1)
    whole = {
        "run.json": json.dumps({"run": to_dict(SHOWN)}),
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in log),
        "summary.json": json.dumps(summary_of(SHOWN, log, 60.0)),
    }
    for number in range(wanted):
        spoilt = chance.choice(FILES)
        for name, text in whole.items():
            data = changed_bytes(text.encode(), chance) if name == spoilt else text.encode()
            (folder / name).write_bytes(data)
        try:
            page, _ = runs_page([folder], show_views=False)
            if number % 20 == 0:  # a page takes ten times as long as its content
                safe(render(page))
        except Exception as error:
            raise AssertionError(f"number {number}: {spoilt}: {(folder / spoilt).read_bytes()[:400]!r}") from error
    soak.count("fuzz executions", wanted)


def test_the_unchanged_folder_is_whole(tmp_path):
    """What the mutations start from is shown without a gap."""
    log = log_lines()
    for name, text in {
        "run.json": json.dumps({"run": to_dict(SHOWN)}),
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in log),
        "summary.json": json.dumps(summary_of(SHOWN, log, 60.0)),
    }.items():
        Path(tmp_path / name).write_text(text)
    page, problems = runs_page([tmp_path], show_views=False)
    assert (problems, page.failures) == ({}, {})
