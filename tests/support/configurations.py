"""Configurations with every member of every slot, and ways to change one of their values."""

import json
import types
import typing

from vergence import config as c
from vergence.config import schema
from vergence.config.schema import members, plain, to_dict
from vergence.presets import methods

DATA = {
    "digits": c.Digits(),
    "cifar10": c.CIFAR10(),
    "cifar100": c.CIFAR100(labels="coarse"),
    "stl10": c.STL10(fold=3),
    "imagenette": c.Imagenette(version="320px"),
    "tiny-imagenet": c.TinyImageNet(),
    "imagenet": c.ImageNet(),
    "folder": c.Folder(root="pictures"),
}
BYOL = c.Run(method=c.BYOL())

SLOTS = [
    ((), BYOL),
    *((("method",), c.Run(method=method)) for method in methods().values()),
    *((("method", "predictor"), c.Run(method=c.BYOL(predictor=cls()))) for cls in members(c.Predictor)),
    *((("method", "target"), c.Run(method=c.BYOL(target=cls()))) for cls in members(c.Target)),
    *((("optimizer",), c.Run(method=c.SimCLR(), optimizer=cls())) for cls in members(c.Optimizer)),
    *((("data",), c.Run(method=c.SimCLR(), data=data)) for data in DATA.values()),
    (("schedule",), c.Run(method=c.SimCLR(), schedule=c.Constant(), schedule_epochs=30, subset=100)),
]
"""Every member of every slot at least once: where it stands, and a run that has it."""


def leaves(annotation, value, path=()):
    """Every value of a configuration, as (path, annotation, value)."""
    if not members(annotation):
        yield path, annotation, value
        return
    for name, inner in schema.fields(type(value)).items():
        yield from leaves(inner, getattr(value, name), (*path, name))


def altered(run, path, value):
    """The run as JSON with another value at a path."""
    data = to_dict(run, stored=False)
    node = data
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return data


WRONG = (None, True, 1.5, -(10**400), float("nan"), float("inf"), "x", [], [1], {}, [{}] * 3)
"""Of each type and size that a value may be wrong in."""


def allowed(annotation):
    """The JSON types an annotation may hold."""
    inner, _ = plain(annotation)
    arguments = typing.get_args(inner)
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        return {kind for argument in arguments for kind in allowed(argument)}
    if typing.get_origin(inner) is tuple:
        return {list} if arguments[1:] == (Ellipsis,) else set()
    return {str: {str}, types.NoneType: {types.NoneType}}.get(inner, set())


def takes_numbers(annotation):
    """Whether a finite number with a point may stand there, alone or beside none."""
    inner, _ = plain(annotation)
    return inner is float or (typing.get_origin(inner) is not tuple and float in typing.get_args(inner))


WHOLE = json.dumps(to_dict(BYOL))


def with_value(text):
    """The run as JSON with this text as the learning rate."""
    return WHOLE.replace('"lr": 0.03', f'"lr": {text}').encode()
