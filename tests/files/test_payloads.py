"""No file runs code: each payload is offered as checkpoint, run, configuration, log, picture and cached pixels."""

import contextlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

import payloads
import soak
from small_runs import VARIANTS, run_of
from vergence import methods
from vergence.command import cli
from vergence.config.schema import to_dict
from vergence.data import load as load_images
from vergence.data.extract import extract
from vergence.engine import checkpoint
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.results import read_result
from vergence.optim import build_optimizer
from vergence.runs import load_encoder, open_model, run_training

pytestmark = pytest.mark.wide

PAYLOADS = payloads.PAYLOADS
RUN = run_of(VARIANTS["byol"], epochs=1, subset=16)

KNOWN = {
    **{payload.cve: name for name, payload in PAYLOADS.items() if payload.cve},
    "CVE-2023-1177": "test_a_manifest_cannot_name_files_elsewhere",
    "CVE-2007-4559": "test_an_archive_stays_in_its_folder",
    "CVE-2025-12060": "test_an_archive_stays_in_its_folder",
    "MLflow, stored markup": "test_markup_in_a_run_is_text_on_its_page",
}
"""Each known hole of this kind, and the payload or test that stands for it."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("payloads") / "run"
    run_training(RUN, folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The command's own files, its cache among them, land in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERGENCE_DATA_DIR", raising=False)


def vergence(*words):
    """The exit code of a command, and its lines of errors: nothing else may stand there but warnings."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = cli.main([str(word) for word in words])
    lines = [line for line in errors.getvalue().splitlines() if not line.startswith("warning: ")]
    assert all(line.startswith("error: ") and len(line) < 2000 for line in lines), lines
    return code, lines


def newest(run):
    return checkpoint.found(run / "checkpoints")[-1]


def resealed(folder, changed):
    """The sealed folder with other files, as whoever hands it on can seal it."""
    files = durable.read_folder(folder) | changed
    shutil.rmtree(folder)
    durable.write_folder(folder, files)


def test_there_are_enough_and_each_known_hole_has_one():
    assert len(PAYLOADS) >= 30
    assert set(KNOWN) >= {
        *("CVE-2025-32434", "CVE-2026-24747", "CVE-2026-31221", "CVE-2026-4372", "CVE-2020-1747", "CVE-2020-14343"),
        *("CVE-2019-6446", "CVE-2025-12060", "CVE-2023-1177", "CVE-2007-4559"),
    }
    assert all(name in PAYLOADS or name in globals() for name in KNOWN.values())
    assert sum(payload.victim is not None for payload in PAYLOADS.values()) >= 20


@pytest.mark.parametrize("name", [name for name, payload in PAYLOADS.items() if payload.victim])
def test_a_payload_is_live(name, tmp_path):
    """Opened by a loader that trusts it, it runs: or the tests below would prove nothing."""
    canary = tmp_path / "canary"
    data = PAYLOADS[name].make(canary)
    assert not canary.exists()
    payloads.detonate(PAYLOADS[name], data)
    assert canary.exists()


@pytest.fixture
def offered(request, tmp_path):
    """A payload's bytes; afterwards, its canary is not there."""
    canary = tmp_path / "canary"
    yield PAYLOADS[request.param].make(canary)
    assert not canary.exists(), "the payload ran"
    soak.count("payloads")


every = pytest.mark.parametrize("offered", PAYLOADS, indirect=True)


@every
def test_offered_as_a_checkpoint(offered, run):
    """Its seal is right, so that the payload comes to the readers behind it."""
    method = methods.build(RUN)
    optimizer = build_optimizer(RUN.optimizer, method)
    whole = {path.name: path.read_bytes() for path in newest(run).iterdir() if path.name != durable.MANIFEST}
    for name in whole:
        resealed(newest(run), whole | {name: offered})
        with pytest.raises(InputError, match="not a checkpoint of this run"):
            checkpoint.load_newest(run / "checkpoints", method, optimizer, {"key": RUN.key})
    resealed(newest(run), whole | {"method.safetensors": offered})
    with pytest.raises(InputError):
        load_encoder(run)
    for words in (("evaluate", run), ("train", "--config", run / "run.json", "--out", run, "--resume")):
        (run / "summary.json").unlink(missing_ok=True)
        code, lines = vergence(*words)
        assert (code, len(lines)) == (2, 1), lines


@every
def test_offered_as_weights_to_start_from(offered, tmp_path):
    """Whatever the file is called, and also as a trained model, whose readers are told apart by its name."""
    for name in ("x.pth", "x.safetensors", "x.bin"):
        (file := tmp_path / name).write_bytes(offered)
        words = ("train", "byol", "--data", "digits", "--encoder", "test_resnet", "--encoder.weights", file)
        code, lines = vergence(*words, "--out", tmp_path / "out")
        assert (code, len(lines)) == (2, 1), lines
        assert not (tmp_path / "out").exists()
        with pytest.raises(InputError):
            open_model(file, encoder="test_resnet")
    for name in ("x.pt2", "x.ts", "x.onnx"):
        (file := tmp_path / name).write_bytes(offered)
        with pytest.raises(InputError):
            open_model(file)


@every
def test_offered_unsealed_in_a_checkpoint(offered, run, tmp_path):
    """In the place of a file, beside the files, and as the manifest."""
    folder = newest(run)
    whole = shutil.copytree(folder, tmp_path / "whole")
    for name in ("method.safetensors", "more.pkl", durable.MANIFEST):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(offered)
        code, lines = vergence("evaluate", run)
        assert (code, len(lines)) == (2, 2), lines  # what is damaged, and that no other checkpoint is left
        assert "no whole checkpoint left" in lines[-1]


@every
def test_offered_as_a_run(offered, run, tmp_path):
    for path in (tmp_path / "config.json", run / "run.json"):
        path.write_bytes(offered)
    assert_refused(vergence("train", "--config", tmp_path / "config.json"))
    assert_refused(vergence("train", "--config", tmp_path / "config.json", "--out", run, "--resume"))
    assert_refused(vergence("evaluate", run))
    assert_refused(vergence("report", run, "--no-views"))
    with pytest.raises(InputError):
        load_encoder(run)


def assert_refused(answer, most=8):
    """One line, but for a configuration, of which every problem is said."""
    code, lines = answer
    assert code == 2
    assert 1 <= len(lines) <= most


@every
def test_offered_as_summary_and_log(offered, run):
    (run / "metrics.jsonl").write_bytes(offered)
    code, lines = vergence("report", run, "--no-views")
    assert (code, lines) == (0, [])
    assert "metrics.jsonl: missing, or empty: no curves" in Path("report.html").read_text()
    (run / "summary.json").write_bytes(offered)
    with pytest.raises(InputError, match=r"summary\.json"):
        read_result(run)
    assert_refused(vergence("report", run, "--no-views"))
    assert_refused(vergence("train", "--config", run / "run.json", "--out", run))


@every
def test_offered_as_pictures(offered, tmp_path):
    root = tmp_path / "pictures"
    for name in ("a/1.png", "b/2.jpg", "b/3.tiff"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(offered)
    assert_refused(vergence("train", "byol", "--data", root, "--encoder", "test_resnet"), most=1)


@pytest.mark.parametrize("offered", [n for n in PAYLOADS if n.startswith(("numpy", "pickle, os"))], indirect=True)
@pytest.mark.parametrize("name", ["labels.npy", "pixels.npy", "identity.json"])
def test_offered_as_cached_pixels(offered, name, tmp_path):
    """An entry of the cache that is none is decoded anew; the payload's entry has its seal."""
    from PIL import Image

    from vergence.config import Folder

    for kind in "ab":
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(6):
            image = Image.linear_gradient("L").rotate(40 * i + 20 * (kind == "b")).resize((16, 16))
            image.save(tmp_path / "pictures" / kind / f"{i}.png")
    config, cache = Folder(root=str(tmp_path / "pictures"), size=16), tmp_path / "cache"
    before = load_images(config, "pretrain", cache_dir=cache)
    (entry,) = cache.glob("*/decoded")
    data = {path.name: path.read_bytes() for path in entry.iterdir() if path.name != durable.MANIFEST}
    shutil.rmtree(entry)
    durable.write_folder(entry, data | {name: offered})
    assert load_images(config, "pretrain", cache_dir=cache).digest() == before.digest()


# --- names that lead elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/../../secret", "..", "", "secret\n", "\x00", "\ud800"])
def test_a_manifest_cannot_name_files_elsewhere(name, run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    name = str(secret) if name == "/secret" else name
    folder = newest(run)
    seal = json.loads((folder / durable.MANIFEST).read_text())
    seal[name] = {"bytes": 6, "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}
    (folder / durable.MANIFEST).write_text(json.dumps(seal))
    with pytest.raises(InputError, match="its files are not those of its manifest"):
        durable.read_folder(folder)
    assert_refused(vergence("evaluate", run))
    assert secret.read_bytes() == b"secret"
    soak.count("payloads")


@pytest.mark.parametrize("kind", ["link", "link to its own place", "pipe", "folder", "manifest is a link", "device"])
def test_a_checkpoint_holds_plain_files_only(kind, run, tmp_path):
    """A link with the right content is refused too: it is the content of another file of this machine."""
    folder = newest(run)
    path = folder / (durable.MANIFEST if kind.startswith("manifest") else "method.safetensors")
    moved = path.rename((folder if kind.endswith("place") else tmp_path) / "moved")
    if "link" in kind:
        path.symlink_to(moved)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match="is no plain file"):
        durable.read_folder(folder)
    assert_refused(vergence("evaluate", run))
    soak.count("payloads")


@pytest.mark.parametrize("name", ["run.json", "summary.json", "metrics.jsonl"])
def test_a_run_with_a_pipe_in_it_does_not_hang(name, run):
    (run / name).unlink()
    os.mkfifo(run / name)
    code, lines = vergence("report", run, "--no-views")
    assert (code, len(lines)) == ((2, 1) if name == "run.json" else (0, 0))
    soak.count("payloads")


@pytest.mark.parametrize("name", ["\x1b[31mred", "step-1\nerror: all is well", "step-٣"])
def test_a_folder_named_to_fool_is_no_checkpoint(name, run):
    shutil.copytree(newest(run), run / "checkpoints" / f"step-{name}")
    assert len(checkpoint.found(run / "checkpoints")) == 1
    assert load_encoder(run)


@pytest.mark.parametrize("kind", ["up", "absolute", "link, then through it"])
def test_an_archive_stays_in_its_folder(kind, tmp_path):
    canary, out = tmp_path / "canary", io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        name = {"up": "../canary", "absolute": str(canary)}.get(kind, "a/canary")
        if kind.startswith("link"):
            link = tarfile.TarInfo("a")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            archive.addfile(link)
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"true"))
    (tmp_path / "archive.tar.gz").write_bytes(out.getvalue())
    (tmp_path / "into").mkdir()
    with pytest.raises(InputError):
        extract(tmp_path / "archive.tar.gz", tmp_path / "into" / "out")
    assert not canary.exists()
    soak.count("payloads")


# --- names that would be imported, and markup -------------------------------------------------------------------------

IMPORTS = {
    "a key": lambda run: run | {"_target_": "os.mkdir", "_args_": ["canary"]},
    "a kind": lambda run: run | {"optimizer": {"kind": "os.mkdir"}},
    "a class": lambda run: run | {"method": {"kind": "vergence.config.BYOL", "__class__": "os.mkdir"}},
    "an encoder": lambda run: run | {"encoder": {"name": "__import__('os').mkdir('canary')"}},
    "an encoder of a hub": lambda run: run | {"encoder": {"name": "hf-hub:some/model"}},
    "an encoder of a folder": lambda run: run | {"encoder": {"name": "local-dir:."}},
    "a template": lambda run: run | {"encoder": {"name": "{{ cycler.__init__.__globals__.os.mkdir('canary') }}"}},
    "a shell": lambda run: run | {"encoder": {"name": "$(mkdir canary)`mkdir canary`; mkdir canary\nerror: x"}},
    "a root": lambda run: run | {"data": {"kind": "folder", "root": "$(mkdir canary)|mkdir canary"}},
}


@pytest.mark.parametrize("name", IMPORTS)
def test_a_configuration_names_nothing_that_is_run(name, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(IMPORTS[name](to_dict(RUN))))
    assert_refused(vergence("train", "--config", path, "--out", tmp_path / "out"), most=2)
    assert not (tmp_path / "canary").exists()
    soak.count("payloads")


MARKUP = "<script>alert(1)</script></script><img src=x onerror=alert(2)>\u2028\x1b[31m{{ 7 * 7 }}"


def test_markup_in_a_run_is_text_on_its_page(run, tmp_path):
    lines = durable.read_lines(run / "metrics.jsonl")
    for line in lines:
        line |= {"verdict": MARKUP, MARKUP: 1.0, "layers": {MARKUP: {"weight": 1.0}}}
        line["online"] = {"knn": {"accuracy": 50.0, "protocol": MARKUP}}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = json.loads((run / "summary.json").read_text())
    summary["verdict"] = {"state": MARKUP, "rule": MARKUP}
    summary["knn"] = {"accuracy": 50.0, "protocol": MARKUP}
    summary["environment"] |= {"device_name": MARKUP, MARKUP: MARKUP}
    (run / "summary.json").write_text(json.dumps(summary))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["train", "--config", str(run / "run.json"), "--out", str(run)]) == 0
    assert "\x1b" not in out.getvalue()
    assert vergence("report", run, "--no-views") == (0, [])
    page = Path("report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1
    assert "<img src=x" not in page
    assert "49" not in page.split("alert(2)", 1)[1][:40]
    assert "\x1b" not in page
    soak.count("payloads")


def test_a_run_is_what_it_was_before(trained):
    """The fixture all of this started from can be read."""
    assert load_encoder(trained)
    assert replace(read_result(trained).run, seed=3) != RUN
