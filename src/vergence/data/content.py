"""What a picture is read from, whatever holds it."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedIOBase
from pathlib import Path

from vergence.data.scan import Found

WHOLE_RANGE = 65_535
"""The greatest value of 16 bits: what becomes 255, unless a folder's pictures stay far below it."""

Content = Callable[[], AbstractContextManager[BufferedIOBase]]
"""Opens the file of a picture, or what stands for one."""


class BadPicture(Exception):
    """Why a picture cannot be used."""


def file_of(root: Path, found: Found) -> Content:
    """Return what opens a file of a folder.

    It raises `BadPicture` where the file has changed since the scan.
    """

    @contextmanager
    def open_it() -> Iterator[BufferedIOBase]:
        # a pipe that has taken the file's place must not make the open wait
        handle = os.open(root / found.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (found.size, found.changed):
                raise BadPicture("changed since the folder was scanned")
            yield file

    return open_it
