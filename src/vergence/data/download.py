"""Fetch a file once and exactly."""

import contextlib
import hashlib
import http.client
import io
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.names import shown

_BLOCK = 1 << 20
_SECONDS = 30  # without one byte from the server
_LEAST = 30 << 10  # bytes in so many seconds: a server that sends a byte now and then would hold us for ever


def fetch(url: str, path: Path, checksum: str, *, limit: int = 8 << 30) -> None:
    """Download a file; it gets its name only when its checksum is right.

    What an earlier start received stays in `<path>.part` and is continued, unless the server cannot.

    Raises:
        InputError: what the server sent is not the file.
        MachineError: no connection, a refusal, or a connection that was cut or is slower than a kilobyte a second.
    """
    durable.make_folder(path.parent)
    part = path.with_name(path.name + ".part")
    resumed = part.exists() and part.stat().st_size > 0
    sent = _receive(url, part, limit)
    if resumed and _digest(part, checksum) != checksum:  # the beginning was of another file: once more, from zero
        part.unlink()
        sent = _receive(url, part, limit)
    if (found := _digest(part, checksum)) != checksum:
        part.unlink()
        raise InputError(
            f"{url}: the server sent {sent}, checksum {found} instead of {checksum}; "
            f"nothing was kept; try again later, or put {path.name} into the folder given by --data-dir"
        )
    durable.seal_file(part, path)


class SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else, and never to a scheme other than http and https."""

    def http_error_302(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any):
        """The answer to the redirected request; the first connection is closed whatever comes of it."""
        with contextlib.closing(fp):
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        """The request that follows a redirect; see the base class."""
        old, new = (urllib.parse.urlsplit(url).scheme.lower() for url in (req.full_url, newurl))
        if new != "https" and (old, new) != ("http", "http"):
            raise urllib.error.URLError(f"redirected from {old} to {shown(newurl)}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Paced(io.RawIOBase):
    """What a socket receives, until that is less than `_LEAST` bytes in `_SECONDS`."""

    def __init__(self, raw: io.RawIOBase):
        self._raw, self._since, self._received = raw, time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        count = self._raw.readinto(buffer)
        self._received += count or 0
        if count and (now := time.monotonic()) > self._since + _SECONDS:
            if self._received < _LEAST:
                raise TimeoutError(f"only {self._received} bytes in {_SECONDS} seconds")
            self._since, self._received = now, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any):
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Paced(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    response_class = _PacedResponse


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _PacedResponse


class _Opener(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _SecureOpener(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)


def _receive(url: str, part: Path, limit: int) -> str:
    """Append to `part` what is missing; how many bytes it now holds and of which type, in words."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"expected an http or https address, not {url}")
    offset = part.stat().st_size if part.exists() else 0
    if offset >= limit:  # complete, if it is the file at all: the checksum decides
        return f"{offset} bytes"
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    again = "start again to continue where it stopped"
    try:
        with urllib.request.build_opener(SameScheme, _Opener, _SecureOpener).open(
            request, timeout=_SECONDS
        ) as response:
            continues = response.status == 206 and str(response.headers["Content-Range"]).startswith(f"bytes {offset}-")
            total = _store(response, part, offset if continues else 0, limit)
            kind = response.headers.get_content_type()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing after the offset: complete, or not the file; the checksum decides
            return f"{offset} bytes"
        raise MachineError(
            f"{url}: the server answered {error.code} {shown(str(error.reason))}; try again later"
        ) from error
    except urllib.error.URLError as error:
        raise MachineError(f"{url}: {shown(str(error.reason))}; {again}") from error
    except (ValueError, OverflowError) as error:  # an address that is none, in a redirect
        raise MachineError(
            f"{url}: the server's answer makes no sense: {shown(str(error))}; try again later"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise MachineError(
            f"{url}: the connection was cut: {shown(str(error) or type(error).__name__)}; {again}"
        ) from error
    if total is not None and part.stat().st_size < total:
        raise MachineError(f"{url}: the connection was cut after {part.stat().st_size} of {total} bytes; {again}")
    return f"{part.stat().st_size} bytes of {shown(kind)}"


def _store(response: http.client.HTTPResponse, part: Path, offset: int, limit: int) -> int | None:
    """Write the body behind `offset`; how long the file should now be, where the server says so."""
    length = response.headers["Content-Length"]
    total = offset + int(length) if length is not None and length.isdecimal() else None
    with _open_at(part, offset) as file:
        # one byte beyond the limit is enough to make the checksum wrong; a server must not fill the disk
        while (left := limit + 1 - file.tell()) > 0 and (block := response.read(min(_BLOCK, left))):
            with _explained(part):
                file.write(block)
                file.flush()
    return None if total is not None and total > limit else total


def _open_at(part: Path, offset: int) -> BinaryIO:
    with _explained(part):
        return open(part, "ab" if offset else "wb")


@contextlib.contextmanager
def _explained(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free some space there, or set VERGENCE_CACHE to a folder that can be written"
        raise MachineError(f"cannot write {shown(part)}: {error.strerror or error}: {advice}") from error


def _digest(path: Path, checksum: str) -> str:
    """The file's checksum, of the kind that `checksum` is of."""
    with open(path, "rb") as file:
        # MD5 tells damage, not malice; it is all that some publishers give
        return hashlib.file_digest(file, "sha256" if len(checksum) == 64 else "md5").hexdigest()


def check(path: Path, checksum: str, advice: str) -> None:
    """Compare a file with its checksum.

    Raises:
        InputError: they differ; ends with the advice.
    """
    if (found := _digest(path, checksum)) != checksum:
        raise InputError(f"{shown(path)}: checksum {found} instead of {checksum}: {advice}")
