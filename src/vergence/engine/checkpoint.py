"""A run's state as sealed folders of safetensors and JSON: saved whole, verified on load, never a pickle."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from vergence import __version__
from vergence.config.schema import said
from vergence.errors import InputError, MachineError
from vergence.files import durable, series
from vergence.files.series import folder_of as folder_of
from vergence.files.series import found as found
from vergence.methods.base import Method

FORMAT = 1

_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What safetensors calls them, in its order: it writes the last first."""
_LARGE = 1 << 20
"""Bytes from which a tensor is written by a call of its own; smaller ones are gathered."""
_MACHINES = {"params", "capturable"}
"""Fields of an optimizer's group that depend on the device, not on the run."""
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}


def save(checkpoints: Path, step: int, method: Method, optimizer: Optimizer, record: dict[str, Any]) -> Path:
    """Write the state after `step`, then drop all but it and the one before.

    Args:
        checkpoints: the run's `checkpoints` folder.
        step: optimizer updates done.
        method: networks, target, queue.
        optimizer: its moments.
        record: what else must match when the run goes on: the run's key and the pictures' digest.
    """
    tensors, scalars = _optimizer_state(optimizer)
    state = {"format": FORMAT, "version": __version__, "step": step, **record, "optimizer": scalars}
    files = {
        "method.safetensors": _pack(method.state_dict()),
        "optimizer.safetensors": _pack(tensors),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    return series.add(checkpoints, step, files)


def load_newest(
    checkpoints: Path, method: Method, optimizer: Optimizer | None, record: dict[str, Any]
) -> tuple[int, list[str]]:
    """Restore the newest whole checkpoint; 0 steps where there is none.

    Returns:
        The steps done, and a line for each damaged checkpoint that was passed over.

    Raises:
        InputError: there are checkpoints but none is whole, or the one found belongs to another run.
    """
    folder, files, warnings = series.newest(checkpoints)
    return 0 if folder is None else _restore(folder, files, method, optimizer, record), warnings


def require_space(checkpoints: Path, method: Method, optimizer: Optimizer) -> None:
    """See before the first step that the disk holds the checkpoints kept and the one being written.

    Raises:
        MachineError: it does not; says how many bytes are needed and how many are free.
    """
    tensors, _ = _optimizer_state(optimizer)
    moments = _size(tensors.values())
    if not tensors:  # they are made by the first step
        moments = sum(
            _size(group["params"]) * (2 if "betas" in group else group.get("momentum", 0) > 0)
            for group in optimizer.param_groups
        )
    one = _size(method.state_dict().values()) + moments
    there = sum(file.stat().st_size for folder in found(checkpoints) for file in folder.iterdir())
    need = max(one, (series.KEEP + 1) * one - there)
    free = shutil.disk_usage(next(f for f in (checkpoints, *checkpoints.absolute().parents) if f.exists())).free
    if free < need:
        raise MachineError(
            f"{checkpoints}: the disk has no room: {need:,} bytes are needed for {series.KEEP} checkpoints and the one "
            f"being written, {free:,} are free; free some space, or choose another --out"
        )


def state_digest(method: Method, optimizer: Optimizer) -> str:
    """SHA-256 of all that `save` would write of them."""
    tensors, scalars = _optimizer_state(optimizer)
    hashed = hashlib.sha256(json.dumps(scalars).encode())
    for piece in (*_pack(method.state_dict()), *_pack(tensors)):
        hashed.update(piece)
    return hashed.hexdigest()


def load_method(folder: Path, method: Method, record: dict[str, Any] | None = None) -> int:
    """Restore the networks of one checkpoint folder; returns the steps done."""
    return _restore(folder, durable.read_folder(folder), method, None, record or {})


def _restore(
    folder: Path, files: dict[str, bytes], method: Method, optimizer: Optimizer | None, record: dict[str, Any]
) -> int:
    try:
        state = json.loads(files["state.json"])
        if state["format"] > FORMAT:
            version = state.get("version", "unknown")
            raise InputError(
                f"{folder}: written by a newer version of vergence, {version} (format {state['format']}, known here: "
                f"{FORMAT}); upgrade"
            )
        for name, wanted in record.items():
            if state.get(name) != wanted:
                raise InputError(
                    f"{folder}: belongs to another run: {name} is {said(state.get(name))}, not {said(wanted)}"
                )
        step = state["step"]
        if type(step) is not int or step < 0:
            raise ValueError(f"its step is {said(step)}")
        method.load_state_dict(safetensors.torch.load(files["method.safetensors"]))
        if optimizer is not None:
            _restore_optimizer(optimizer, safetensors.torch.load(files["optimizer.safetensors"]), state["optimizer"])
        return step
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: not a checkpoint of this run: {type(error).__name__}: {reason}") from error


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _pack(tensors: dict[str, Tensor]) -> list[bytearray | memoryview]:
    """A file of safetensors, byte for byte as that library writes it, in pieces: it would copy every tensor twice."""
    order = sorted(tensors, key=lambda name: (-_RANKS[tensors[name].dtype], name))
    packed = {name: tensors[name].detach().cpu().contiguous() for name in order}
    header, offset = {}, 0
    for name, tensor in packed.items():
        place = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    small = bytearray(len(text).to_bytes(8, "little") + text)
    pieces: list[bytearray | memoryview] = []
    for tensor in packed.values():
        data = tensor.view(-1).view(torch.uint8).numpy().data
        if len(data) < _LARGE:
            small += data
        else:
            pieces += [small, data]
            small = bytearray()
    return [*pieces, small]


def _optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The optimizer's tensors by '<parameter>.<name>', and each group's numbers."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    groups = [
        {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items() if k not in _MACHINES}
        for group in state["param_groups"]
    ]
    return tensors, groups


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    parameters = {str(i): p for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in tensors.items():
        index, _, field = name.partition(".")
        like = parameters[index]
        if value.shape == like.shape:
            # Fused kernels walk a weight and its moments in memory order: both must be laid out alike.
            value = torch.empty_like(like, device="cpu", dtype=value.dtype).copy_(value)
        elif value.ndim:
            raise ValueError(f"{said(name)} has the shape {list(value.shape)}, not {list(like.shape)}")
        state["state"].setdefault(int(index), {})[field] = value
    for mine, saved in zip(state["param_groups"], groups, strict=True):
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k not in _MACHINES}
        if given.keys() != mine.keys() - _MACHINES or not all(_alike(given[k], mine[k]) for k in given):
            raise ValueError("the settings of another optimizer")
        mine.update(given)
    with torch.no_grad():
        optimizer.load_state_dict(state)


def _alike(given: Any, mine: Any) -> bool:
    """Whether a setting of a group may stand where ours does: finite numbers for numbers, a switch for a switch."""
    if isinstance(mine, tuple):
        return isinstance(given, tuple) and len(given) == len(mine) and all(map(_alike, given, mine))
    if mine is None or isinstance(mine, bool):
        return given is None or isinstance(given, bool)
    return type(given) in (int, float) and abs(given) <= 1e300
