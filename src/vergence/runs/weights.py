"""A run that starts from weights: what they decide of it, and the hash that its name holds."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from vergence.config import Run
from vergence.errors import InputError
from vergence.files.names import shown
from vergence.machine.randomness import drawn_from
from vergence.networks.encoders import build_encoder
from vergence.networks.weights import find


def from_weights(run: Run, keep: Collection[str] = ()) -> Run:
    """Return a run with what the weights that its encoder starts from decide; one from random weights as it is.

    They decide their hash, the encoder's architecture, by what pictures are normalized, and the side of pictures and
    views: as far as that is known of them, and is not to be kept.

    Args:
        run: whose `encoder.weights` names them.
        keep: what stays as it is in the run, of "encoder", "size", "mean" and "std".

    Raises:
        InputError: there are no such weights, they are others than `encoder.weights_hash` says, or do not fit.
    """
    if run.encoder.weights is None:
        return run
    try:
        source = find(run.encoder.weights)
    except InputError as error:
        raise InputError(f"--encoder.weights: {error}") from error
    digest, wanted = source.digest(), run.encoder.weights_hash
    if wanted not in (None, digest):
        raise InputError(f"--encoder.weights: {shown(source.text)} has the SHA-256 {digest[:12]}..., not {wanted}")
    encoder = run.encoder
    if "encoder" not in keep and source.encoder is not None:
        pool = source.encoder.pool if encoder.pool == "default" else encoder.pool
        encoder = replace(source.encoder, pool=pool, drop_path=encoder.drop_path)
    views: dict[str, Any] = {}
    for name in ("mean", "std"):
        if name not in keep and (value := getattr(source, name)) is not None:
            views[name] = value
    data = run.data
    if "size" not in keep and source.size is not None:
        views["size"], data = source.size, replace(data, size=source.size)
    encoder = replace(encoder, weights=source.text, weights_hash=digest)
    run = replace(run, encoder=encoder, data=data, views=replace(run.views, **views))
    with drawn_from(torch.Generator()):
        build_encoder(encoder, run.views.size)  # what does not fit is said before anything is written
    return run


def require_hash(run: Run) -> None:
    """See that the name of a run that starts from weights says which they are.

    Raises:
        InputError: it does not.
    """
    if run.encoder.weights is not None and run.encoder.weights_hash is None:
        raise InputError("encoder.weights: the run's name needs their hash: vergence.runs.from_weights(run) reads it")
