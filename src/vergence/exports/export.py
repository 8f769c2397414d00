"""One function: an encoder into a file that was read back and gave the same."""

import copy
import json
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vergence import config
from vergence.augment import evaluation_view
from vergence.data import load
from vergence.errors import InputError, MachineError
from vergence.exports.card import card
from vergence.exports.description import described
from vergence.exports.formats import WRITERS, require_format
from vergence.exports.suffixes import SUFFIXES, Format, format_of
from vergence.files import durable
from vergence.files.names import path_or_none, shown
from vergence.files.run_folder import RUN, check_output_outside_data, is_of_run, read_json
from vergence.machine.filters import own_filters
from vergence.networks.encoders import use_plain_layers
from vergence.networks.weights import DESCRIPTION
from vergence.runs import Model, open_model
from vergence.runs.pictures import settled

TOLERANCE = 1e-5
"""How far a file's representations may be from those of the trained network, as a share of their length."""

_COMPARED = 16
"""Pictures that both are compared on."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: the encoder, its description and its card.
        format: in which the encoder is.
        difference: the largest distance between what the file and the trained network give of a picture, as a share of
            the mean length of the latter. At most `TOLERANCE`.
        compared: on which pictures, in words.
    """

    files: tuple[Path, Path, Path]
    format: Format
    difference: float
    compared: str


def export(
    what: str | Path | nn.Module | Model,
    path: Path | str,
    *,
    format: Format | None = None,
    data_dir: Path | str | None = None,
) -> Exported:
    """Write a trained encoder for other programs, with a description of its pictures and a card beside it.

    The file is read back and compared with the trained network before it takes its place.

    Args:
        what: as of `vergence.runs.open_model`, or what that returns.
        path: of the file; of a model's folder with the format "hf".
        format: "safetensors" (weights under timm's names), "onnx", "torchscript", "torch-export", or "hf" (a folder
            that timm loads); None: what the path's suffix says. Programs take any number of pictures at once.
        data_dir: where the run's pictures lie, if not where they were; they are compared on, if they are at hand.

    Raises:
        InputError: there is no such model, it cannot be written in this format, the file gives something else, or the
            path is in the place of something else.
        MachineError: the disk cannot be written.
    """
    path, data_dir = Path(path).expanduser(), path_or_none(data_dir)
    format = format_of(path, format)
    model = what if isinstance(what, Model) else open_model(what)
    if model.architecture is not None:  # early versions kept the tag of pretrained weights in the name
        name = model.architecture.name.partition(".")[0]
        model = replace(model, architecture=replace(model.architecture, name=name))
    require_format(model, format)
    if model.run is not None:
        check_output_outside_data(model.run.data, path, data_dir)
    with _failures(model, format):
        encoder = use_plain_layers(copy.deepcopy(model.encoder))
        about = described(model, encoder)
    files = _files(path, format)
    names = _names(path, files, about)
    pictures, which = _pictures(model, data_dir)
    with TemporaryDirectory(prefix="vergence-") as work:
        made = Path(work) / files[0].name
        (made.parent / files[1].name).write_text(json.dumps(about))
        difference = _written(model, encoder, made, format, pictures)
        compared = f"{len(pictures)} {which}"
        sentence = f"Read back, it gives what was trained within {difference:.1e} of its length, on {compared}."
        texts = (json.dumps(about, indent=2) + "\n", card(model, about, names, sentence))
        (made.parent / files[1].name).unlink()
        parts = sorted(made.parent.iterdir(), key=lambda part: part == made)  # the encoder itself last
        contents = {file: text.encode() for file, text in zip(files[1:], texts, strict=True)}
        with _whole_or_nothing(contents.keys() | {files[0].with_name(part.name) for part in parts}):
            for file, content in contents.items():
                durable.write_file(file, content)
            for part in parts:
                durable.write_file(files[0].with_name(part.name), part.read_bytes())
    return Exported(files, format, difference, compared)


@contextmanager
def _whole_or_nothing(files: Collection[Path]) -> Iterator[None]:
    """Within, files are written; where that fails, those that were not there before are taken away again."""
    new = [file for file in files if not os.path.lexists(file)]
    try:
        yield
    except BaseException:
        for file in new:
            file.unlink(missing_ok=True)
        raise


def _files(path: Path, format: Format) -> tuple[Path, Path, Path]:
    """Return where the encoder, its description and its card are written."""
    if format == "hf":
        return path / "model.safetensors", path / DESCRIPTION, path / "README.md"
    return path, path.with_suffix(".json"), path.with_suffix(".md")


def _names(path: Path, files: tuple[Path, Path, Path], about: dict[str, Any]) -> list[str]:
    """Return what is described together: the encoder's file, and those of its other formats that are there already.

    Raises:
        InputError: a file is in the way that was not exported, or the description of another encoder's file.
    """
    encoder, description, _ = files
    if (description.parent / RUN).exists() and (encoder != path or is_of_run(description.name)):
        raise InputError(f"--out: {shown(path)} belongs to a run; choose another name")
    if path != encoder and path.exists() and not path.is_dir():
        raise InputError(f"--out: {shown(path)} is a file, and a model's folder is to be written; choose another name")
    there = [file for file in files if os.path.lexists(file)]
    before = read_json(description) if description.is_file() else {}
    if there and not (all(file.is_file() for file in there) and isinstance(before.get("vergence"), dict)):
        raise InputError(f"--out: {shown(there[0])} is there, and was not exported; choose another name")
    known = sum(SUFFIXES.values(), ())
    others = [path.with_suffix(suffix) for suffix in known if path.suffix in known and suffix != path.suffix]
    others = [other for other in others if other.exists()]
    if others and before and before != about:
        raise InputError(
            f"--out: {shown(description)} describes another encoder, {shown(others[0])}; choose another name"
        )
    return [path.name, *(other.name for other in others if before)]


def _written(model: Model, encoder: nn.Module, file: Path, format: Format, pictures: Tensor) -> float:
    """Write an encoder, read it back, and return how far it is from the trained one.

    Raises:
        InputError: it cannot be written, or not be read, or is too far.
    """
    with _failures(model, format), torch.no_grad(), own_filters(), _monitor_put_back():
        warnings.simplefilter("ignore")
        expected = model.encoder(pictures)
        if not expected.isfinite().all():
            raise InputError(f"{model.name}: its representations are not finite; there is nothing to export")
        WRITERS[format].write(encoder, file, pictures[:2])
        again = WRITERS[format].read(file)
        found = torch.cat([again(pictures[:1]), again(pictures[1:])])  # two numbers of pictures, neither the example's
        if found.shape != expected.shape:
            raise ValueError(f"read back, it gives {[*found.shape]}, not {[*expected.shape]}")
    length = expected.norm(dim=1).mean().clamp(min=1e-30)
    difference = float((found - expected).norm(dim=1).max() / length)
    if not difference <= TOLERANCE:
        what = f"read back, it differs by {difference:.1e} of its length from the trained encoder"
        raise InputError(f"--format {format}: {what}, more than {TOLERANCE:.0e}; nothing is written")
    return difference


@contextmanager
def _monitor_put_back() -> Iterator[None]:
    """Let the thread not live on that torch's bar of progress starts, though it is not shown."""
    before = tqdm.monitor
    try:
        yield
    finally:
        if before is None and tqdm.monitor is not None:
            tqdm.monitor.exit()
            tqdm.monitor = None


@contextmanager
def _failures(model: Model, format: Format) -> Iterator[None]:
    """Make one line of what goes wrong inside, in as many ways as there are networks and formats."""
    try:
        yield
    except (InputError, MachineError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"--format {format}: {model.name} cannot be written so: {reason}") from error


def _pictures(model: Model, data_dir: Path | None) -> tuple[Tensor, str]:
    """Return pictures as the model sees them, and which they are: those of its run, where nothing is to be fetched."""
    images, which = None, "of the run's pictures"
    run = model.run
    if (
        run is not None
        and model.folder is not None
        and (data_dir or isinstance(run.data, config.Digits | config.Folder))
    ):
        try:
            images = load(settled(run, model.folder, data_dir).data, "pretrain", data_dir=data_dir)
        except (InputError, MachineError):
            images = None
    if images is None:
        images, which = load(config.Digits(size=model.views.size), "pretrain"), "handwritten digits"
    chosen = torch.linspace(0, len(images) - 1, min(len(images), _COMPARED)).long()
    return evaluation_view(images.pixels[chosen], images.size, model.views).contiguous(), which
