"""Pictures: what is trained on and what is measured on."""

from pathlib import Path
from typing import assert_never, get_args

from vergence.config import CIFAR10, STL10, Data, Digits, Folder
from vergence.data import cifar10, digits, folder, stl10
from vergence.data.cache import default_cache_dir
from vergence.data.images import Images
from vergence.data.splits import Split
from vergence.errors import InputError
from vergence.files.names import path_or_none, shown, suggestion
from vergence.files.run_folder import root_of

__all__ = ["Images", "Split", "default_cache_dir", "load"]


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
    if isinstance(config, Digits):  # in no need of a cache, or of a home folder for it
        return digits.load(config, split)
    cache_dir = cache_dir or default_cache_dir()
    folders = () if data_dir is None else (data_dir, data_dir / config.kind)
    try:
        match config:
            case CIFAR10():
                return cifar10.load(config, split, folders, cache_dir)
            case STL10():
                return stl10.load(config, split, folders, cache_dir)
            case Folder():
                return folder.load(config, split, root_of(config, data_dir), cache_dir)
            case _:
                assert_never(config)
    except OSError as error:  # a folder that may not be searched, a file that has just gone
        named = shown(error.filename or data_dir or "the data")
        raise InputError(
            f"cannot read {named}: {error.strerror or error}; mend that, or name another folder"
        ) from error
