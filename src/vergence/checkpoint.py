"""A run's state as sealed folders of safetensors and JSON: saved whole, verified on load, never a pickle."""

import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from vergence import durable
from vergence.errors import InputError
from vergence.methods.base import Method
from vergence.schema import said

FORMAT = 1
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest is damaged."""


def folder_of(checkpoints: Path, step: int) -> Path:
    """The folder of the checkpoint after a step."""
    return checkpoints / f"step-{step:09d}"


def save(checkpoints: Path, step: int, method: Method, optimizer: Optimizer, record: dict[str, Any]) -> Path:
    """Write the state after `step`, then drop all but it and the one before.

    A checkpoint of this step or a later one that is there already is a damaged one, which the run was not resumed from.

    Args:
        checkpoints: the run's `checkpoints` folder.
        step: optimizer updates done.
        method: networks, target, queue.
        optimizer: its moments.
        record: what else must match when the run goes on: the run's key and the pictures' digest.
    """
    folder = folder_of(checkpoints, step)
    tensors, scalars = _optimizer_state(optimizer)
    state = {"format": FORMAT, "step": step, **record, "optimizer": scalars}
    files = {
        "method.safetensors": _pack(method.state_dict()),
        "optimizer.safetensors": _pack(tensors),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    if folder.exists():
        durable.remove_folder(folder)
    durable.write_folder(folder, files)
    there = found(checkpoints)
    kept = [other for other in there if other <= folder][-KEEP:]
    for other in there:
        if other not in kept:
            durable.remove_folder(other)
    return folder


def found(checkpoints: Path) -> list[Path]:
    """The checkpoint folders there are, oldest first. Other names are none of ours."""
    there = checkpoints.glob("step-*") if checkpoints.is_dir() else ()
    return sorted(folder for folder in there if re.fullmatch("step-[0-9]+", folder.name))


def load_newest(
    checkpoints: Path, method: Method, optimizer: Optimizer | None, record: dict[str, Any]
) -> tuple[int, list[str]]:
    """Restore the newest whole checkpoint; 0 steps where there is none.

    Returns:
        The steps done, and a line for each damaged checkpoint that was passed over.

    Raises:
        InputError: there are checkpoints but none is whole, or the one found belongs to another run.
    """
    warnings: list[str] = []
    for folder in reversed(found(checkpoints)):
        try:
            files = durable.read_folder(folder)
        except InputError as error:
            warnings.append(f"{error}; trying the one before it")
            continue
        return _restore(folder, files, method, optimizer, record), warnings
    if warnings:
        raise InputError(
            "\n".join(warnings) + f"\n{checkpoints}: no whole checkpoint left; train again in another --out"
        )
    return 0, []


def load_method(folder: Path, method: Method, record: dict[str, Any] | None = None) -> int:
    """Restore the networks of one checkpoint folder; returns the steps done."""
    return _restore(folder, durable.read_folder(folder), method, None, record or {})


def _restore(
    folder: Path, files: dict[str, bytes], method: Method, optimizer: Optimizer | None, record: dict[str, Any]
) -> int:
    try:
        state = json.loads(files["state.json"])
        if state["format"] > FORMAT:
            raise InputError(f"{folder}: written by a newer version (format {state['format']}); upgrade vergence")
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


def _pack(tensors: dict[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def _optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The optimizer's tensors by '<parameter>.<name>', and each group's numbers."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
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
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        if given.keys() != mine.keys() - {"params"} or not all(_alike(given[k], mine[k]) for k in given):
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
