"""Transforms of a user's own, from plugins: what they are given, and what they have to give."""

from collections.abc import Iterable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence import plugins, register
from vergence.config.spelling import nearest
from vergence.errors import InputError
from vergence.files.names import shown
from vergence.machine.randomness import drawn_from

Crops = UInt8[Tensor, "b 3 s s"]


def require_known(names: Iterable[str]) -> None:
    """See that a transform is registered under each of these names.

    Raises:
        InputError: one is not; says which was probably meant.
    """
    known = register.TRANSFORMS
    for name in names:
        if name not in known:
            advice = nearest(name, known) if known else "load its plugin with --plugin FILE.py"
            raise InputError(f"--views: unknown transform '{shown(name)}'; {advice}")


def transformed(crops: Crops, name: str, seeds: Int64[Tensor, " b"]) -> Crops:
    """Return what the transform of that name makes of each crop.

    It is given one crop at a time, on the CPU. What it draws from torch without naming a generator comes from one that
    starts from the crop's seed, so no crop depends on the others, on threads or on processes.

    Raises:
        InputError: it is unknown, raises an error, or gives anything but a crop of the same size in 8 bits.
    """
    require_known([name])
    own = torch.Generator()
    given = crops.cpu().contiguous()
    made: list[Tensor] = []
    with drawn_from(own):
        for crop, seed in zip(given, seeds.tolist(), strict=True):
            own.manual_seed(seed)
            made.append(_one(name, crop))
    return torch.stack(made).to(crops.device)


def _one(name: str, crop: UInt8[Tensor, "3 s s"]) -> UInt8[Tensor, "3 s s"]:
    transform, given = register.TRANSFORMS[name], _said(crop)
    try:
        made = transform(crop)
    except Exception as error:  # a user's function raises anything
        raise InputError(f"{_whose(name)}: {plugins.said_by(error)}") from error
    if not isinstance(made, Tensor) or _said(made) != given:
        raise InputError(f"{_whose(name)}: gives {_said(made)} for {given}; it must give the same")
    return made


def _said(value: object) -> str:
    """Return the type and the shape of a crop in words."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    where = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')} [{' '.join(map(str, value.shape))}]{where}"


def _whose(name: str) -> str:
    return f"the transform {name} of the plugin {plugins.source_of(register.TRANSFORMS[name])[0]}"
