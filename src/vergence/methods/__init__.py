"""The methods: one file, one paper. `build` turns a configuration into networks."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from vergence import config, register
from vergence.errors import InputError
from vergence.machine.randomness import drawn_from, seed_of
from vergence.machine.threads import require_usable
from vergence.methods.barlow_twins import BarlowTwins
from vergence.methods.base import Method, Outputs
from vergence.methods.byol import BYOL
from vergence.methods.contrastive import Contrastive
from vergence.methods.dino import DINO
from vergence.methods.directpred import DirectPred
from vergence.methods.moco import MoCo
from vergence.methods.nnclr import NNCLR
from vergence.methods.raft import RAFT, BYOLPrime
from vergence.methods.sigreg import SIGReg
from vergence.methods.simclr import SimCLR
from vergence.methods.simsiam import SimSiam
from vergence.methods.supervised import Supervised
from vergence.methods.swav import SwAV
from vergence.methods.vicreg import VICReg
from vergence.methods.w_mse import WMSE
from vergence.networks.branch import Branch, Passage
from vergence.networks.encoders import build_encoder
from vergence.networks.heads import build_projector

__all__ = [
    "BYOL",
    "DINO",
    "NNCLR",
    "RAFT",
    "WMSE",
    "BYOLPrime",
    "BarlowTwins",
    "Contrastive",
    "DirectPred",
    "Method",
    "MoCo",
    "Outputs",
    "SIGReg",
    "SimCLR",
    "SimSiam",
    "Supervised",
    "SwAV",
    "VICReg",
    "build",
    "on_embeddings",
]


def on_embeddings(method: config.Method, dim: int, seed: int = 0) -> Method:
    """Return a method whose encoder and projector do nothing: its views `[2 b dim 1 1]` are embeddings.

    Its loss is that of a training step in which the projector gave these embeddings. Predictor, prototypes and queue
    have their first weights, which depend on the seed alone.
    """

    def branch() -> Branch:
        return Branch(nn.Flatten(), nn.Identity(), dim, Passage())

    return _with_first_weights(method, branch, seed)


def build(run: config.Run) -> Method:
    """The run's networks with their first weights, a function of `run.seed` alone, whatever other threads draw."""
    passage = Passage(run.norm_views, run.precision)
    projector = run.method.projector

    def branch() -> Branch:
        encoder = build_encoder(run.encoder, run.views.size, run.views.local_size if run.views.local.count else None)
        return Branch(encoder, build_projector(projector, cast(int, encoder.dim)), projector.out, passage)

    method = _with_first_weights(run.method, branch, run.seed)
    if run.encoder.drop_path:  # a target is whole, as DINO's teacher is
        for module in method.target.modules():
            if hasattr(module, "drop_prob"):
                cast(Any, module).drop_prob = 0.0
    return method


def _with_first_weights(method: config.Method, branch: Callable[[], Branch], seed: int) -> Method:
    require_usable()
    cls = register.METHODS.get(type(method))
    if cls is None:
        raise InputError(f"method {method.kind}: has settings, but no class with @register.method beside them")
    with drawn_from(torch.Generator().manual_seed(seed_of(seed, "weights"))):
        return cls(method, branch)
