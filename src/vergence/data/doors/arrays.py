"""Arrays of pictures: NumPy's .npy and .npz, never a pickle."""

import io
import itertools
import math
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from vergence.data.doors.door import (
    Listing,
    class_name,
    column_of,
    label_column,
    listing_of,
    opened,
    reading,
    split_in,
)
from vergence.data.doors.shards import Shard, shard
from vergence.data.scan import Found
from vergence.errors import InputError
from vergence.files.names import listed, shown

IMAGES = ("images", "image", "x", "data", "arr_0")
TARGETS = ("labels", "label", "y", "targets", "target")
"""Names of arrays in an .npz, alone or with a split: `x_train`, `test_labels`."""

MOST_VALUES = 1 << 28
"""The most values of one picture."""

MOST_RATIO = 200
"""The most bytes that a byte of an .npz may unpack to."""

_MOST_WHOLE = 1 << 30  # bytes of an array of an .npz that can only be read whole
_LAYOUTS = "[n, h, w], [n, h, w, c] or [n, c, h, w] with 1, 3 or 4 channels c"


@dataclass(frozen=True)
class _Array:
    """An array as its header says; `key` is its name in an .npz, None for an .npy."""

    key: str | None
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _Part:
    """Pictures of one split, and their labels."""

    split: str | None
    pictures: _Array
    labels: _Array | None


@dataclass(frozen=True)
class Arrays:
    """Pictures in one file of arrays.

    Attributes:
        file: the file.
        parts: the arrays of pictures in it.
        any_bands: there may be any number of channels.
    """

    file: Shard
    parts: tuple[_Part, ...]
    any_bands: bool = False

    def listing(self) -> Listing:
        """Return the pictures of all arrays, named by their array and number.

        Raises:
            InputError: labels that are none, or are not as many as the pictures.
        """
        found: list[Found] = []
        labels: list[str | None] = []
        splits: list[str | None] = []
        for part in self.parts:
            count = part.pictures.shape[0]
            width = max(5, len(str(count - 1)))
            prefix = "" if part.pictures.key is None else f"{part.pictures.key}/"
            found.extend(self.file.picture(f"{prefix}{number:0{width}}") for number in range(count))
            labels.extend([None] * count if part.labels is None else self._labels(part.labels))
            splits.extend([part.split] * count)
        return replace(listing_of(found, labels, splits, self.file.path), files=[self.file.path])

    def contents(self, wanted: Sequence[Found]) -> Iterator[np.ndarray]:
        """Yield the values of each wanted picture, [h w] or [h w c], uint8 or uint16.

        Values of floating point become whole numbers from 0 to 255.

        Raises:
            InputError: such a value is not from 0 to 1.
        """
        arrays = {f"{self.file.name}/{part.pictures.key}": part.pictures for part in self.parts if part.pictures.key}
        arrays = arrays or {self.file.name: self.parts[0].pictures}
        for name, pictures in itertools.groupby(wanted, key=lambda picture: picture.path.rpartition("/")[0]):
            named, numbered = itertools.tee(pictures)
            numbers = (int(picture.path.rpartition("/")[2]) for picture in numbered)
            array = arrays[name]
            with opened(self.file.path, self.file.picture("")):  # it has not changed
                pass
            for picture, values in zip(named, _read(self.file.path, array, numbers), strict=True):
                yield _picture(values, _channels_first(array, self.file.path, self.any_bands), picture.path)

    def _labels(self, array: _Array) -> list[str | None]:
        place = f"{self.file.path}: {array.key}"
        numbers = iter(range(array.shape[0]))
        with reading(self.file.path, "an array of labels"):
            values = np.array(list(_read(self.file.path, array, numbers))).reshape(-1).tolist()
        names = [class_name(value, None, f"{place}[{number}]") for number, value in enumerate(values)]
        return [name and sys.intern(name) for name in names]


def array_door(path: Path, labels: str, any_bands: bool = False) -> Arrays:
    """Return what reads the pictures in a file of arrays.

    Args:
        path: an .npy, which is one array, or an .npz with arrays named as `IMAGES` and `TARGETS` are.
        labels: "auto", "none", or the name of the array.
        any_bands: there may be any number of channels, fewer than the sides have pixels.

    Raises:
        InputError: no array of pictures, a shape or type that is not read, lengths that differ, a damaged file.
    """
    with reading(path, f"a NumPy file of {_LAYOUTS}"):
        parts = _parts(path, labels) if path.suffix.lower() == ".npz" else _alone(path, labels)
    for part in parts:
        _check(part.pictures, path, any_bands)
        if part.labels is not None:
            _check_labels(part, path)
    return Arrays(shard(path, path.name, None), parts, any_bands)


def _alone(path: Path, labels: str) -> tuple[_Part, ...]:
    label_column([], labels, path)
    with open(path, "rb") as file:
        array = _header(None, file, path)
    _check_size(array, path.stat().st_size, path)
    return (_Part(None, array, None),)


def _parts(path: Path, labels: str) -> tuple[_Part, ...]:
    """The arrays of an .npz, by the split that their names speak of."""
    roles: dict[str | None, dict[str, str]] = {}  # by split and role, the name
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if len(set(keys)) < len(keys):
            raise InputError(f"{shown(path)}: two arrays of one name; save it again")
        for key in keys:
            words = [word for word in re.split(r"[\W_]+", key) if not split_in(word)]
            roles.setdefault(split_in(key), {})["_".join(words)] = key
        if labels not in ("auto", "none"):
            label_column(sorted({role for names in roles.values() for role in names}), labels, path)
        parts = []
        for split, names in roles.items():
            images = column_of(list(names), IMAGES)
            target = column_of([name for name in names if name != images], _targets(labels))
            if images is not None:
                array = _member(archive, names[images], path)
                parts.append(_Part(split, array, None if target is None else _member(archive, names[target], path)))
    if not parts:
        there = listed([shown(key) for key in keys], 10) or "none"
        raise InputError(f"{shown(path)}: no array of pictures ({', '.join(IMAGES)}); arrays: {there}")
    return tuple(parts)


def _targets(labels: str) -> tuple[str, ...]:
    if labels == "none":
        return ()
    return TARGETS if labels == "auto" else (labels,)


def _member(archive: zipfile.ZipFile, key: str, path: Path) -> _Array:
    info = archive.getinfo(f"{key}.npy")
    if info.file_size > max(MOST_RATIO * info.compress_size, 1 << 20):
        what = f"unpacks to more than {MOST_RATIO} times its bytes"
        raise InputError(f"{_name(key, path)}: {what}; save it as .npy")
    with archive.open(info) as file:
        array = _header(key, file, path)
    _check_size(array, info.file_size, path)
    return array


def _header(key: str | None, file: IO[bytes] | io.BufferedIOBase, path: Path) -> _Array:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{_name(key, path)}: holds Python objects, which are never opened; save it as uint8")
    if any(side < 0 for side in shape):
        raise ValueError(f"a shape of {list(shape)}")
    return _Array(key, shape, dtype, fortran, file.tell())


def _check_size(array: _Array, size: int, path: Path) -> None:
    if size != (expected := array.offset + array.bytes):
        what = "cut short" if size < expected else "more than the array"
        raise InputError(f"{_name(array.key, path)}: {size:,} bytes instead of {expected:,}, {what}; get it again")


def _check(array: _Array, path: Path, any_bands: bool) -> None:
    """Refuse what is no array of pictures."""
    where, shape = _name(array.key, path), list(array.shape)
    if array.dtype.kind != "f" and (array.dtype.kind != "u" or array.dtype.itemsize > 2):
        what = f"values of type {array.dtype}; uint8, uint16, or floating point from 0 to 1 is read"
        raise InputError(f"{where}: {what}; convert them, as with values.astype('uint8')")
    if 0 in shape:
        raise InputError(f"{where}: an array of shape {shape}, and so no pictures")
    _channels_first(array, path, any_bands)
    if math.prod(shape[1:]) > MOST_VALUES:
        raise InputError(f"{where}: pictures of shape {shape[1:]}, more than {MOST_VALUES:,} values; make them smaller")
    if array.key is not None and array.fortran and array.bytes > _MOST_WHOLE:
        what = f"more than {_MOST_WHOLE >> 30} GiB in Fortran's order"
        raise InputError(f"{where}: {what}; save it as .npy, or in C's order")


def _channels_first(array: _Array, path: Path, any_bands: bool) -> bool:
    """Whether a picture is [c, h, w]; [h, w] and [h, w, c] are not."""
    where, shape = _name(array.key, path), list(array.shape)
    if len(shape) == 3 and shape[2] > 4:
        return False
    if len(shape) == 4:
        first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
        if any_bands and first == last:  # the channels are the fewest
            first, last = shape[1] < min(shape[2:]), shape[3] < min(shape[1:3])
        if first and last:
            either = "[n, h, w, c] or [n, c, h, w]"
            raise InputError(f"{where}: an array of shape {shape} may be {either}; add a line or column of pixels")
        if first or last:
            return first
    other = "; choose of other channels with --data.channels, as in 3,2,1" if len(shape) == 4 and not any_bands else ""
    raise InputError(f"{where}: an array of shape {shape}; expected {_LAYOUTS}{other}")


def _check_labels(part: _Part, path: Path) -> None:
    labels, count = part.labels, part.pictures.shape[0]
    assert labels is not None
    where, shape = _name(labels.key, path), list(labels.shape)
    if shape not in ([count], [count, 1]):
        raise InputError(f"{where}: labels of shape {shape} for {count:,} pictures; expected [{count}], one label each")
    if labels.dtype.kind not in "iufU":
        raise InputError(f"{where}: labels of type {labels.dtype}; whole numbers or text are read")


def _name(key: str | None, path: Path) -> str:
    return shown(path) if key is None else f"{shown(path)}: {shown(key)}"


def _read(path: Path, array: _Array, numbers: Iterator[int]) -> Iterator[np.ndarray]:
    """The rows of an array, in rising order, one at a time."""
    if array.key is None:
        order = "F" if array.fortran else "C"
        values = np.memmap(path, array.dtype, "r", array.offset, array.shape, order)
        yield from (values[number] for number in numbers)
        return
    with (
        reading(path, "an .npz that is whole"),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{array.key}.npy") as file,
    ):
        if array.fortran:
            values = np.lib.format.read_array(file, allow_pickle=False)
            yield from (values[number] for number in numbers)
            return
        size = array.bytes // array.shape[0]
        for number in numbers:
            file.seek(array.offset + number * size)
            data = file.read(size)
            yield np.frombuffer(data, array.dtype).reshape(array.shape[1:])


def _picture(values: np.ndarray, channels_first: bool, name: str) -> np.ndarray:
    """A picture as doors give it."""
    if channels_first:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # so that NaN, which is neither, is refused too
            raise InputError(f"{shown(name)}: values from {low} to {high}; floating point must be from 0 to 1")
        values = np.round(values.astype(np.float64) * 255).astype(np.uint8)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
