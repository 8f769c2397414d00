"""What a run starts from: the block that says what it found, and how its encoder stands beside its first weights."""

import math
import os
from collections.abc import Sequence

import torch
from torch import nn

from vergence import methods, register
from vergence.augment.ragged import Ragged, shapes_of
from vergence.config import Folder, Run, SwAV
from vergence.data import Images
from vergence.engine.batches import fit
from vergence.engine.evaluate import LOOKED_AT, look_at_representation
from vergence.files.names import listed, shown
from vergence.metrics.verdict import Verdict, judge_representation

Block = list[tuple[str, str]]
"""Labels and what stands beside them, in the order in which they are read."""


def judge_encoder(
    run: Run, encoder: nn.Module, untrained: nn.Module, images: Images, device: torch.device, projections: str
) -> Verdict:
    """Return the verdict on a trained encoder's representation.

    Args:
        run: what was trained.
        encoder: as it is now.
        untrained: as it was with its first weights.
        images: what it was trained on.
        device: where to look.
        projections: the state that the verdict on them names.
    """
    now, before = (
        look_at_representation(one, images, run.views, device=device, precision=run.precision)
        for one in (encoder, untrained)
    )
    return judge_representation(now, before, min(len(images), LOOKED_AT), projections == "complete collapse")


def describe(
    run: Run,
    pictures: Images,
    splits: tuple[Images, Images],
    method: methods.Method,
    device: torch.device,
    unscored: str | None,
) -> Block:
    """Return what a run found before its first step; the terminal prints it, its summary and its page hold it.

    Args:
        run: what will be trained.
        pictures: what views are cut from.
        splits: labelled pictures that probes are fitted on, and scored on.
        method: the run's networks.
        device: where it will be trained.
        unscored: why there will be no scores; None where there will be.
    """
    rows = {
        "pictures": _pictures(run, pictures),
        "classes": _classes(splits[0]),
        "scored on": f"not scored: {unscored}" if unscored else _scored(splits),
        "left out": _left_out(pictures),
        "alike": _alike(pictures),
        "views": _views(run, pictures),
        "decoded": _decoded(pictures, device),
        "encoder": _encoder(run, method),
        "steps": _steps(run, len(pictures)),
        "queue": _queue(run, len(pictures)),
        "device": f"cpu, {_counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else str(device),
        "cache": shown(str(pictures.facts.get("cache") or "")),
    }
    return [(label, text) for label, text in rows.items() if text]


def lasting(block: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what a run keeps of its block: all but the folder of cached pixels, a path of the machine it ran on."""
    return [(label, text) for label, text in block if label != "cache"]


def cautions(run: Run, pictures: Images) -> list[str]:
    """Return a line for each setting of a run that is likely to be a mistake with these pictures."""
    found: list[str] = []
    negatives = not isinstance(run.method, SwAV)  # whose queue holds none
    queue, count = negatives and getattr(run.method, "queue", 0), len(pictures)
    if queue >= count:
        times = f"{queue / count:.3g} times the {count:,} pictures"
        advice = f"choose a --queue well below the number of pictures, such as {count // 4 or 1}"
        what = f"the queue's {queue:,} keys are {times}"
        found.append(f"{what}: each picture's own past keys are among its negatives; {advice}")
    if run.accumulate > 1 and not run.method.averages_pictures:
        what = f"with --accumulate {run.accumulate} the loss of {run.method.kind} compares pictures within parts of "
        part = f"{run.batch_size // run.accumulate:,}, not within the batch: another objective"
        found.append(f"{what}{part}; leave it at 1 where memory allows")
    kept, source = _kept(pictures), (pictures.facts.get("side") or {}).get("median", 0)
    if pictures.facts.get("crops") == "whole" and kept < source and kept < run.views.size:
        advice = f"--size {run.views.size} keeps them large enough"
        found.append(f"pictures of {source:,} px are kept at {kept}, and every crop is enlarged; {advice}")
    return found


def _pictures(run: Run, pictures: Images) -> str:
    where = run.data.kind
    if isinstance(run.data, Folder):
        where = listed([shown(place) for place in run.data.places])
        where = where if run.data.more or os.path.isfile(run.data.root) else f"folder {where}"
    part = "" if run.subset is None else ", the subset asked for"
    return f"{len(pictures):,} to train on ({where}{part})"


def _classes(train: Images) -> str:
    if train.labels is None:
        return "none: these pictures have no labels"
    counts = torch.bincount(train.labels, minlength=len(train.classes))
    names = listed(list(train.classes), 10)
    least, most = int(counts.min()), int(counts.max())
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"{len(train.classes)}, of {each} training pictures: {names}"


def _scored(splits: tuple[Images, Images]) -> str:
    fitted, scored = splits
    how = scored.facts.get("test")
    return f"{len(scored):,} {scored.split_name} pictures{f' ({how})' if how else ''}; fitted on {len(fitted):,}"


def _left_out(pictures: Images) -> str:
    facts = pictures.facts
    parts = [f"{n:,} {reason}" for reason, n in (facts.get("left_out") or {}).items()]
    parts += [f"{n:,} {suffix} not read" for suffix, n in (facts.get("unread") or {}).items()]
    parts += [f"{n:,} in {shown(folder)} not used" for folder, n in (facts.get("unused") or {}).items()]
    return "; ".join(parts)


def _alike(pictures: Images) -> str:
    said = {"repeated": "repeat another", "constant": "of one colour", "test_in_train": "test pictures trained on too"}
    return "; ".join(f"{n:,} {words}" for name, words in said.items() if (n := pictures.facts.get(name)))


def _views(run: Run, pictures: Images) -> str:
    """Return how far pictures are enlarged or reduced on their way into a view, as a ratio of sides."""
    kept = _kept(pictures)
    source = (pictures.facts.get("side") or {}).get("median", kept)
    how = "reduced" if source > kept else "enlarged"
    came = "" if source == kept else f", {how} from {source:,} px (median of the shorter sides)"
    least, most = _enlarged(run, pictures)
    scale = f"the largest crop is {_times(least)}, the smallest {_times(most)}"
    whole = "whole " if pictures.facts.get("crops") == "whole" else ""
    local = f" and {run.views.local.count} of {run.views.local_size} px" if run.views.local.count else ""
    return f"two of {run.views.size} px{local}, cut from {whole}pictures kept at {kept} px{came}; {scale}"


def _kept(pictures: Images) -> int:
    """Return the shorter side in pixels at which pictures are kept; of different ones the median."""
    return int(shapes_of(pictures.pixels).amin(1).median())


def _enlarged(run: Run, pictures: Images) -> tuple[float, float]:
    """Return how many times the largest and the smallest crop are enlarged, as ratios of sides."""
    area = float(shapes_of(pictures.pixels).prod(1).median())
    least, most = ([size / math.sqrt(view.crop_scale[i] * area) for view, size in run.views.crops] for i in (1, 0))
    return min(least), max(most)


def _decoded(pictures: Images, device: torch.device) -> str:
    pixels = pictures.pixels
    if isinstance(pixels, Ragged):
        size = 3 * int(pixels.shapes.prod(1).sum())
        return f"once, then held in memory ({size / 1e9:.2g} GB)" if pixels.held else "at each step, ahead of it"
    if device.type == "cpu":
        return ""
    size = f"{pixels.nbytes / 1e9:.2g} GB"
    return f"once, kept on the device ({size})" if fit(pixels, device) else f"once ({size}), copied batch by batch"


def _times(factor: float) -> str:
    if 0.995 < factor < 1.005:
        return "shown pixel for pixel"
    return f"enlarged {factor:.3g} times" if factor > 1 else f"reduced {1 / factor:.3g} times"


def _encoder(run: Run, method: methods.Method) -> str:
    own, all_trained = _parameters(method.encoder), _parameters(method)
    registered = run.encoder.name in register.BACKBONES
    slots = "registered" if registered else f"stem {run.encoder.stem}, {run.encoder.norm} norm"
    width = f", representation of {method.encoder.dim}" if hasattr(method.encoder, "dim") else ""
    start = getattr(method.encoder, "start", "random weights")
    if run.encoder.weights is not None:
        mean, std = (", ".join(f"{value:g}" for value in colour) for colour in (run.views.mean, run.views.std))
        start += f"; pictures normalized by mean {mean} and std {std}"
    return f"{run.encoder.name} ({slots}): {own:,} parameters, {all_trained:,} trained in all{width}; {start}"


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _steps(run: Run, pictures: int) -> str:
    each, rest = divmod(pictures, run.batch_size)
    left = f", {_counted(rest, 'picture')} left over in each epoch" if rest else ""
    batches = f"{_counted(each, 'batch', 'es')} of {run.batch_size:,}"
    parts = f", each in {run.accumulate} parts" if run.accumulate > 1 else ""
    return f"{run.epochs * each:,}: {_counted(run.epochs, 'epoch')} of {batches}{parts}{left}"


def _queue(run: Run, pictures: int) -> str:
    queue = getattr(run.method, "queue", None)
    return "" if queue is None else f"{queue:,} keys: {queue / pictures:.3g} times the pictures"


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{'' if count == 1 else plural}"
