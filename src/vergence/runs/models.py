"""A trained encoder by what names it: a run, a name of timm's or torchvision's, a file, or a module of a program."""

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn

from vergence import config
from vergence.config import Run
from vergence.config.schema import said
from vergence.config.spelling import closest
from vergence.errors import InputError
from vergence.files.names import listed, shown
from vergence.files.run_folder import RUN
from vergence.machine.randomness import drawn_from
from vergence.networks.encoders import build_encoder
from vergence.networks.pooled import pooled
from vergence.networks.weights import DESCRIPTION, TIMM, Source, colour, described, find, is_program
from vergence.runs.stored import load

TORCHVISION = "torchvision:"
PROGRAMS = {".pt2": "torch.export", ".onnx": "ONNX", ".ts": "TorchScript", ".torchscript": "TorchScript"}
"""Suffixes of files that hold a whole network, its code included. TorchScript has others too, such as `.pt`."""

SIZE = 224
"""Side in pixels of the pictures of a model that does not say it."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained encoder, and what its pictures must be like.

    Attributes:
        name: what it is called in lines and on pages.
        encoder: normalized pictures `[b 3 size size]` to representations `[b dim]`, on the CPU in evaluation mode.
        dim: the width of a representation.
        views: `size`, `mean` and `std` are those of its pictures; the rest is what its run cut, else the blog's.
        architecture: what built it; None where that was not the library.
        run: that trained it, in `folder`; both None where it was trained elsewhere.
        folder: see above.
        step: at which it was kept; None as above.
        remarks: what had to be assumed of it, a sentence each.
    """

    name: str
    encoder: nn.Module
    dim: int
    views: config.Views
    architecture: config.Encoder | None = None
    run: Run | None = None
    folder: Path | None = None
    step: int | None = None
    remarks: tuple[str, ...] = ()

    def untrained(self, seed: int = 0) -> nn.Module | None:
        """Return the same network with random weights, a function of `seed`; None where it cannot be made.

        A network that the library has not built is copied, and each of its layers given first weights by its own
        `reset_parameters`; exported programs have none.
        """
        with drawn_from(torch.Generator().manual_seed(seed)):
            if self.architecture is not None:
                return build_encoder(replace(self.architecture, weights=None), self.views.size).eval()
            layers = [
                module for module in self.encoder.modules() if callable(getattr(module, "reset_parameters", None))
            ]
            if not layers or isinstance(self.encoder, torch.jit.ScriptModule):
                return None
            again = copy.deepcopy(self.encoder)
            for module in again.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
            return again.eval()


def open_model(
    what: str | Path | nn.Module,
    *,
    encoder: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Model:
    """Return a trained encoder.

    Args:
        what: the folder of a run, "timm:NAME.TAG", "torchvision:NAME", a file of weights, a folder or a file that
            `vergence export` wrote, an exported program (TorchScript, torch.export, ONNX), or a module.
        encoder: name of the architecture, for a file of weights with no description beside it.
        size: side in pixels of its pictures; None: as it was trained, else 224.
        mean: of the colours by which its pictures are normalized, in [0, 1]; None: as it was trained, else ImageNet's.
        std: likewise.

    Raises:
        InputError: there is nothing of that name, it cannot be had, does not fit, or gives no vector for a picture.
    """
    if isinstance(what, nn.Module):
        return _model(type(what).__name__, copy.deepcopy(what), Source(text="", file=Path()), (size, mean, std))
    text = str(what)
    if encoder is not None and _says_what_it_is(text):
        raise InputError(f"--encoder: {shown(text)} says itself what it is; leave the option out")
    if text.startswith(TORCHVISION):
        module, source = _of_torchvision(text)
        return _model(text, module, source, (size, mean, std))
    path = Path(text).expanduser()
    if (path / RUN).is_file():
        run, method, step = load(path)
        named = Source(text=text, file=path, size=run.views.size, mean=run.views.mean, std=run.views.std)
        folder = shown(os.path.basename(os.path.abspath(path)))  # that of ".", and of a link as it is called
        model = _model(f"{folder} (step {step})", method.encoder, named, (size, mean, std))
        architecture = replace(run.encoder, weights=None, weights_hash=None)
        views = replace(run.views, size=model.views.size, mean=model.views.mean, std=model.views.std)
        return replace(model, architecture=architecture, views=views, run=run, folder=path, step=step)
    if _is_a_program(path):
        return _model(shown(path.name), _program(path), _beside(path), (size, mean, std))
    source = find(text)
    architecture = source.encoder if encoder is None else config.Encoder(name=encoder)
    if architecture is None:
        raise InputError(f"{shown(text)}: nothing beside the file says what it is; name it, as in --encoder resnet18")
    side = size or source.size or SIZE
    with drawn_from(torch.Generator()):
        module = build_encoder(replace(architecture, weights=source.text), side)
    name = text if text.startswith(TIMM) else f"{shown(os.path.basename(os.path.abspath(path)))} ({architecture.name})"
    return replace(_model(name, module, source, (side, mean, std)), architecture=architecture)


def _says_what_it_is(text: str) -> bool:
    """Return whether a name or a file is no file of weights alone: no other architecture can be meant."""
    path = Path(text).expanduser()
    if text.startswith((TORCHVISION, TIMM)) or (path / RUN).is_file():
        return True
    return _is_a_program(path)


def _is_a_program(path: Path) -> bool:
    return path.is_file() and (path.suffix in PROGRAMS or is_program(path))


def _model(name: str, module: nn.Module, source: Source, asked: tuple[Any, Any, Any]) -> Model:
    """Put a model together: what was asked for, else what is known of it, else what is usual, which is remarked."""
    usual, remarks = config.Views(), []
    size, mean, std = (
        given or known for given, known in zip(asked, (source.size, source.mean, source.std), strict=True)
    )
    if mean is None or std is None:
        remarks.append("nothing says how its pictures were normalized: ImageNet's mean and std are taken")
    if size is None:
        remarks.append(f"nothing says what size its pictures had: {SIZE} px are taken")
    views = replace(usual, size=size or SIZE, mean=colour(mean) or usual.mean, std=colour(std) or usual.std)
    encoder, dim, remark = pooled(module.eval(), views.size, name)
    return Model(name=name, encoder=encoder, dim=dim, views=views, remarks=(*remarks, *filter(None, [remark])))


def _of_torchvision(text: str) -> tuple[nn.Module, Source]:
    """Return a network of torchvision's with its pretrained weights, and without the last linear layer."""
    name, _, tag = text.removeprefix(TORCHVISION).partition(".")
    known = torchvision.models.list_models(torchvision.models)  # those that classify pictures
    if name not in known:
        meant = f"did you mean '{TORCHVISION}{near}'?" if (near := closest(name, known)) else "it has resnet18, for one"
        raise InputError(f"{said(text)}: torchvision has no such model of pictures; {meant}")
    kinds = torchvision.models.get_model_weights(name)
    if tag and tag not in kinds.__members__:
        raise InputError(f"{said(text)}: torchvision has no such weights of {name}, but {listed([*kinds.__members__])}")
    weights: Any = kinds[tag] if tag else cast(Any, kinds).DEFAULT
    try:
        with drawn_from(torch.Generator()):
            module = torchvision.models.get_model(name, weights=weights)
    except OSError as error:
        advice = "fetch it where there is a network, or give its file: FILE --encoder NAME"
        raise InputError(f"{said(text)}: neither in the cache nor to be had: {error}; {advice}") from error
    last = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, attribute = last.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())
    seen = weights.transforms()
    mean, std = colour(seen.mean), colour(seen.std)
    return module, Source(text=text, file=Path(), size=seen.crop_size[0], mean=mean, std=std)


def _beside(file: Path) -> Source:
    """Return what the description beside an exported program says of its pictures."""
    beside = file.with_suffix(".json")
    return described(str(file), file, beside if beside.is_file() else file.with_name(DESCRIPTION))


def _program(file: Path) -> nn.Module:
    """Return an exported program as a module."""
    kind = PROGRAMS.get(file.suffix, "TorchScript")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "ONNX":
                return _Onnx(file)
            return _Fixed(torch.export.load(file).module()) if kind == "torch.export" else torch.jit.load(file, "cpu")
    except ImportError as error:
        raise InputError(f"{shown(file)}: onnxruntime is not installed: pip install 'vergence[onnx]'") from error
    except Exception as error:  # each format fails in its own ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{shown(file)}: cannot be read as {kind}: {reason}") from error


class _Fixed(nn.Module):
    """A program of torch.export, which stays in the mode in which it was exported, and refuses to be asked."""

    def __init__(self, program: nn.Module):
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_Fixed":
        self.training = False
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return self.program(pictures)


class _Onnx(nn.Module):
    """An ONNX file's network, computed by onnxruntime on the CPU."""

    def __init__(self, file: Path):
        super().__init__()
        import onnxruntime  # pyright: ignore[reportMissingImports]

        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Onnx":
        return self  # a session cannot be copied, and keeps nothing of a call

    def forward(self, pictures: Tensor) -> Tensor:
        found: Any = self.session.run(None, {self.input: pictures.cpu().contiguous().numpy()})
        return torch.from_numpy(found[0]).to(pictures.device)
