"""Pictures: what is trained on and what is measured on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from vergence import register
from vergence.config import Data, Folder
from vergence.data import cifar, digits, folder, imagenet, stl10  # noqa: F401, they register themselves
from vergence.data.cache import default_cache_dir
from vergence.data.images import Images
from vergence.data.inspection import Inspection, look_at, survey_places, survey_splits
from vergence.data.packing import pack
from vergence.data.splits import Split
from vergence.data.stream import Stream, stream_of_places, stream_of_splits
from vergence.errors import InputError
from vergence.files.names import path_or_none, shown, suggestion

__all__ = ["Images", "Inspection", "Split", "Stream", "default_cache_dir", "inspect", "load", "pack", "stream"]


def load(
    config: Data, split: Split, *, data_dir: Path | str | None = None, cache_dir: Path | str | None = None
) -> Images:
    """The pictures of one split.

    Args:
        config: which data set.
        split: "pretrain", what views are cut from (labels may be None); "train", what probes are fitted on; "test",
            what they are scored on (for `scored_on="held-out"` part of the published training pictures). Test pictures
            are never among the other two, unless a folder has no labels at all.
        data_dir: where downloaded data sets lie, each in a folder of its name or directly; a folder's root is taken
            relative to it. Published archives are downloaded where nothing is found.
        cache_dir: where decoded pictures and downloads are kept; None means `default_cache_dir()`.

    Raises:
        InputError: the data are missing, damaged, may not be read or are not arranged as expected.
        MachineError: a download failed, or the cache cannot be written.
    """
    if split not in get_args(Split):
        raise ValueError(f"expected one of {', '.join(get_args(Split))}, not {split}")
    data_dir, cache_dir = path_or_none(data_dir), path_or_none(cache_dir)
    with _reading(data_dir):
        read = register.LOADERS.get(type(config))
        if read is None:
            raise InputError(f"data set {config.kind}: has settings, but no function with @register.data beside them")
        return read(config, split, data_dir=data_dir, cache_dir=cache_dir)


def inspect(config: Data, *, data_dir: Path | str | None = None, cache_dir: Path | str | None = None) -> Inspection:
    """Return what a run would find in its pictures: splits, bad pictures, repeated ones, test pictures trained on.

    A bad picture does not end it. Pictures are read into the cache as a run reads them. Arguments as of `load`.

    Raises:
        InputError: the data are missing or not arranged as expected, or no picture can be read.
        MachineError: a download failed, or the cache cannot be written.
    """
    if not isinstance(config, Folder):
        splits = (load(config, split, data_dir=data_dir, cache_dir=cache_dir) for split in get_args(Split))
        return look_at(survey_splits(config.kind, *splits))
    data_dir, cache_dir = path_or_none(data_dir), path_or_none(cache_dir)
    with _reading(data_dir):
        return look_at(survey_places(config, data_dir, cache_dir))


def stream(
    config: Data, size: int, *, data_dir: Path | str | None = None, cache_dir: Path | str | None = None
) -> Stream:
    """Return every picture once, bad ones apart, to be read one after the other in memory that does not grow.

    Args:
        config: which data set. Of pictures of your own nothing is kept in a cache.
        size: side in pixels at which they are wanted.
        data_dir: as of `load`.
        cache_dir: as of `load`, for published data sets.

    Raises:
        InputError: the data are missing or not arranged as expected.
        MachineError: a download failed, or the cache cannot be written.
    """
    if not isinstance(config, Folder):
        splits = {split: load(config, split, data_dir=data_dir, cache_dir=cache_dir) for split in get_args(Split)}
        return stream_of_splits(config.kind, size, **splits)
    data_dir = path_or_none(data_dir)
    with _reading(data_dir):
        return stream_of_places(config, size, data_dir)


@contextmanager
def _reading(data_dir: Path | None) -> Iterator[None]:
    """Make one line of what goes wrong with files inside, and of a folder that is not there."""
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"there is no data folder {shown(data_dir)}{suggestion(data_dir)}")
    try:
        yield
    except OSError as error:  # a folder that may not be searched, a file that has just gone
        named = shown(error.filename or data_dir or "the data")
        raise InputError(
            f"cannot read {named}: {error.strerror or error}; mend that, or name another folder"
        ) from error
