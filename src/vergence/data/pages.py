"""Files of several pages or frames, each page a picture of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from vergence.data.content import BadPicture, file_of
from vergence.data.formats import MOST_PAGES, pages_of
from vergence.data.scan import HEIF, Found, Scan, suffix_of
from vergence.errors import InputError, MachineError, of_the_machine
from vergence.files.names import listed, shown

_PAGED = frozenset((".tif", ".tiff", ".gif", ".png", ".webp", ".avif", *HEIF))


def with_pages(scanned: Scan, root: Path) -> Scan:
    """Return a scan in which each page of a file that has several is a picture, such as `stack.tif#3`, from 1 on.

    Files that may have several are opened to count them.

    Raises:
        InputError: a file has more pages than are counted.
    """
    from vergence.data.picture import WORKERS, strict_pillow

    def counted(found: Found) -> list[int]:
        pages = [1]
        if suffix_of(found.path) in _PAGED:
            try:
                with file_of(root, found)() as file:
                    pages = pages_of(file)
            except (BadPicture, OSError) as error:  # who reads it says what it is
                if of_the_machine(error):
                    raise MachineError(f"cannot read {shown(root / found.path)}: {error}; try again") from error
        return pages

    with strict_pillow(), ThreadPoolExecutor(WORKERS) as pool:
        pages = [*pool.map(counted, scanned.found)]
    pairs = [*zip(scanned.found, pages, strict=True)]
    if long := [shown(found.path) for found, numbers in pairs if len(numbers) >= MOST_PAGES]:
        raise InputError(f"{shown(root)}: {MOST_PAGES:,} pages or more in {listed(long)}; make several files of each")

    def each() -> Iterator[Found]:
        for found, numbers in pairs:
            several = len(numbers) > 1
            yield from (replace(found, path=f"{found.path}#{n}", page=n) for n in numbers) if several else (found,)

    return replace(scanned, found=tuple(each()))
