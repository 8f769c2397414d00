"""Embeddings: the representation of each picture beside its path, in a file; a command that was killed goes on.

Parts of `PART` pictures are sealed one by one in a folder beside the file, then joined, so that neither memory nor what
a kill can cost grows with the number of pictures.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vergence import __version__, config
from vergence.augment import evaluation_view
from vergence.augment.operations import to_float
from vergence.augment.views import normalized
from vergence.config import Data
from vergence.config.schema import to_dict
from vergence.data import Stream, stream
from vergence.data.content import WHOLE_RANGE
from vergence.data.scan import Bad
from vergence.data.stream import Seen
from vergence.engine.evaluate import representing
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.embeddings import joined_by, notes_of, part_of, partial_of
from vergence.files.names import listed, path_or_none, shown
from vergence.files.run_folder import read_json
from vergence.machine.device import device_of
from vergence.machine.processes import Group
from vergence.machine.progress import counted
from vergence.machine.threads import two_workers
from vergence.networks.weights import weights_digest
from vergence.runs.models import Model

PART = 1024
"""Pictures after which what is done is safe from a kill."""

BATCHES_AHEAD = 4
"""Batches of pictures that are decoded at most while the encoder works."""

ABOUT = "about.json"


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        rows: pictures that have a row.
        bad: those that cannot be used, and so have none.
        bad_file: where they are listed; None where there are none.
    """

    rows: int
    bad: int
    bad_file: Path | None


def embed(
    model: Model,
    pictures: Data,
    out: Path | str,
    *,
    where: Where = Where(),
    batch_size: int | None = None,
    precision: config.Precision = "float32",
) -> Embedded:
    """Write a row for each picture: its path, label, split and embedding, the representation that a model gives of it.

    Called again with the same arguments after it was ended, it goes on where it was. Pictures that cannot be used have
    no row; they are listed in a file beside `out`, whose name ends in `.bad.csv`.

    Args:
        model: of `open_model`.
        pictures: which; with `bad_images="fail"` the first that cannot be used is an error.
        out: the file, a .parquet, .csv or .npz; it must not be there.
        where: the pictures' folder, and the device.
        batch_size: pictures that the encoder takes at once; None: 32 on a CPU, 256 on a GPU.
        precision: of the encoder on a GPU.

    Raises:
        InputError: there are no pictures, or none that can be used; `out` is there, or begun with other arguments; the
            model gives numbers that are not finite.
        MachineError: the disk is full, or a device fails; what was sealed stands.
    """
    out, device, group = Path(out), device_of(where.device), where.group
    bad_file, partial, join = out.with_suffix(".bad.csv"), partial_of(out), joined_by(out)
    batch_size = batch_size or (256 if device.type == "cuda" else 32)
    about = {
        "model": model.name,
        "weights": weights_digest(model.encoder, model.views.size)[:16],
        "architecture": None if model.architecture is None else to_dict(model.architecture),
        **{name: to_dict(model.views)[name] for name in ("size", "mean", "std")},
        "precision": precision if device.type == "cuda" else "float32",
        "batch_size": batch_size,
        "device": device.type,
        "vergence": __version__,
    }
    _check_same(partial, about)
    seen = stream(pictures, model.views.size, data_dir=path_or_none(where.data_dir))
    about |= {"pictures": seen.where, "listing": seen.digest, "reading": to_dict(pictures)}
    group.assert_equal(lambda: {**about, "out": str(out.absolute())})
    _check_same(partial, about)
    strict = getattr(pictures, "bad_images", "skip") == "fail"
    with durable.locked(partial) if group.is_main else nullcontext():
        group.broadcast_object(lambda: durable.write_json(partial / ABOUT, about))
        try:
            parts = _write_parts(seen, _Encoder(model, device, precision, batch_size), partial, strict, group)
            unread = [Bad(*told) for part in parts for told in notes_of(part)["bad"]]
            bad = sorted([*seen.bad, *unread], key=lambda one: one.name)
            rows = len(seen) + len(seen.bad) - len(bad)
            if not rows:
                reasons = [f"{one.name} ({one.reason})" for one in bad]
                raise InputError(f"{seen.where}: none of the {len(bad)} pictures can be used: {listed(reasons)}")
        except InputError:  # other pictures would be another listing: nothing of it could be used again
            if group.is_main:
                durable.remove_folder(partial)
            raise

        def finish() -> None:
            join(parts, partial / "joined", about)
            if bad:
                durable.write_file(bad_file, _as_csv(bad))
            durable.seal_file(partial / "joined", out)
            durable.remove_folder(partial)

        group.broadcast_object(finish)
    return Embedded(rows, len(bad), bad_file if bad else None)


def _check_same(partial: Path, about: dict[str, Any]) -> None:
    """Refuse to go on with the parts of other embeddings."""
    if (partial / ABOUT).exists():
        there = read_json(partial / ABOUT)
        if others := [name for name in about if there.get(name) != json.loads(json.dumps(about[name]))]:
            begun = f"was begun with another {listed(others)}"
            raise InputError(f"{shown(partial)} {begun}; remove it, or choose another --out")


class _Encoder:
    """Gives the representations of a batch of pictures as a stream has them."""

    def __init__(self, model: Model, device: torch.device, precision: config.Precision, batch_size: int):
        self.name, self.views, self.dim = model.name, model.views, model.dim
        self.device, self.batch_size = device, batch_size
        self.represent = representing(model.encoder, device, precision)

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "b 3 h w"], source: int | None) -> Float[Tensor, "b d"]:
        pixels = (pixels.pin_memory() if self.device.type == "cuda" else pixels).to(self.device, non_blocking=True)
        as_wanted = source == self.views.size and [*pixels.shape[2:]] == [source, source]
        view = normalized(to_float(pixels), self.views) if as_wanted else evaluation_view(pixels, source, self.views)
        return self.represent(view).cpu()


def _write_parts(seen: Stream, encoder: _Encoder, partial: Path, strict: bool, group: Group) -> list[Path]:
    """Write the parts that are not there, each rank a stretch of them; return all.

    The gray value of 16 bits that becomes 255 may be known only when all pictures were seen: then all are read again.
    """
    if strict and seen.bad:
        raise _refused(seen, seen.bad[0])
    top, settled = WHOLE_RANGE, False
    parts: list[Path] = []
    while not settled:
        parts = [partial / f"{top}-{number:06d}.arrow" for number in range(-(-len(seen) // PART))]
        first, after = (rank * len(parts) // group.size for rank in (group.rank, group.rank + 1))
        done = next((number for number in range(first, after) if not parts[number].exists()), after)
        with closing(seen.read(done * PART, top, BATCHES_AHEAD * encoder.batch_size)) as pictures:
            remaining = counted(f"embedding {seen.where}", pictures, min(len(seen), after * PART) - done * PART)
            for number in range(done, after):
                places = range(number * PART, min((number + 1) * PART, len(seen)))
                part = _part(seen, encoder, zip(places, remaining, strict=False), strict)
                durable.write_file(parts[number], part)
        group.all_reduce_max(0)
        wanted = seen.top(max((notes_of(part)["highest"] for part in parts), default=-1))
        top, settled = wanted, wanted == top
    return parts


def _part(seen: Stream, encoder: _Encoder, pictures: Iterator[tuple[int, Seen | Bad]], strict: bool) -> bytes:
    """Return a part: rows for the pictures that can be used, and notes of the others."""
    places: list[int] = []
    bad: list[tuple[str, str]] = []
    highest = -1

    def batches() -> Iterator[UInt8[Tensor, "b 3 h w"]]:
        nonlocal highest
        batch: list[Tensor] = []
        for place, picture in pictures:
            if isinstance(picture, Seen):
                places.append(place)
                batch.append(picture.pixels)
                highest = max(highest, picture.highest)
            elif strict:
                raise _refused(seen, picture)
            else:
                bad.append((picture.name, picture.reason))
            if len(batch) == encoder.batch_size:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)

    with two_workers(encoder.device) as both:
        y = both.map(lambda batch: encoder(batch, seen.source), batches())
    columns = {"path": seen.paths, "label": seen.labels, "split": seen.splits}
    texts = {name: [values[place] for place in places] for name, values in columns.items()}
    embeddings = torch.cat([torch.empty(0, encoder.dim), *y]).numpy()
    if len(wrong := np.flatnonzero(~np.isfinite(embeddings).all(1))):
        of = f"{len(wrong):,} of {len(embeddings):,} pictures, first {shown(texts['path'][wrong[0]])}"
        advice = "look at its weights; with 16 bits try --precision float32"
        raise InputError(f"{encoder.name}: gives numbers that are not finite of {of}; {advice}")
    return part_of(texts, embeddings, {"bad": bad, "highest": highest})


def _refused(seen: Stream, bad: Bad) -> InputError:
    advice = "mend or remove it, or leave it out with --data.bad-images skip"
    return InputError(f"{seen.where}: {bad.name} cannot be used ({bad.reason}); {advice}")


def _as_csv(bad: list[Bad]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *((one.name, one.reason) for one in bad)])
    return text.getvalue().encode()
