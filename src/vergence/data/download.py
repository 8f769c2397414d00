"""Fetch a file once and exactly."""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.names import shown

_BLOCK = 1 << 20
_SECONDS = 30  # without one byte from the server
_LEAST = 30 << 10  # bytes in so many seconds: a server that sends a byte now and then would hold us for ever
_AGAIN = "start again to continue where it stopped"


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

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        old, new = (urllib.parse.urlsplit(url).scheme.lower() for url in (req.full_url, newurl))
        if new != "https" and (old, new) != ("http", "http"):
            raise urllib.error.URLError(f"redirected from {old} to {shown(newurl)}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any):
        with contextlib.closing(fp):  # whatever comes of it
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Paced(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens http and https addresses whose answers, heads and bodies, are read by `_paced`."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> http.client.HTTPResponse:
        def respond(*args: Any, **options: Any) -> http.client.HTTPResponse:
            response = http.client.HTTPResponse(*args, **options)
            socket: Any = response.fp.raw
            socket.readinto = _paced(socket.readinto)
            return response

        def connect(*args: Any, **options: Any) -> http.client.HTTPConnection:
            connection = http_class(*args, **options)
            connection.response_class = respond
            return connection

        return super().do_open(connect, req, **options)


def _paced(readinto: Callable[[Any], int | None]) -> Callable[[Any], int | None]:
    """Return a function that reads as `readinto` does, until that is less than `_LEAST` bytes in `_SECONDS`."""
    since, received = time.monotonic(), 0

    def read(buffer: Any, /) -> int | None:
        nonlocal since, received
        count = readinto(buffer)
        received += count or 0
        if count and (now := time.monotonic()) > since + _SECONDS:
            if received < _LEAST:
                raise TimeoutError(f"only {received} bytes in {_SECONDS} seconds")
            since, received = now, 0
        return count

    return read


def _receive(url: str, part: Path, limit: int) -> str:
    """Append to `part` what is missing; return how many bytes it now holds and of which type, in words."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"expected an http or https address, not {url}")
    offset = part.stat().st_size if part.exists() else 0
    if offset >= limit:  # complete, if it is the file at all: the checksum decides
        return f"{offset} bytes"
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        with urllib.request.build_opener(SameScheme, _Paced).open(request, timeout=_SECONDS) as answer:
            continues = answer.status == 206 and str(answer.headers["Content-Range"]).startswith(f"bytes {offset}-")
            length, kind = str(answer.headers["Content-Length"]), answer.headers.get_content_type()
            total = (offset if continues else 0) + int(length) if length.isdecimal() else 0
            with _disk(part):
                file = open(part, "ab" if continues else "wb")  # noqa: SIM115, closed below
            with file:
                # one byte beyond the limit is enough to make the checksum wrong; a server must not fill the disk
                while (left := limit + 1 - file.tell()) > 0 and (block := answer.read(min(_BLOCK, left))):
                    with _disk(part):
                        file.write(block)
                        file.flush()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing after the offset: complete, or not the file; the checksum decides
            return f"{offset} bytes"
        reason = shown(str(error.reason))
        raise MachineError(f"{url}: the server answered {error.code} {reason}; try again later") from error
    except urllib.error.URLError as error:
        raise MachineError(f"{url}: {shown(str(error.reason))}; {_AGAIN}") from error
    except (ValueError, OverflowError) as error:  # an address that is none, in a redirect
        said = shown(str(error))
        raise MachineError(f"{url}: the server's answer makes no sense: {said}; try again later") from error
    except (OSError, http.client.HTTPException) as error:
        said = shown(str(error) or type(error).__name__)
        raise MachineError(f"{url}: the connection was cut: {said}; {_AGAIN}") from error
    if (size := part.stat().st_size) < total <= limit:
        raise MachineError(f"{url}: the connection was cut after {size} of {total} bytes; {_AGAIN}")
    return f"{size} bytes of {shown(kind)}"


@contextlib.contextmanager
def _disk(part: Path) -> Iterator[None]:
    """Say in one line why nothing can be written."""
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
