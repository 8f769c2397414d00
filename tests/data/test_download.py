"""Downloads, against a server on loopback that misbehaves on demand."""

import contextlib
import hashlib
import http.server
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from pathlib import Path

import pytest

from data_files import published
from vergence.command import cli
from vergence.data import cifar, download
from vergence.data.download import SameScheme, fetch
from vergence.errors import InputError, MachineError

BODY = bytes(range(256)) * 4000  # about 1 MB
MD5, SHA256 = hashlib.md5(BODY).hexdigest(), hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY, and does what its mood says."""

    mood = "good"
    cut = len(BODY)
    base = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.closing = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        mood = self.server.mood
        if mood == "missing":
            self.send_error(404)
        elif mood == "slow head":
            self.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Wait: a little longer\r\n" * 1000)
        elif mood == "slow body":
            self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY)
        elif mood == "nonsense":
            self.wfile.write(b"\x1b[31m no answer\r\n\r\n")
        elif mood == "silent":
            self.server.closing.wait(10)
        elif mood == "redirect" and self.path == "/":
            self.send_response(302)
            self.send_header("Location", self.server.base)
            self.end_headers()
        elif mood == "page":
            self.reply(200, b"<html>Down for maintenance</html>", "text/html")
        else:
            ranges = asked and mood not in ("no ranges", "all as a range")
            offset = int(asked.removeprefix("bytes=").removesuffix("-")) if ranges else 0
            if offset and offset >= len(BODY):
                self.send_error(416)
            else:
                self.reply(
                    206 if offset or mood == "all as a range" else 200, BODY[offset:], "application/gzip", offset
                )

    def drip(self, data: bytes) -> None:
        """A few bytes now and then, for as long as the client has patience."""
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), 4):
                self.wfile.write(data[start : start + 4])
                if self.server.closing.wait(0.02):
                    return

    def reply(self, status: int, body: bytes, kind: str, offset: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.server.mood != "endless":
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {offset}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        try:
            self.wfile.write(body[: self.server.cut])
            while self.server.mood == "endless":
                self.wfile.write(BODY)
        except ConnectionError:
            pass  # the client has had enough


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.base = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.mood = "good"
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_a_good_download_has_its_name_and_nothing_else(server: Server, tmp_path: Path, checksum: str) -> None:
    fetch(server.base, tmp_path / "new" / "file", checksum)
    assert (tmp_path / "new" / "file").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_cut_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.cut = 300_000
    with pytest.raises(MachineError, match="cut after 300000 of 1024000 bytes; start again"):
        fetch(server.base, tmp_path / "file", SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]
    server.cut = len(BODY)
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.asked == [None, "bytes=300000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    server.mood = "no ranges"
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_server_that_sends_all_as_a_range_is_asked_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    server.mood = "all as a range"
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.asked == ["bytes=1000-"]


@pytest.mark.parametrize("part", [BODY, BODY + b"too long", b"x" * 1000, b"x" * len(BODY)])
def test_whatever_lies_in_the_part_file_the_result_is_right(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.part").write_bytes(part)
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_wrong_checksum_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"checksum {MD5} instead of 0000") as error:
        fetch(server.base, tmp_path / "file", "0" * 32)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_error_page_is_named(server: Server, tmp_path: Path) -> None:
    server.mood = "page"
    with pytest.raises(InputError, match="33 bytes of text/html"):
        fetch(server.base, tmp_path / "file", MD5)
    assert not list(tmp_path.iterdir())


def test_a_refusal_is_one_line(server: Server, tmp_path: Path) -> None:
    server.mood = "missing"
    with pytest.raises(MachineError, match="answered 404") as error:
        fetch(server.base, tmp_path / "file", MD5)
    assert "\n" not in str(error.value)


def test_an_endless_body_stops_at_the_limit(server: Server, tmp_path: Path) -> None:
    server.mood = "endless"
    with pytest.raises(InputError, match=r"3000001 bytes .* checksum"):
        fetch(server.base, tmp_path / "file", MD5, limit=3_000_000)


@pytest.mark.parametrize(
    ("mood", "says"),
    [
        ("slow head", "only [0-9]+ bytes in 0.3 seconds; start again"),
        ("slow body", "only [0-9]+ bytes in 0.3 seconds; start again"),
        ("silent", "timed out; start again"),
    ],
)
def test_no_server_holds_us_for_ever(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: str, says: str
) -> None:
    """Each byte comes in time; only all of them would not."""
    monkeypatch.setattr(download, "_SECONDS", 0.3)
    server.mood = mood
    began = time.monotonic()
    with pytest.raises(MachineError, match=says):
        fetch(server.base, tmp_path / "file", SHA256)
    assert time.monotonic() - began < 10
    assert server.asked == [None]
    server.mood = "good"
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_slow_start_is_forgiven(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the last half minute, not the mean."""
    monkeypatch.setattr(download, "_SECONDS", 0.01)
    monkeypatch.setattr(download, "_LEAST", 1)
    server.mood = "good"
    fetch(server.base, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY


def test_an_answer_that_is_none_is_printable(server: Server, tmp_path: Path) -> None:
    server.mood = "nonsense"
    with pytest.raises(MachineError, match="connection was cut") as error:
        fetch(server.base, tmp_path / "file", SHA256)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "target",
    ["http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://a..b/", "http://\x1b[31m/", "http:///"],
)
def test_redirects_to_nowhere_are_one_line(server: Server, tmp_path: Path, target: str) -> None:
    server.mood, server.base = "redirect", target
    with pytest.raises(MachineError) as error:
        fetch(f"http://127.0.0.1:{server.server_port}/", tmp_path / "file", MD5)
    assert str(error.value).isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mood", "cut", "code", "says"),
    [
        ("missing", 0, 4, "the server answered 404 Not Found; try again later, or put cifar-10-binary.tar.gz into"),
        ("page", 33, 2, "the server sent 33 bytes of text/html"),
        ("good", 5000, 4, "the connection was cut after 5000 of 1024000 bytes; start again to continue"),
        ("redirect", 0, 4, "redirected from http to ftp://127.0.0.1/x, which is refused"),
        ("good", len(BODY), 2, "damaged: Not a gzipped file"),  # all of it came: BODY is no archive
    ],
)
def test_the_command_says_what_went_wrong(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mood: str,
    cut: int,
    code: int,
    says: str,
) -> None:
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERGENCE_DATA_DIR", raising=False)
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, url=url, checksum=MD5))
    server.mood, server.cut = mood, cut
    if mood == "redirect":
        server.base = "ftp://127.0.0.1/x"
    words = ["train", "byol", "--data", "cifar10", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main(words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    kept = {5000: [cifar.TEN.archive.name + ".part"], len(BODY): [cifar.TEN.archive.name]}.get(cut, [])
    assert [path.name for path in (tmp_path / "cache" / "downloads").iterdir() if path.name != ".lock"] == kept


def test_no_server_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="refused"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file", MD5)


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.mood = "redirect"
    fetch(server.base.removesuffix("file"), tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_to_other_schemes_are_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.mood, server.base = "redirect", target
    with pytest.raises(MachineError):
        fetch(f"http://127.0.0.1:{server.server_port}/", tmp_path / "file", MD5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        ("https", "https", True),
        ("http", "https", True),
        ("http", "http", True),
        ("https", "http", False),
        ("https", "HTTP", False),
        ("https", "ftp", False),
        ("http", "ftp", False),
    ],
)
def test_https_never_falls_back(old: str, new: str, follows: bool) -> None:
    request = urllib.request.Request(f"{old}://example.org/a")

    def redirected() -> urllib.request.Request | None:
        return SameScheme().redirect_request(request, BytesIO(), 302, "Found", Message(), f"{new}://example.org/b")

    if follows:
        result = redirected()
        assert result is not None
        assert result.full_url == f"{new}://example.org/b"
    else:
        with pytest.raises(urllib.error.URLError, match="refused"):
            redirected()


def test_only_http_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an http or https address"):
        fetch("file:///etc/passwd", tmp_path / "file", MD5)


def test_the_pace_is_of_each_half_minute_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plenty in the first stretch does not pay for the next one."""
    clock = iter([0.0, 10.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr(download.time, "monotonic", lambda: next(clock))
    read = download._paced(BytesIO(bytes(32 << 10)).readinto)
    assert read(bytearray(16 << 10)) == 16 << 10
    assert read(bytearray(15 << 10)) == 15 << 10  # 31 KiB in 31 s: enough, and a new stretch begins
    assert read(bytearray(512)) == 512
    with pytest.raises(TimeoutError, match="only 1024 bytes in 30 seconds"):
        read(bytearray(512))


def test_a_stream_that_ended_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(download.time, "monotonic", lambda: next(clock))
    assert download._paced(BytesIO().readinto)(bytearray(512)) == 0


def test_what_is_complete_already_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY)
    fetch(server.base, tmp_path / "file", SHA256, limit=len(BODY))
    assert server.asked == []
    assert (tmp_path / "file").read_bytes() == BODY
    assert not (tmp_path / "file.part").exists()


def test_a_disk_that_refuses_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(
        MachineError, match=r"cannot write .*file\.part: .*: free some space there, or set VERGENCE_CACHE"
    ):
        fetch(server.base, tmp_path / "file", SHA256, limit=1 << 30)
