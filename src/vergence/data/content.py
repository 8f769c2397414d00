"""What a picture is read from, whatever holds it, and how."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from vergence.config import Folder
from vergence.data.scan import Found

WHOLE_RANGE = 65_535
"""The greatest value of 16 bits: what becomes 255, unless a folder's pictures stay far below it."""

LEAST_SIDE = 8
"""The shortest side in pixels that a picture may have."""

MOST_TIMES = 16
"""A file may hold so many times the pixels that are decoded at most: of a JPEG all have to be gone through."""

Content = Callable[[], AbstractContextManager[BufferedIOBase]]
"""Opens the file of a picture, or what stands for one."""


class BadPicture(Exception):
    """Why a picture cannot be used."""


@dataclass(frozen=True)
class Reading:
    """How a file becomes 8-bit red, green and blue.

    Attributes:
        bands: the numbers of those that are used, from 1 on; none where the rule of each mode decides.
        span: the values of more than 8 bits that become 0 and 255; None where nobody has said.
        top: the value that becomes 255 of whole numbers from 0 to 65,535, where nobody has said.
        most_pixels: what is decoded of a picture, at most: more is refused by its header. A JPEG is decoded at a
            fraction.
    """

    bands: tuple[int, ...] = ()
    span: tuple[float, float] | None = None
    top: int = WHOLE_RANGE
    most_pixels: int = Folder.most_pixels

    def check_size(self, width: int, height: int, decoded: int, how: str = "") -> None:
        """Refuse a picture of which too many pixels would be decoded, or whose sides are too short.

        Raises:
            BadPicture: it says which, and what to do.
        """
        sides = f"{width} x {height} pixels"
        if min(width, height) < LEAST_SIDE:
            raise BadPicture(f"{sides}, a side of less than {LEAST_SIDE}")
        todo = "make it smaller, or raise --data.most-pixels"
        if decoded > self.most_pixels:
            raise BadPicture(f"{sides}{how} are {decoded:,} to decode, more than {_limit(self.most_pixels)}; {todo}")
        if width * height > MOST_TIMES * self.most_pixels:
            most = _limit(MOST_TIMES * self.most_pixels)
            raise BadPicture(f"{sides} are {width * height:,}, more than {most}; {todo}")


def _limit(pixels: int) -> str:
    return f"{pixels:,}" if pixels % (1 << 20) else f"{pixels >> 20} Mi ({pixels:,})"


READING = Reading()
"""How files are read where nothing is said."""


def file_of(root: Path, found: Found) -> Content:
    """Return what opens a file of a folder.

    It raises `BadPicture` where the file has changed since the scan.
    """
    path = root / (found.path.removesuffix(f"#{found.page}") if found.page else found.path)

    @contextmanager
    def open_it() -> Iterator[BufferedIOBase]:
        # a pipe that has taken the file's place must not make the open wait
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (found.size, found.changed):
                raise BadPicture("changed since the folder was scanned")
            yield file

    return open_it
