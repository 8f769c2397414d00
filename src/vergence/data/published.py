"""The files of a published data set: from a folder, from its archive, or from its archive's address."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vergence.config import Data
from vergence.data.cache import Decoded, alone
from vergence.data.download import check, fetch
from vergence.data.extract import Limits, extract
from vergence.data.images import Images
from vergence.data.splits import Split
from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.names import listed, shown

log = logging.getLogger("vergence.data")


@dataclass(frozen=True)
class Archive:
    """A published tar.gz or zip.

    Attributes:
        name: its file name, as looked for in the data folder.
        inner: the folder that it unpacks to.
        checksum: MD5 or SHA-256 in hexadecimal, as its publisher gives it.
        limit: the most bytes that are taken from the server.
        members: the most files and folders that it may hold.
    """

    name: str
    inner: str
    url: str
    checksum: str
    limit: int
    members: int = 1000


def places(config: Data, data_dir: Path | None) -> tuple[Path, ...]:
    """Return the folders in which a published data set's files may lie."""
    return () if data_dir is None else (data_dir, data_dir / config.kind)


def as_published(images: Images, decoded: Decoded, pictures: Mapping[Split, int]) -> Images:
    """Pictures in their publisher's order, with what is known of them.

    Args:
        images: the pictures.
        decoded: the cache's entry that they come from.
        pictures: how many each split has, where that is known.
    """
    side = decoded.pixels.shape[-1]
    facts = {
        "pictures": dict(pictures),
        "test": "published",
        "side": {"smallest": side, "median": side, "largest": side},
        "kept": side,
        "cache": shown(decoded.folder),
    }
    return replace(images, published_order=True, facts=facts)


def unpacked(archive: Archive, wanted: Sequence[str], folders: Iterable[Path]) -> dict[str, Path] | None:
    """The wanted files by name, if they lie in one of the folders; None if the archive has to be opened.

    Raises:
        InputError: only some of them are there, and no archive.
    """
    missing: list[str] = []
    for folder in folders:
        for inner in (folder / archive.inner, folder):
            files = {name: inner / name for name in wanted}
            absent = [name for name, path in files.items() if not path.is_file()]
            if not absent:
                return files
            if len(absent) < len(files):
                missing.append(f"{shown(inner)}: {listed(absent)} missing: add {archive.name}, or all of its files")
        if (folder / archive.name).is_file():
            return None
    if missing:
        raise InputError(missing[0])
    return None


def members(
    archive: Archive, wanted: Sequence[str], folders: Iterable[Path], cache_dir: Path, scratch: Path
) -> dict[str, Path]:
    """The wanted files by name, unpacked into `scratch` from the archive in a folder or from its address.

    Raises:
        InputError: the archive is not the published one.
        MachineError: it cannot be downloaded or unpacked.
    """
    path = _obtain(archive, folders, cache_dir)
    files = {file.name: file for file in extract(path, scratch, wanted=wanted)}
    if missing := [name for name in wanted if name not in files]:
        raise InputError(f"{shown(path)}: holds no {listed(missing)}")
    return files


def tree(archive: Archive, folders: Iterable[Path], cache_dir: Path) -> Path:
    """The folder that an archive unpacks to: as it lies in one of the folders, or unpacked once into the cache.

    Raises:
        InputError: the archive is not the published one.
        MachineError: it cannot be downloaded or unpacked.
    """
    folders = tuple(folders)
    for folder in folders:
        if (folder / archive.inner).is_dir():
            return folder / archive.inner
        if (folder / archive.name).is_file():
            break
    entry = cache_dir / f"{archive.inner}-{archive.checksum[:16]}"
    whole, partial = entry / "unpacked", entry / "partial"
    if not whole.is_dir():
        with alone(entry):
            if not whole.is_dir():  # else unpacked by the process that this one waited for
                _unpack(archive, folders, cache_dir, partial, whole)
    return whole / archive.inner


def _unpack(archive: Archive, folders: Iterable[Path], cache_dir: Path, partial: Path, whole: Path) -> None:
    """Unpack all of an archive; `whole` is there only when all of it is."""
    shutil.rmtree(partial, ignore_errors=True)  # an earlier process may have been killed
    path = _obtain(archive, folders, cache_dir)
    log.info("unpacking %s to %s", shown(path), shown(whole))
    try:
        extract(path, partial, limits=Limits(members=archive.members))
        durable.seal_folder(partial, whole)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _obtain(archive: Archive, folders: Iterable[Path], cache_dir: Path) -> Path:
    for path in (folder / archive.name for folder in folders):
        if path.is_file():
            check(path, archive.checksum, "get it again, or take it out of the data folder")
            return path
    path = cache_dir / "downloads" / archive.name
    with alone(path.parent):
        if not path.is_file():
            log.info("downloading %s to %s", archive.url, shown(path))
            try:
                fetch(archive.url, path, archive.checksum, limit=archive.limit)
            except MachineError as error:
                raise MachineError(f"{error}, or put {archive.name} into the folder given by --data-dir") from error
    check(path, archive.checksum, "delete it and start again")
    return path
