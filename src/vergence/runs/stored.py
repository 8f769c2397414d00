"""A run that is there: its networks with the weights they have now, and their scores."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from vergence import methods
from vergence.config import Data, Run, data_name
from vergence.data.images import unscored
from vergence.engine import checkpoint
from vergence.engine.evaluate import beside, evaluate
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.names import path_or_none
from vergence.files.run_folder import (
    CHECKPOINTS,
    EVALUATION,
    EVALUATION_RANDOM,
    SUMMARY,
    found_again,
    own_key,
    run_in,
)
from vergence.networks.encoders import from_random, use_plain_layers
from vergence.runs import pictures
from vergence.runs.pictures import labelled


def score(
    folder: Path | str,
    *,
    data: Data | None = None,
    where: Where = Where(),
    random: bool = False,
    probing: Probing = Probing(),
) -> dict[str, Any]:
    """Evaluate the last checkpoint of a run, or with `random` its encoder's first weights; written into the folder.

    Args:
        folder: of the run.
        data: labelled pictures to fit and score on, in size and options as the run's; None: the run's own. Where they
            are not the same pictures, all of them are used, and the scores are written into a file of their own.
        where: the pictures' folder, and the device.
        random: see above.
        probing: which probes, and how.

    Raises:
        InputError: there is no run, no checkpoint, no label; or the run's own pictures are gone or have changed.

    Returns:
        What `evaluate` returns, under "encoder" which one it was, and under "scored_on" on which pictures.
    """
    folder, data_dir = Path(folder), path_or_none(where.data_dir)
    if random:
        run = run_in(folder)
        method, step = methods.build(from_random(run)), 0
    else:
        run, method, step = load(folder)
    run, own = pictures.to_score(run, folder, data, data_dir)
    splits = labelled(run, data_dir)
    if (reason := unscored(*splits)) is not None:
        raise InputError(f"{run.data.kind}: {reason}; there is nothing to score against")
    score = partial(evaluate, where=where, probing=probing, precision=run.precision)
    scores = score(method.encoder, *splits, run.views)
    if step and run.encoder.weights is not None and os.path.exists(run.encoder.weights):
        scores = beside(scores, "starting weights", score(methods.build(run).encoder, *splits, run.views))
    if step:
        scores = beside(scores, "untrained", score(methods.build(from_random(run)).encoder, *splits, run.views))
    which = "random weights" if random else f"checkpoint after step {step}"
    name, digest = data_name(run.data), pictures.digest_of(splits)
    about = {"name": name, "digest": digest, "of_the_run": own}
    result = {"encoder": f"{run.encoder.name}, {which}", "scored_on": about, **scores}
    path = folder / (EVALUATION_RANDOM if random else EVALUATION)
    if where.group.is_main:
        durable.write_json(path if own else path.with_stem(f"{path.stem}-on-{name}-{digest[:8]}"), result)
    return where.group.broadcast_object(lambda: result)


def load(folder: Path | str, *, data_dir: Path | None = None) -> tuple[Run, methods.Method, int]:
    """Return a run, its method with the newest checkpoint's weights, on the CPU in evaluation mode, and that step.

    Where the run's pictures are no more where it began, its `data` is where they lie in `data_dir`, if they do.
    """
    folder = Path(folder)
    run = run_in(folder)
    method = methods.build(from_random(run))
    step, _ = checkpoint.load_newest(folder / CHECKPOINTS, method, None, {"key": own_key(folder, run)})
    if step == 0 < run.epochs:
        if (folder / SUMMARY).exists():
            raise InputError(f"{folder}: this run is finished, but its checkpoints are gone; train it again elsewhere")
        raise InputError(f"{folder}: no checkpoint yet; train it first")
    return replace(run, data=found_again(run.data, folder, data_dir)), method.eval(), step


def load_encoder(folder: Path | str) -> nn.Module:
    """Return the trained encoder of a run, in evaluation mode: normalized pictures `[b 3 s s]` to `y`, `[b dim]`.

    All its layers are torch's or timm's, so that it can be exported, saved and fine-tuned without this library.
    """
    return use_plain_layers(load(folder)[1].encoder)
