"""Pictures: what is trained on and what is measured on."""

from pathlib import Path
from typing import get_args

from vergence import register
from vergence.config import Data
from vergence.data import cifar, digits, folder, imagenet, stl10  # noqa: F401, they register themselves
from vergence.data.cache import default_cache_dir
from vergence.data.images import Images
from vergence.data.packing import pack
from vergence.data.splits import Split
from vergence.errors import InputError
from vergence.files.names import path_or_none, shown, suggestion

__all__ = ["Images", "Split", "default_cache_dir", "load", "pack"]


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
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"there is no data folder {shown(data_dir)}{suggestion(data_dir)}")
    read = register.LOADERS.get(type(config))
    if read is None:
        raise InputError(f"data set {config.kind}: has settings, but no function with @register.data beside them")
    try:
        return read(config, split, data_dir=data_dir, cache_dir=cache_dir)
    except OSError as error:  # a folder that may not be searched, a file that has just gone
        named = shown(error.filename or data_dir or "the data")
        raise InputError(
            f"cannot read {named}: {error.strerror or error}; mend that, or name another folder"
        ) from error
