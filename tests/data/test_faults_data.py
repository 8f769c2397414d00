"""What is wrong with data, offered to the command: one line that names it, exit 2, nothing trained, nothing outside
changed. Rows 20 to 32 of docs/reliability.md, and what they stand for elsewhere: the other files here."""

import base64
import bz2
import contextlib
import gzip
import hashlib
import html.parser
import io
import json
import lzma
import os
import pickle
import re
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import EpsImagePlugin, Image

import soak
from data_files import member, packed, pictures, published, saved, surroundings, tar, unprivileged, zipped
from vergence.command import cli
from vergence.config import CIFAR10, STL10, Folder
from vergence.data import cifar, load
from vergence.data.extract import Limits, extract
from vergence.errors import InputError
from vergence.files.names import shown

pytestmark = [
    pytest.mark.wide,
    pytest.mark.filterwarnings("default"),  # the command prints warnings; its own are looked at
]

SMALL = (
    *("--encoder", "test_resnet", "--data.size", "16", "--views.size", "16", "--batch-size", "4", "--epochs", "1"),
    *("--projector.hidden", "16", "--projector.out", "8", "--predictor.hidden", "16", "--device", "cpu"),
    *("--threads", "1"),
)
NOISE = np.random.default_rng(0)


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def vergence(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command, in this process; what any of its libraries writes to the terminal is seen too."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = cli.main([str(word) for word in words])
        return Answer(code, *capfd.readouterr())

    return run


class Place:
    """A folder with data in it, and around it what must not change."""

    def __init__(self, folder: Path, vergence: Callable[..., Answer]):
        self.folder, self.vergence = folder, vergence
        self.data, self.out = folder / "data", folder / "out"
        self.data.mkdir()
        (folder / "outside").mkdir()
        (folder / "outside" / "file").write_text("untouched")

    def train(self, data: object, *more: object) -> Answer:
        return self.vergence("train", "byol", "--out", self.out, "--data", data, *SMALL, *more)

    def refusal(self, data: object, *more: object) -> str:
        """The one line that training on this data is answered with."""
        before, began = surroundings(self.folder, self.out), time.monotonic()
        answer = self.train(data, *more)
        assert time.monotonic() - began < 10
        assert answer.code == 2, answer
        assert answer.out == ""
        lines = answer.err.splitlines()
        assert [line[:7] for line in lines] == ["error: "], answer.err
        assert "Traceback" not in answer.err
        assert lines[0].isprintable()
        assert not (self.out / "run.json").exists()
        after = {path: what for path, what in surroundings(self.folder, self.out).items() if "/cache" not in path}
        assert after == {path: what for path, what in before.items() if "/cache" not in path}
        assert not [path for path in (self.folder / "cache").rglob("*") if path.name in ("scratch", "partial")]
        return lines[0]


@pytest.fixture
def place(quick: Path, vergence: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("VERGENCE_CACHE", str(quick / "cache"))
    monkeypatch.delenv("VERGENCE_DATA_DIR", raising=False)
    return Place(quick, vergence)


def draw(*paths: Path) -> None:
    """A picture of its own at each path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(Image.fromarray(NOISE.integers(0, 256, (16, 16, 3), np.uint8)), "PNG"))


# --- 20 to 23: pictures -----------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colours: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def flat_png(side: int) -> bytes:
    """A whole picture of one colour: `side` squared pixels in few bytes."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join([*(deflate.compress(row * 100) for _ in range(side // 100)), deflate.flush()])
    return png(side, side, chunk(b"IDAT", rows), depth=1, colours=0)


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """One directory: (tag, type, count, value) each; and where the next is said to lie."""
    inner = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + inner + struct.pack("<I", following)


def grey_tiff(width: int, height: int, following: int = 0) -> bytes:
    """One byte to a pixel, from the file's first byte on."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: width * height % 2**32}
    return tiff(*((tag, 4, 1, value) for tag, value in tags.items()), following=following)


BOMBS = {
    "header 50000.png": png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "header 8193.png": png(8193, 8193, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "header most.png": png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "header.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "header.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\0\0\0\0\x08\0\x08\0\0\x02\x01\0\0;",
    "frame.gif": b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0;",
    "header.ppm": b"P6 99999 99999 255\n" + bytes(1000),
    "header.pfm": b"Pf\n99999 99999\n-1.0\n" + bytes(1000),
    "header.tiff": grey_tiff(60_000, 60_000),
    "header.jpg": saved(Image.new("RGB", (16, 16)), "JPEG").replace(
        b"\x08\0\x10\0\x10\x03", b"\x08\xff\xff\xff\xff\x03"
    ),
    "header.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\x3f\xff\x03\0ALPH\0\0\0\0\0\0\0\0",
    "count.tiff": tiff((256, 4, 2**32 - 1, 8), (257, 4, 1, 8)),
    "streamed.png": flat_png(20_000),
    "text.png": png(8, 8, chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(60_000_000), 1)), chunk(b"IDAT", b"")),
    "profile.png": png(8, 8, chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(60_000_000), 1)), chunk(b"IDAT", b"")),
    "words.png": png(8, 8, *[chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(900_000), 1))] * 80),
}

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(%pipe%touch canary) (w) file\n%%EOF\n"
OTHERS = {
    "EPS": EPS,
    "PDF": saved(Image.new("RGB", (16, 16)), "PDF"),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "ICNS": saved(Image.new("RGB", (16, 16)), "ICNS"),
    "DDS": saved(Image.new("RGB", (16, 16)), "DDS"),
    "ICO": saved(Image.new("RGB", (16, 16)), "ICO"),
    "TGA": saved(Image.new("RGB", (16, 16)), "TGA"),
    "PCX": saved(Image.new("RGB", (16, 16)), "PCX"),
    "SGI": saved(Image.new("RGB", (16, 16)), "SGI"),
    "JPEG2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
    "XBM": saved(Image.new("1", (16, 16)), "XBM"),
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 16, 16, 8, 3) + bytes(2000),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(200),
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
}
_SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}
_KINDS = ("jpeg", "png", "webp", "bmp", "gif", "tiff, raw", "ppm")


def bad_pictures() -> dict[str, bytes]:
    """Files by name, none of which can be used."""
    whole = pictures()
    cases = {}
    for kind in _KINDS:
        plain = kind.partition(",")[0]
        data = whole[kind]
        for sixteenth in range(16):
            cases[f"cut {sixteenth:02}.{_SUFFIXES.get(plain, plain)}"] = data[: len(data) * sixteenth // 16]
        magic = data[:8]
        cases[f"magic.{_SUFFIXES.get(plain, plain)}"] = magic
        cases[f"magic and noise.{_SUFFIXES.get(plain, plain)}"] = magic + NOISE.bytes(3000)
    cases |= {
        "text.png": b"this is text\n",
        "page.jpg": b"<!doctype html><html><body><h1>404 Not Found</h1></body></html>",
        "script.gif": b"<script>alert(1)</script>",
        "json.webp": b'{"error": "quota exceeded"}',
        "newline.bmp": b"\n",
        "zeros.tif": bytes(10_000),
        "ones.ppm": b"\xff" * 10_000,
        **{f"noise {i}.png": NOISE.bytes(1 << i) for i in range(3, 14)},
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "small 1x1.png": saved(Image.new("RGB", (1, 1)), "PNG"),
        "small 1x10000.png": saved(Image.new("RGB", (1, 10_000)), "PNG"),
        "small 10000x1.png": saved(Image.new("RGB", (10_000, 1)), "PNG"),
        "small 7x16.gif": saved(Image.new("RGB", (7, 16)), "GIF"),
        "nan.tif": saved(Image.fromarray(np.full((16, 16), np.nan, np.float32)), "TIFF"),
        "inf.tif": saved(Image.fromarray(np.full((16, 16), np.inf, np.float32)), "TIFF"),
        **BOMBS,
    }
    for number, (kind, data) in enumerate(OTHERS.items()):
        cases[f"{kind}{('.png', '.jpg', '.gif', '.tif', '.webp')[number % 5]}"] = data
    return cases


BAD_PICTURES = bad_pictures()


def test_each_bad_picture_is_named_in_one_line(place: Place) -> None:
    draw(*(place.data / f"good {i}.png" for i in range(3)))
    assert len(BAD_PICTURES) >= 100
    for name, data in BAD_PICTURES.items():
        (place.data / name).write_bytes(data)
        line = place.refusal(place.data)
        assert f"1 of 4 pictures cannot be used: {name} (" in line, line
        assert line.endswith("mend or remove them, or leave them out with --data.bad-images skip"), line
        (place.data / name).unlink()
    soak.count("malformed inputs", len(BAD_PICTURES))
    assert place.train(place.data, "--batch-size", "3").code == 0  # it was the bad one each time


def test_many_bad_pictures_are_counted_and_the_first_named(place: Place) -> None:
    draw(*(place.data / f"good {i}.png" for i in range(3)))
    for i in range(5):
        (place.data / f"bad {i}.png").write_bytes(b"")
    line = place.refusal(place.data)
    assert "5 of 8 pictures cannot be used: bad 0.png (" in line
    assert "bad 2.png" in line
    assert "bad 3.png" not in line
    assert " and 2 more; " in line
    soak.count("malformed inputs", 5)


def test_bad_pictures_are_dropped_once_where_that_is_asked_for(place: Place) -> None:
    draw(*(place.data / f"good {i:02}.png" for i in range(20)))
    (place.data / "bad\x1b[31m.png").write_bytes(b"")
    answer = place.train(place.data, "--data.bad-images", "skip")
    assert answer.code == 0, answer.err
    (line,) = answer.err.splitlines()
    (listing,) = (place.folder / "cache").glob("*/bad.json")
    reason = "1 (not a picture of a known format)"
    assert line == f"warning: {place.data}: 1 pictures that cannot be used were left out: {reason}; {listing}"
    assert json.loads(listing.read_text()) == [
        {"name": "bad\\x1b[31m.png", "reason": "not a picture of a known format"}
    ]
    assert json.loads((place.out / "run.json").read_text())["pictures"] == 20
    for i in range(2):
        (place.data / f"bad {i}.png").write_bytes(b"")
    line = place.vergence("train", "byol", "--out", place.folder / "other", "--data", place.data, *SMALL).err
    assert "3 of 23 pictures cannot be used" in line
    line = place.vergence(
        *("train", "byol", "--out", place.folder / "other", "--data", place.data, *SMALL, "--data.bad-images", "skip")
    ).err
    assert "more than the 10% that may be skipped" in line


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="SKIPPED: no /proc to measure memory with")
def test_bombs_cost_neither_memory_nor_time(quick: Path) -> None:
    """In a process of its own, whose greatest memory is that of the bombs; the header is refused before any pixel."""
    for name, data in BOMBS.items():
        (quick / name).write_bytes(data)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from vergence.data.content import BadPicture, file_of\n"
        "from vergence.data.picture import decode, strict_pillow\n"
        "from vergence.data.scan import scan\n"
        # not getrusage: what it gives as a process's greatest memory counts that of its parent
        "def peak(): return int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]) >> 10\n"
        "root = Path(sys.argv[1]); found = scan(root).found; worst = 0\n"
        "with strict_pillow():\n"
        "    before = peak()\n"
        "    for file in found:\n"
        "        began = time.process_time()\n"
        "        try: decode(file_of(root, file), file.path, 16); sys.exit(f'{file.path} was decoded')\n"
        "        except BadPicture: worst = max(worst, time.process_time() - began)\n"
        "    refused = peak()\n"
        "waste = b'x' * (200 << 20); print(len(found), refused - before, peak() - refused, worst)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(quick)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    count, extra, checked, seconds = done.stdout.split()
    assert int(count) == len(BOMBS)
    assert int(checked) > 100  # a bomb would have shown
    assert int(extra) < 50
    assert float(seconds) < 1


def test_a_picture_whose_next_directory_is_itself_is_read_once(place: Place) -> None:
    (place.data / "nested.tif").write_bytes(grey_tiff(8, 8, following=8) + bytes(100))
    began = time.process_time()
    assert len(load(Folder(root=str(place.data), size=8), "pretrain", cache_dir=place.folder / "cache")) == 1
    assert time.process_time() - began < 2


def test_a_long_animation_is_read_as_its_first_frame_only(place: Place) -> None:
    frame = Image.fromarray(NOISE.integers(0, 256, (16, 16), np.uint8))
    frames = [Image.new("L", (16, 16), i % 256) for i in range(2000)]
    data = saved(frame, "GIF", save_all=True, append_images=frames)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2001  # pyright: ignore[reportAttributeAccessIssue]
    (place.data / "long.gif").write_bytes(data)
    began = time.process_time()
    with pytest.warns(
        UserWarning, match="1 files have more than one page or frame, 2001 at most: only the first is used"
    ):
        images = load(Folder(root=str(place.data), size=16), "pretrain", cache_dir=place.folder / "cache")
    assert time.process_time() - began < 2
    assert np.array_equal(images.pixels[0, 0].numpy(), np.asarray(frame))


def test_ghostscript_is_never_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = place.folder / "canary"
    programs = place.folder / "bin"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo "$@" >> \'{canary}\'\nexit 0\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with contextlib.suppress(OSError), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    assert canary.exists()  # Pillow left to itself does start it
    canary.unlink()
    draw(place.data / "good.png")
    for suffix in ("png", "jpg", "gif", "tiff", "webp", "bmp", "ppm"):
        (place.data / f"a.{suffix}").write_bytes(EPS)
        assert "1 of 2 pictures cannot be used" in place.refusal(place.data)
        (place.data / f"a.{suffix}").unlink()
        assert not canary.exists()
    soak.count("payloads", 7)


@pytest.mark.parametrize("suffix", ["eps", "ps", "pdf", "svg", "icns", "dds"])
def test_files_that_say_another_format_are_not_opened(place: Place, suffix: str) -> None:
    (place.data / f"a.{suffix}").write_bytes(pictures()["png"])
    assert "no pictures: found 0 folders, 1 other files" in place.refusal(place.data)
    soak.count("malformed inputs")


# --- 24 and 25: links, and what is no file ----------------------------------------------------------------------------


def test_links_that_double_are_counted_aloud(place: Place) -> None:
    draw(*(place.data / "a" / f"{i}.png" for i in range(8)))
    (place.data / "a" / "loop").symlink_to("..")
    (place.data / "a" / "double.png").hardlink_to(place.data / "a" / "0.png")
    seen = [files for _, _, files in os.walk(place.data, followlinks=True)]
    assert len(seen) > 30  # a walk that follows links goes round
    answer = place.train(place.data)
    assert answer.code == 0
    assert answer.err.splitlines() == [
        f"warning: {place.data}: 2 files and folders are reached twice, by links; each is used once"
    ]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def endpoint(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as unix, contextlib.chdir(path.parent):
        unix.bind(path.name)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except OSError as error:
        pytest.skip(f"SKIPPED: a device cannot be made here: {error}")


@pytest.mark.parametrize("make", [fifo, dangling, loop, endless, endpoint, device])
def test_what_is_no_file_is_named_and_never_waited_for(place: Place, make: Callable[[Path], None]) -> None:
    draw(*(place.data / f"{i}.png" for i in range(3)))
    make(place.data / "strange.png")
    assert "1 of 4 pictures cannot be used: strange.png (" in place.refusal(place.data)
    soak.count("malformed inputs")


@pytest.mark.parametrize("make", [fifo, dangling, loop, endpoint, Path.mkdir])
@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "data_batch_1.bin", "cifar-10-binary.tar.gz"])
def test_published_data_that_is_no_file(
    place: Place, make: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, url="http://127.0.0.1:9/x"))
    for other in (*cifar.TEN.binaries["train"], "readme"):
        if other != name and name.endswith(".bin"):
            (place.data / other).write_bytes(b"")
    make(place.data / name)
    began = time.monotonic()
    answer = place.train("cifar10", "--data-dir", place.data)
    assert answer.code == (4 if name.endswith(".gz") else 2), answer  # without an archive it is downloaded
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("error: ")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("data", ["folder", "cifar10", "stl10"])
def test_a_folder_without_permission_is_one_line(place: Place, data: str) -> None:
    draw(place.data / "0.png")
    place.folder.chmod(0o777)
    place.data.chmod(0)
    with unprivileged():
        with pytest.raises(PermissionError):
            list(place.data.iterdir())
        more = () if data == "folder" else ("--data-dir", place.data)
        line = place.refusal(place.data if data == "folder" else data, *more)
    place.data.chmod(0o755)
    assert str(place.data) in line
    assert "Permission denied" in line
    soak.count("malformed inputs")


# --- 26: names --------------------------------------------------------------------------------------------------------

NAMES = (
    *("<img src=x onerror=alert(1)>", '"><script>', "<script>alert(1)<", "new\nline", "\x1b[31mred", "right\u202eleft"),
    *("=cmd()", "+1", "@SUM(A1)", "x" * 251, "back\\slash", "[red]markup", "{{ 7 * 7 }}", "naïve 漢字"),
    os.fsdecode(b"bad\xff"),
)


class Tags(html.parser.HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))


@pytest.mark.slow
def test_hostile_names_through_training_terminal_log_and_report(place: Place) -> None:
    pages = []
    for kind, names in (("plain", [f"class {i}" for i in range(len(NAMES))]), ("hostile", NAMES)):
        root = place.data / (kind if kind == "plain" else os.fsdecode(b'h\xff"><script>\x1b[31m\n=cmd()'))
        out = place.folder / kind
        draw(*(root / name / f"{name if i == 2 else i}.png" for name in names for i in range(5)))
        answer = place.vergence("train", "byol", "--out", out, "--data", root, *SMALL)
        assert answer.code == 0, answer.err
        assert answer.err == ""
        evaluated = place.vergence("evaluate", out)
        assert evaluated.code == 0, evaluated.err
        reported = place.vergence("report", out, "--out", place.folder / f"{kind}.html")
        assert reported.code == 0, reported.err
        for text in (answer.out, evaluated.out, reported.out):
            assert not [c for c in text if not c.isprintable() and c != "\n"]
            text.encode()
        pages.append((place.folder / f"{kind}.html").read_text("utf-8"))
        for path in out.rglob("*.json*"):
            path.read_text("utf-8")  # nothing in them is no text
    # The splits, and with them scores and what is said of them, differ: how many sentences there are is no matter.
    said = {"text", "path", "p", "li", "span", "code", "pre", "dt", "dd", "strong", "em"}
    plain, hostile = (Counter(tag for tag, _ in Tags(page).tags if tag not in said) for page in pages)
    assert hostile == plain
    assert not [name for _, names in Tags(pages[1]).tags for name in names if name.startswith("on")]
    assert "default-src 'none'" in pages[1]
    assert "\x1b" not in pages[1]
    soak.count("malformed inputs", len(NAMES))


def test_bad_pictures_of_hostile_names_are_one_line_each(place: Place) -> None:
    draw(*(place.data / f"{i}.png" for i in range(3)))
    for name in NAMES:
        path = place.data / f"{name}.png"
        path.write_bytes(b"")
        assert f"cannot be used: {shown(path.name)} (" in place.refusal(place.data)
        path.unlink()
    soak.count("malformed inputs", len(NAMES))


# --- 27 to 29: too little data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "more", "says"),
    [
        ((), (), "no pictures: found 0 folders, 0 other files"),
        (("a/notes.txt", "b/data.csv"), (), "no pictures: found 2 folders, 2 other files"),
        (("a/1.png", "b/notes.txt"), (), "class folders without a picture: b"),
        (("a/1.png", "train/1.png"), (), "is train/ a split or a class like a/?"),
        (("test/1.png",), (), "has test/ but no train/"),
        (("train/a/1.png", "test/A/1.png"), (), "test/ has classes that train/ has not: A"),
        (tuple(f"{i}.png" for i in range(3)), ("--batch-size", "4"), "--batch-size: 4 is more than the 3 pictures"),
        (tuple(f"{i}.png" for i in range(3)), ("--batch-size", "1"), "--batch-size: must be at least 2, not 1"),
        (tuple(f"{i}.png" for i in range(3)), ("--subset", "4"), "--subset: 4 is more than the 3 pictures there are"),
        (tuple(f"{i}.png" for i in range(3)), ("--subset", "2"), "--batch-size: 4 is more than the 2 pictures"),
        (tuple(f"{i}.png" for i in range(3)), ("--subset", "0"), "--subset: must be at least 2"),
    ],
)
def test_too_little_is_refused_before_the_first_step(
    place: Place, files: tuple[str, ...], more: tuple[str, ...], says: str
) -> None:
    for name in files:
        draw(place.data / name) if name.endswith(".png") else (place.data / name).parent.mkdir(exist_ok=True)
        (place.data / name).touch()
    answer = place.train(place.data, *more)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not list(place.out.glob("checkpoints/*"))
    soak.count("malformed inputs")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([f"a/{i}.png" for i in range(10)], "all pictures are of one class, a"),
        ([f"{i}.png" for i in range(10)], "these pictures have no labels"),
        ([*(f"a/{i}.png" for i in range(4)), "b/0.png"], "there is only one test picture"),
    ],
)
def test_where_nothing_can_be_scored_training_runs_and_says_why(place: Place, names: list[str], reason: str) -> None:
    draw(*(place.data / name for name in names))
    answer = place.train(place.data)
    assert (answer.code, answer.err) == (0, "")
    assert f"not scored: {reason}" in answer.out.splitlines()
    answer = place.vergence("evaluate", place.out)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: folder: {reason}; there is nothing to score against\n"


def test_more_neighbours_than_pictures_are_lowered_and_it_is_said(place: Place) -> None:
    draw(*(place.data / name / f"{i}.png" for name in "ab" for i in range(10)))
    assert place.train(place.data).code == 0
    answer = place.vergence("evaluate", place.out, "--k", "1000", "--probes", "knn")
    assert answer.code == 0
    assert "16 nearest of 16 training pictures" in answer.out


def test_other_channels_constant_pictures_and_doubles_are_read_and_counted(place: Place) -> None:
    draw(*(place.data / part / "a" / f"{i}.png" for part in ("train", "test") for i in range(4)))
    noise = Image.fromarray(NOISE.integers(0, 256, (20, 31, 4), np.uint8), "RGBA")
    for mode, kind in (("RGBA", "png"), ("L", "png"), ("CMYK", "tif"), ("1", "bmp")):
        (place.data / "train" / "a" / f"{mode}.{kind}").write_bytes(
            saved(noise.convert(mode), {"tif": "TIFF"}.get(kind, kind.upper()))
        )
    (place.data / "train" / "a" / "flat.png").write_bytes(saved(Image.new("RGB", (16, 16), (1, 2, 3)), "PNG"))
    (place.data / "test" / "a" / "copy.png").write_bytes((place.data / "train" / "a" / "0.png").read_bytes())
    answer = place.train(place.data)
    assert answer.code == 0
    assert answer.err.splitlines() == [
        f"warning: {place.data}: 1 test pictures are among the training pictures too",
        f"warning: {place.data}: 1 of 14 pictures are of one colour; 1 of 14 pictures repeat another pixel by pixel; "
        "remove what is not meant",
    ]
    assert json.loads((place.out / "run.json").read_text())["pictures"] == 9


# --- 30: archives -----------------------------------------------------------------------------------------------------

WANTED = "test_batch.bin"
SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
_LONG = "d" * 247


def realpath_overflow() -> list[tuple[tarfile.TarInfo, bytes]]:
    """The shape of CVE-2025-4517: links so deep that resolving them gives up, and then one that leads out."""
    members, path, steps = [], "", "abcdefghijklmnop"
    for step in steps:
        members.append(member(f"{path}{_LONG}", kind=tarfile.DIRTYPE))
        members.append(member(f"{path}{step}", kind=SYM, link=_LONG))
        path += f"{_LONG}/"
    far = "/".join(steps) + "/" + "l" * 254
    members.append(member(far, kind=SYM, link="../" * len(steps)))
    members.append(member("escape", kind=SYM, link=far + "/../../../../outside"))
    members.append(member(f"escape/{WANTED}"))
    return members


def sparse_header() -> bytes:
    return tar([member("a", **{"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"})])  # type: ignore[arg-type]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def many_members(count: int) -> bytes:
    """A folder's header a million times: a thousand, packed once, a thousand times over."""
    thousand = gzip.compress(header("d/", 0, tarfile.DIRTYPE) * 1000)
    return thousand * (count // 1000)


def bad_archives() -> dict[str, bytes]:
    """Archives by what is wrong with them."""
    outside = [f"../outside/{WANTED}", f"a/../../outside/{WANTED}", f"/tmp/vergence-escaped/{WANTED}", "..", "../"]
    outside += [f"a/../../../{WANTED}", f"./../{WANTED}", f"//tmp/{WANTED}", f"{'a/' * 20}{'../' * 21}outside/{WANTED}"]
    outside += [f"..\\outside\\{WANTED}", f"C:\\{WANTED}", f"a/..\\..\\{WANTED}"]
    cases = {}
    for name in outside:
        cases[f"name {shown(name)}, in an extended header"] = packed([member(name)], tarfile.PAX_FORMAT)
        cases[f"name {shown(name)}, in a plain one"] = packed([member(name)], tarfile.GNU_FORMAT)
    for kind in (SYM, HARD):
        for target in ("../outside", "../outside/file", "/etc/passwd", "inside", f"{'../' * 10}etc", ""):
            cases[f"link {kind.decode()} to {target}"] = packed(
                [member("inside"), member("link", kind=kind, link=target), member(f"link/{WANTED}")]
            )
    kinds = {
        "pipe": b"6",
        "character device": b"3",
        "block device": b"4",
        "contiguous": b"7",
        "sparse": b"S",
        "odd": b"Z",
    }
    cases |= {f"kind {name}": packed([member(WANTED, kind=kind)], tarfile.GNU_FORMAT) for name, kind in kinds.items()}
    whole = packed([member(WANTED, NOISE.bytes(4000)), member("other", NOISE.bytes(4000))])
    cases |= {f"cut {i:02}": whole[: len(whole) * i // 16] for i in range(16)}
    wrong = bytearray(whole)
    wrong[-6] ^= 1
    no_text = b"18 hdrcharset=\xff\xfe\n".ljust(512, b"\0")
    cases |= {
        "CVE-2007-4559": packed([member(f"../../../../../../../../tmp/vergence-escaped/{WANTED}")]),
        "CVE-2025-4517": packed(realpath_overflow()),
        "CVE-2025-4138": packed([member("a/b", kind=SYM, link="../.."), member("c", kind=SYM, link="a/b/../outside")]),
        "CVE-2025-4330": packed([member("a", kind=SYM, link="b/.."), member("d", kind=HARD, link="a/../outside/file")]),
        "CVE-2025-12060": packed([member("x", kind=SYM, link="."), member(f"x/../../outside/{WANTED}")]),
        "CVE-2025-8194, negative size": gzip.compress(header("a", -1024) * 3 + bytes(10_240)),
        "CVE-2024-6232, long search": gzip.compress(header("p", 1 << 20, b"x") + b"1" * (1 << 20)),
        "path in an extended header": packed([member(WANTED, path=f"../outside/{WANTED}")]),
        "size in an extended header": packed([member(WANTED, size="-5")]),
        "no number in an extended header": gzip.compress(sparse_header()),
        "no text in an extended header": gzip.compress(header("p", 512, b"x") + no_text + header("a", 0) + bytes(1024)),
        "twice": packed([member(WANTED), member(WANTED)]),
        "twice, spelt differently": packed([member(WANTED), member(f"./{WANTED}")]),
        "a file, then a folder": packed([member("a"), member(f"a/{WANTED}")]),
        "a folder, then a file": packed([member(f"a/{WANTED}"), member("a")]),
        "a name of 256 bytes": packed([member("n" * 256), member(WANTED)]),
        "a name of 40,000 bytes": packed([member("n/" * 20_000 + WANTED)]),
        "a million members": many_members(1_000_000),
        "a bomb": packed([member(WANTED, bytes(30_000_000))]),
        "a bomb in a member that is not wanted": packed([member("other", bytes(30_000_000)), member(WANTED)]),
        "a bomb behind the end": gzip.compress(header(WANTED, 1 << 40) + bytes(10_000_000)),
        "a header that promises a terabyte": gzip.compress(header("././@LongLink", 1 << 40, b"L")),
        "a zip": zipped([WANTED]),
        "a zip with ..": zipped([f"../outside/{WANTED}"]),
        "a zip with backslashes": zipped([f"..\\outside\\{WANTED}"]),
        "a zip bomb": zipped([WANTED], bytes(10_000_000)),
        "a tar without gzip": tar([member(WANTED)]),
        "bzip2": bz2.compress(tar([member(WANTED)])),
        "xz": lzma.compress(tar([member(WANTED)])),
        "a gzip in a gzip": gzip.compress(packed([member(WANTED)])),
        "a zip in a gzip": gzip.compress(zipped([WANTED])),
        "a page": b"<html>not found</html>",
        "noise": NOISE.bytes(5000),
        "noise in a gzip": gzip.compress(NOISE.bytes(5000)),
        "zeros": bytes(10_000),
        "wrong checksum inside": bytes(wrong),
        "without the file that is wanted": packed([member("other")]),
        "empty": packed([]),
        "the file too short": packed([member(WANTED)]),
    }
    return cases


BAD_ARCHIVES = bad_archives()


def test_each_bad_archive_is_refused_in_one_line_and_writes_nowhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the checksum it should have: as if the publisher itself had been taken over."""
    assert len(BAD_ARCHIVES) >= 60
    path = place.data / cifar.TEN.archive.name
    for what, data in BAD_ARCHIVES.items():
        path.write_bytes(data)
        monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, checksum=hashlib.md5(data).hexdigest()))
        line = place.refusal("cifar10", "--data-dir", place.data)
        assert "refused" in line or "damaged" in line or "holds no" in line or "get it again" in line, (what, line)
        assert not any(entry.is_symlink() for entry in place.folder.rglob("*")), what
    assert not Path("/tmp/vergence-escaped").exists()
    soak.count("malformed inputs", len(BAD_ARCHIVES))


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "zip", "tar", "pkl", "npz", "npy", "h5", "pt"])
def test_an_archive_is_no_folder_of_pictures(place: Place, suffix: str) -> None:
    path = place.data / f"pictures.{suffix}"
    path.write_bytes(packed([member(WANTED)]))
    line = place.refusal(path)
    assert line.startswith(f"error: {path}: ")
    assert re.search("unpack it first|files that are read: .arrow, .csv|mend it, or get it again", line)


def test_a_header_is_searched_in_bounded_time(tmp_path: Path) -> None:
    """The longest header that is let through, of the shape of CVE-2024-6232."""
    (tmp_path / "a.tar.gz").write_bytes(
        gzip.compress((header("p", 8192, b"x") + b"1" * 8192 + header("d/", 0, b"5")) * 10)
    )
    began = time.process_time()
    with contextlib.suppress(InputError):
        extract(tmp_path / "a.tar.gz", tmp_path / "into")
    assert time.process_time() - began < 10


def test_a_million_members_are_not_counted_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(many_members(1_000_000))
    began = time.process_time()
    with pytest.raises(InputError, match="more than 1000 members"):
        extract(tmp_path / "a.tar.gz", tmp_path / "into", limits=Limits(ratio=10_000))
    assert time.process_time() - began < 2


# --- 32: code in data -------------------------------------------------------------------------------------------------


class Planted:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, canary: Path, how: Callable[..., Any] = os.mkdir):
        self.canary, self.how = canary, how

    def __reduce__(self):
        if self.how is os.mkdir:
            return os.mkdir, (str(self.canary),)
        code = f"__import__('os').mkdir({str(self.canary)!r})"
        return self.how, (f'python -c "{code}"' if self.how is os.system else code,)


def payloads(canary: Path) -> dict[str, bytes]:
    """Files that act when they are unpickled, each by another way."""
    objects = np.empty(1, object)
    objects[0] = Planted(canary)
    array, arrays, weights, old = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    np.savez(arrays, a=objects)
    torch.save({"a": Planted(canary)}, weights)
    torch.save({"a": Planted(canary)}, old, _use_new_zipfile_serialization=False)
    return {
        "mkdir": pickle.dumps(Planted(canary)),
        "protocol 0": pickle.dumps(Planted(canary), 0),
        "eval": pickle.dumps(Planted(canary, eval)),
        "exec": pickle.dumps(Planted(canary, exec)),
        "system": pickle.dumps(Planted(canary, os.system)),
        "numpy": array.getvalue(),
        "numpy archive": arrays.getvalue(),
        "torch": weights.getvalue(),
        "torch, old": old.getvalue(),
        "cifar, python version": pickle.dumps({b"data": Planted(canary), b"labels": [0]}),
    }


def works(data: bytes, canary: Path) -> bool:
    """Whether a payload acts when an unwary reader opens it."""
    with contextlib.suppress(Exception):
        pickle.loads(data)
    if not canary.exists():
        with contextlib.suppress(Exception):
            np.load(io.BytesIO(data), allow_pickle=True)["a"]
    if not canary.exists():
        with contextlib.suppress(Exception):
            torch.load(io.BytesIO(data), weights_only=False)
    acted = canary.exists()
    if acted:
        canary.rmdir()
    return acted


def test_no_payload_in_a_data_set_acts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = place.folder / "canary"
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, url="http://127.0.0.1:9/x"))
    offered = 0
    for what, data in payloads(canary).items():
        assert works(data, canary), what
        for name in ("a.png", "a.tiff", "a.npy", "a.pkl", "batches.meta"):  # in a folder of pictures
            draw(place.data / "good.png")
            (place.data / name).write_bytes(data)
            answer = place.train(place.data)
            assert answer.code == 2, (what, name)
            (place.data / name).unlink()
            offered += 1
        (place.data / "good.png").unlink()
        for name in ("data_batch_1", "data_batch_1.bin", "train-00000-of-00001.parquet", cifar.TEN.archive.name):
            for other in cifar.TEN.binaries["train"] if name.endswith(".bin") else ():
                (place.data / other).write_bytes(data)
            (place.data / name).write_bytes(data)
            checksum = hashlib.md5(data).hexdigest()
            monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, checksum=checksum))
            answer = place.train("cifar10", "--data-dir", place.data)
            assert answer.code in (2, 4), (what, name)  # 4: nothing of ours is there, and the server is not either
            assert len(answer.err.splitlines()) == 1
            for path in place.data.iterdir():
                path.unlink()
            offered += 1
        assert not canary.exists(), what
    soak.count("payloads", offered)


def test_the_python_version_of_cifar_under_the_binary_versions_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = place.folder / "canary"
    data = payloads(canary)["cifar, python version"]
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    archive = packed([member(f"cifar-10-batches-py/{name}", data) for name in names])
    (place.data / cifar.TEN.archive.name).write_bytes(archive)
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, checksum=hashlib.md5(archive).hexdigest()))
    assert "holds no data_batch_1.bin" in place.refusal("cifar10", "--data-dir", place.data)
    assert not canary.exists()
    assert works(data, canary)
    soak.count("payloads")


def test_a_pickle_as_labels_or_folds_of_stl(place: Place) -> None:
    canary = place.folder / "canary"
    for name in ("train_X.bin", "train_y.bin", "fold_indices.txt"):
        for what, data in payloads(canary).items():
            for other in ("train_X.bin", "train_y.bin", "fold_indices.txt"):
                (place.data / other).write_bytes(data if other == name else bytes([1]) * 27648)
            with pytest.raises(InputError):
                load(STL10(pretrain="train"), "train", data_dir=place.data, cache_dir=place.folder / "cache")
            assert not canary.exists(), (name, what)
    soak.count("payloads", 3 * len(payloads(canary)))


def test_a_pickle_in_the_cache_is_decoded_anew(place: Place) -> None:
    """numpy's allow_pickle (CVE-2019-6446), with a manifest that fits, by someone who may write to the cache."""
    canary, cache = place.folder / "canary", place.folder / "cache"
    draw(*(place.data / f"{i}.png" for i in range(3)))
    digest = load(Folder(root=str(place.data), size=16), "pretrain", cache_dir=cache).digest()
    (sealed,) = cache.glob("*/decoded")
    for name in ("labels.npy", "pixels.npy", "counts.json"):
        for what, data in payloads(canary).items():
            (sealed / name).write_bytes(data)
            manifest = json.loads((sealed / "manifest.json").read_text())
            manifest[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            (sealed / "manifest.json").write_text(json.dumps(manifest))
            assert load(Folder(root=str(place.data), size=16), "pretrain", cache_dir=cache).digest() == digest
            assert not canary.exists(), (name, what)
    soak.count("payloads", 3 * len(payloads(canary)))


def test_an_extension_type_in_a_parquet_file_runs_nothing(place: Place) -> None:
    """Arrow once unpickled a type named in a file's own metadata (CVE-2023-47248)."""
    canary = place.folder / "canary"
    planted = pickle.dumps(Planted(canary))
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    picture = saved(Image.new("RGB", (32, 32)), "PNG")
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": planted}
    schema = pa.schema([pa.field("image", image), pa.field("label", pa.int64(), metadata=kind)])
    rows = pa.table([pa.array([{"bytes": picture, "path": None}], image), pa.array([1], pa.int64())], schema=schema)
    pq.write_table(rows, place.data / "test-00000-of-00001.parquet")
    written = pq.read_metadata(place.data / "test-00000-of-00001.parquet").metadata
    assert planted in base64.b64decode(written[b"ARROW:schema"])
    with contextlib.suppress(InputError):
        load(CIFAR10(), "test", data_dir=place.data, cache_dir=place.folder / "cache")
    assert not canary.exists()
    assert works(planted, canary)
    soak.count("payloads")
