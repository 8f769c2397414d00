"""Pictures of a program, a torch Dataset or arrays, written into one file that runs and commands can open."""

import filecmp
import io
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from vergence.data.content import LEAST_SIDE
from vergence.data.picture import eight_bits
from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.names import shown
from vergence.machine.progress import counted

if TYPE_CHECKING:
    pass

_AT_ONCE = 64 << 20
"""Bytes of encoded pictures that are held before they are written."""

_AS_THEY_ARE = frozenset(("L", "RGB", "RGBA", "I;16"))
"""Modes that a PNG holds and that are read again as they were."""


@runtime_checkable
class Dataset(Protocol):
    """What has a length and gives a picture for an index, alone or with its label: torch's map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Pictures = Dataset | tuple[Any, Any]
"""A data set; or pictures `[n h w]`, `[n h w c]` or `[n c h w]` as a tensor or an array, alone or with n labels."""


@dataclass(frozen=True)
class _Part:
    split: str
    pictures: Dataset
    labels: Dataset | None

    def item(self, index: int) -> tuple[Any, Any]:
        """The picture of an index, and its label, None where there is none."""
        try:
            item = self.pictures[index]
        except Exception as error:  # of whoever wrote the data set
            raise InputError(f"{self.place(index)}: {type(error).__name__}: {shown(str(error))[:200]}") from error
        if self.labels is not None:
            return item, self.labels[index]
        if isinstance(item, Mapping):
            picture = next((item[name] for name in ("image", "img", "picture", "pixels") if name in item), None)
            if picture is None:
                there = ", ".join(shown(str(name)) for name in item) or "nothing"
                raise InputError(f"{self.place(index)}: a mapping without 'image', but with {there}")
            return picture, item.get("label")
        if isinstance(item, tuple | list) and item:
            return item[0], item[1] if len(item) > 1 else None
        return item, None

    def place(self, index: int) -> str:
        return f"pack: picture {index} of {self.split}"


def pack(
    path: Path | str,
    *,
    train: Pictures,
    test: Pictures | None = None,
    unlabelled: Pictures | None = None,
    classes: Sequence[str] | None = None,
) -> Path:
    """Write pictures into an Arrow file, which `config.Folder(root=...)` and `--data` read; return its path.

    Where the file is there and would be the same, it is left as it is, so that a program may call this at every start.
    The file has the columns `image` (PNG, nothing lost), `label` and `split`, with the names of the classes as Hugging
    Face's `datasets` writes them.

    Args:
        path: of the file; its name ends in `.arrow`.
        train: pictures to train on, and to fit probes on where they have labels. Each is a PIL picture, a tensor or an
            array: `[h w]`, `[h w c]` or `[c h w]` with 1, 3 or 4 channels, of uint8, of uint16 (one channel), or of
            floating point from 0 to 1. A data set gives it alone, as the first of a pair with its label, or as the
            value `image` of a mapping beside `label`.
        test: pictures to score on; without them a fifth of each class is held out.
        unlabelled: pictures to train on besides, whose labels are not looked at.
        classes: names of the classes; else those that `train.classes` has, else the labels themselves.

    Raises:
        InputError: something is no picture or no label, there are other numbers of labels than of pictures, a label is
            none of the classes, or a data set gives another picture each time, as one that draws views does.
        MachineError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".arrow":
        raise InputError(f"pack: {shown(path)}: call the file {shown(path.with_suffix('.arrow').name)}")
    given = {"train": train, "test": test, "unlabelled": unlabelled}
    parts = [_part(split, pictures) for split, pictures in given.items() if pictures is not None]
    names = classes if classes is not None else getattr(train, "classes", None)
    names = None if names is None else [*map(str, names)]
    for part in parts:
        _require_steady(part)
    partial = path.with_name(f".writing-{path.name}")
    try:
        _write(partial, parts, names)
        if path.is_file() and filecmp.cmp(partial, path, shallow=False):
            return path
        durable.seal_file(partial, path)
    except OSError as error:
        raise MachineError(f"cannot write {shown(path)}: {error.strerror or error}; choose another place") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _part(split: str, given: Any) -> _Part:
    pictures, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    for what, values in (("pictures", pictures), ("labels", labels)):
        if values is not None and not (hasattr(values, "__len__") and hasattr(values, "__getitem__")):
            kind = type(values).__name__
            raise InputError(f"pack: {split}: {what} of type {kind}; give what has a length and indices, or an array")
    if len(pictures) == 0:
        raise InputError(f"pack: {split}: no pictures")
    if labels is not None and len(labels) != len(pictures):
        raise InputError(f"pack: {split}: {len(pictures):,} pictures, but {len(labels):,} labels")
    return _Part(split, pictures, labels)


def _require_steady(part: _Part) -> None:
    first, again = (_encoded(*part.item(0)[:1], part.place(0)) for _ in range(2))
    if first != again:
        advice = "give the pictures as they are, without random transforms: views are drawn in training"
        raise InputError(f"{part.place(0)}: another picture each time; {advice}")


def _write(path: Path, parts: Sequence[_Part], names: Sequence[str] | None) -> None:
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    label = pa.string() if names is None else pa.int64()
    schema = pa.schema([("image", picture), ("label", label), ("split", pa.string())])
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [*names]}}
        features["split"] = {"_type": "Value", "dtype": "string"}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    with open(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for rows in _blocks(parts, names):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def _blocks(parts: Sequence[_Part], names: Sequence[str] | None) -> Iterator[list[dict[str, Any]]]:
    """Give rows, some at a time."""
    rows: list[dict[str, Any]] = []
    size = 0
    for part in parts:
        count = len(part.pictures)
        for index in counted(f"packing {part.split}", range(count), count):
            picture, label = part.item(index)
            encoded = _encoded(picture, part.place(index))
            said = None if part.split == "unlabelled" else _label(label, names, part.place(index))
            rows.append({"image": {"bytes": encoded, "path": None}, "label": said, "split": part.split})
            size += len(encoded)
            if size >= _AT_ONCE:
                done, rows, size = rows, [], 0
                yield done
    if rows:
        yield rows


def _label(label: Any, names: Sequence[str] | None, place: str) -> int | str | None:
    """Return a label as the file has it: its number among the names, or else its own text."""
    if label is None:
        return None
    if isinstance(label, str):
        if names is None:
            return label
        if label not in names:
            raise InputError(f"{place}: label {shown(label)!r} is none of the {len(names)} classes")
        return names.index(label)
    try:
        plain: Any = label.item() if isinstance(label, Tensor | np.ndarray | np.generic) else label
        number = operator.index(plain)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(label).__name__
        raise InputError(f"{place}: label of type {kind}; expected a whole number, text or None") from error
    if number == -1:
        return None
    if number < 0 or (names is not None and number >= len(names)):
        most = "on" if names is None else f"to {len(names) - 1}"
        raise InputError(f"{place}: label {number}; expected a whole number from 0 {most}")
    return str(number) if names is None else number


def _encoded(picture: Any, place: str) -> bytes:
    """Return a picture as a PNG."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(_values(picture, place))
    elif picture.mode not in _AS_THEY_ARE:
        picture = eight_bits(picture)
    if min(picture.size) < LEAST_SIDE:
        raise InputError(f"{place}: {picture.width} x {picture.height} pixels, a side of less than {LEAST_SIDE}")
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _values(picture: Any, place: str) -> np.ndarray:
    """Return the values of a picture, [h w] or [h w c], as Pillow takes them."""
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
    if not isinstance(picture, np.ndarray):
        expected = "expected a PIL picture, a tensor or an array"
        raise InputError(f"{place}: {type(picture).__name__}, which is no picture; {expected}")
    what = f"an array of shape {[*picture.shape]} of {picture.dtype}"
    first, last = (picture.ndim == 3 and picture.shape[axis] in (1, 3, 4) for axis in (0, 2))
    if picture.ndim != 2 and first == last:
        raise InputError(f"{place}: {what}; expected [h w], [h w c] or [c h w] with 1, 3 or 4 channels c")
    values = picture.transpose(1, 2, 0) if first else picture
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.dtype.kind == "f":
        if not (values.min() >= 0 and values.max() <= 1):  # so that NaN, which is neither, is refused too
            raise InputError(f"{place}: {what}, from {values.min():g} to {values.max():g}; expected 0 to 1")
        values = np.round(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype != np.uint8 and not (values.dtype == np.uint16 and values.ndim == 2):
        raise InputError(f"{place}: {what}; expected uint8, uint16 of one channel, or floating point from 0 to 1")
    return np.ascontiguousarray(values)
