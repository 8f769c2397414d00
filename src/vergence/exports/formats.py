"""How an encoder is written in each format, and read back as its users read it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from vergence import config
from vergence.config.schema import to_dict
from vergence.errors import InputError
from vergence.exports.suffixes import Format
from vergence.machine.randomness import drawn_from
from vergence.runs import Model, open_model

INPUT, OUTPUT = "pictures", "representations"
"""What an ONNX file calls what it takes and what it gives."""


def require_format(model: Model, format: Format) -> None:
    """See that a model can be written in a format.

    Raises:
        InputError: a package is missing, or whoever reads the format could not build the network.
    """
    if format == "onnx":
        if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
            raise InputError(f"--format onnx: {', '.join(missing)} not installed: pip install 'vergence[onnx]'")
    elif format in ("safetensors", "hf"):
        others = "export it as onnx, torch-export or torchscript"
        if model.architecture is None:
            raise InputError(
                f"--format {format}: holds weights only, and {model.name} has no name to build it by; {others}"
            )
        if format == "hf" and (reason := unknown_to_timm(model.architecture)):
            raise InputError(f"--format hf: timm could not load it: {reason}; use safetensors, or {others}")


def unknown_to_timm(architecture: config.Encoder) -> str:
    """Return why timm cannot build an encoder by its name alone; nothing where it can."""
    if not timm.is_model(architecture.name):
        return f"it has no model {architecture.name}"
    own = to_dict(architecture, skip_added=True, places=False).items()
    trained = config.Encoder(name=architecture.name, drop_path=architecture.drop_path)  # which drops nothing any more
    usual = to_dict(trained)
    settings = [f"encoder.{name} {value}" for name, value in own if value != usual[name]]
    return f"its {architecture.name} has no {' and no '.join(settings)}" if settings else ""


def _write_tensors(encoder: nn.Module, file: Path, example: Tensor) -> None:
    state = {name: value.detach().clone().contiguous() for name, value in encoder.state_dict().items()}
    safetensors.torch.save_file(state, file, metadata={"format": "pt"})


def _write_onnx(encoder: nn.Module, file: Path, example: Tensor) -> None:
    program: Any = torch.onnx.export(
        encoder,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    program.save(file)  # weights of more than the format can hold are put into a file beside it


def _write_torchscript(encoder: nn.Module, file: Path, example: Tensor) -> None:
    program: Any = torch.jit.trace(encoder, example, check_trace=False)
    program.save(str(file))


def _write_torch_export(encoder: nn.Module, file: Path, example: Tensor) -> None:
    torch.export.save(torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)), file)


def _opened(file: Path) -> nn.Module:
    return open_model(file).encoder


def _built(file: Path) -> nn.Module:
    with drawn_from(torch.Generator()):  # the first weights, which are then replaced
        return open_model(file).encoder


def _built_by_timm(file: Path) -> nn.Module:
    with drawn_from(torch.Generator()):
        return timm.create_model(f"local-dir:{file.parent}", pretrained=True, num_classes=0).eval()


@dataclass(frozen=True)
class Writer:
    """A format.

    Attributes:
        write: an encoder in evaluation mode into a file, given two pictures of its size.
        read: that file, which its description lies beside, as a module.
    """

    write: Callable[[nn.Module, Path, Tensor], None]
    read: Callable[[Path], nn.Module]


WRITERS: dict[Format, Writer] = {
    "safetensors": Writer(_write_tensors, _built),
    "onnx": Writer(_write_onnx, _opened),
    "torchscript": Writer(_write_torchscript, _opened),
    "torch-export": Writer(_write_torch_export, _opened),
    "hf": Writer(_write_tensors, _built_by_timm),
}
