"""The formats of exported encoders by name, and what their files are called. Nothing here imports torch."""

from pathlib import Path
from typing import Literal, get_args

from vergence.errors import InputError
from vergence.files.names import shown

Format = Literal["safetensors", "onnx", "torchscript", "torch-export", "hf"]

SUFFIXES: dict[str, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "onnx": (".onnx",),
    "torchscript": (".ts", ".torchscript", ".pt"),
    "torch-export": (".pt2",),
}
"""What a file of each format may end in; a model's folder ("hf") has a name of any other kind."""


def format_of(path: Path, asked: Format | None) -> Format:
    """Return the format in which an encoder is to be written: the one asked for, else the one of the path's suffix.

    Raises:
        InputError: neither says it, or they contradict.
    """
    of_suffix = next((name for name in get_args(Format) if path.suffix in SUFFIXES.get(name, ())), None)
    if asked is None and of_suffix is None:
        ends = ", ".join(f"{suffixes[0]} ({name})" for name, suffixes in SUFFIXES.items())
        raise InputError(f"--out: {shown(path)} does not say the format: end it in {ends}, or add --format hf")
    if asked is None or asked == (of_suffix or "hf"):
        return asked or of_suffix  # pyright: ignore[reportReturnType]
    if asked == "hf":
        raise InputError(f"--out: hf is a folder, and {shown(path)} is called as a file; leave out its {path.suffix}")
    raise InputError(f"--out: call a file of {asked} {shown(path.with_suffix(SUFFIXES[asked][0]))}, not {shown(path)}")
