"""Complete runs: sensible ones for each data set, and what each document did.

Everything here is a starting point: `dataclasses.replace`, or an option of the command line, changes any part of it.
"""

import math
import re
from dataclasses import replace

from vergence import config as c
from vergence.config import suggest
from vergence.config.schema import members, said
from vergence.config.spelling import nearest
from vergence.errors import InputError
from vergence.presets.documents import blog, raft, raft_code
from vergence.presets.papers import PAPERS
from vergence.presets.suited import suited

__all__ = [
    "NAMES",
    "PAPERS",
    "PRESETS",
    "blog",
    "default",
    "method_named",
    "methods",
    "preset",
    "raft",
    "raft_code",
    "vit",
]


def methods() -> dict[str, c.Method]:
    """Return every method by its name, with the settings that it has by default; a user's own are among them."""
    told_classes_last = sorted(members(c.Method), key=lambda cls: cls is c.Supervised)
    return {cls.kind: cls() for cls in told_classes_last}


def default(method: c.Method, data: c.Data) -> c.Run:
    """A run that suits the pictures: views of their size, the CIFAR stem for small photos, SGD with a cosine.

    The moving average starts at 0.99, for runs far shorter than the papers', and a queue holds 4,096 keys: it begins
    with random ones, and until it has gone round once the negatives are noise. Digits get 1,024 keys, timm's smallest
    ResNet (0.4 M weights), and views that are not mirrored, since a mirrored digit is no digit.
    """
    target = getattr(method, "target", None)
    if isinstance(target, c.MovingAverage) and target == getattr(methods()[method.kind], "target", None):
        method = replace(method, target=c.MovingAverage(decay=0.99))
    if isinstance(method, c.MoCo | c.Contrastive):
        method = replace(method, queue=1024 if isinstance(data, c.Digits) else 4096)
    views = replace(c.VIEWS["blog"], size=data.size)
    run = c.Run(method=method, data=data, views=views, optimizer=c.SGD(lr=0.06), epochs=20, batch_size=128)
    return suited(_for_pictures(run))


def _for_pictures(run: c.Run) -> c.Run:
    data, views = run.data, run.views
    match data:
        case c.Digits():
            view = replace(views.first, flip=0.0, crop_scale=(0.4, 1.0))
            return replace(
                run,
                views=replace(views, first=view, second=view),
                encoder=c.Encoder(name="test_resnet"),
                optimizer=c.SGD(lr=0.2),
                epochs=30,
                batch_size=64,
            )
        case c.CIFAR10() | c.CIFAR100():
            return replace(run, encoder=c.Encoder(stem="cifar"), optimizer=c.SGD(lr=0.06, weight_decay=5e-4))
        case _:
            return run


def vit(method: c.Method, data: c.Data) -> c.Run:
    """Return a run that suits a vision transformer: the optimizer of DINO's code for its small ViT, and `default` else.

    ViT-Ti with patches of 16 px on views of 64 px or more, drop path 0.1; AdamW at 5e-4 for each 256 pictures of a
    batch, weight decay from 0.04 to 0.4 by a cosine on matrices only, gradients clipped at a norm of 3; 100 epochs,
    the first 10 of them warm-up from its first share.
    """
    run = default(method, replace(data, size=max(64, 16 * math.ceil(data.size / 16))))
    batch_size = 256
    return replace(
        run,
        encoder=c.Encoder(name="vit_tiny_patch16_224", drop_path=0.1),
        optimizer=c.AdamW(
            lr=5e-4 * batch_size / 256, weight_decay=0.04, weight_decay_end=0.4, decay="matrices", clip=3.0
        ),
        schedule=c.Cosine(warmup_epochs=10, warmup_from="first-share"),
        epochs=100,
        batch_size=batch_size,
    )


PRESETS = {"default": default, "vit": vit, "blog": blog, "raft": raft, "raft-code": raft_code, **PAPERS}

_PREDICTORS: dict[str, c.Predictor] = {
    "MLPP": c.MLPPredictor(norm="none"),
    "LP": c.LinearPredictor(),
    "LPI": c.LinearIdentityPredictor(),
    "NP": c.NoPredictor(),
}
_OBJECTIVES: dict[str, c.Method] = {
    "BYOL": c.BYOL(),
    "BYOL'": c.BYOLPrime(),
    "RAFT": c.RAFT(),
}
NAMES: dict[str, c.Method] = {
    f"{objective}-{predictor}": replace(method, predictor=slot)
    for objective, method in _OBJECTIVES.items()
    for predictor, slot in _PREDICTORS.items()
} | {
    f"Tan{objective}-LP": replace(method, predictor=c.LinearPredictor(), distance="tangential")
    for objective, method in _OBJECTIVES.items()
}
"""The names of the paper's look-up table (Table 2), and the rows that complete it."""


def method_named(name: str) -> tuple[c.Method, c.Predictor | None]:
    """A method of this library ("byol-prime") or of the paper's table ("RAFT-LPI").

    With it comes the predictor that a name of the table fixes.
    """
    known = methods()
    if name.lower() in known:
        return known[name.lower()], None
    spelled = re.sub("-?PRIME|\u2019", "'", name.upper())
    paper = {key.upper(): key for key in NAMES}.get(spelled)
    if paper is None:
        raise InputError(f"unknown method {said(name)}; {suggest.method(name, known, NAMES)}")
    method = NAMES[paper]
    return method, getattr(method, "predictor", None)


def preset(name: str, method_name: str, data: c.Data) -> c.Run:
    """The run of a preset, for a method by its name; a name of the paper's table keeps its own predictor."""
    if name not in PRESETS:
        raise InputError(f"--preset: unknown preset {said(name)}; {nearest(name, PRESETS)}")
    method, predictor = method_named(method_name)
    run = PRESETS[name](method, data)
    return run if predictor is None else replace(run, method=replace(run.method, predictor=predictor))
