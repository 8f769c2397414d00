"""The card of an exported encoder: what it is, how it is used, how well it did, and whose it is."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vergence.config.schema import to_dict
from vergence.exports.formats import INPUT, unknown_to_timm
from vergence.exports.suffixes import SUFFIXES
from vergence.files.names import shown
from vergence.files.results import read_summary
from vergence.files.run_folder import SUMMARY
from vergence.report import scores as accuracies
from vergence.report.content import one_line
from vergence.report.rows import numbers_of
from vergence.runs import Model

_HUB = """---
library_name: timm
tags:
- image-feature-extraction
- timm
- vergence
---
"""
"""What stands before the text for whoever lists a folder of models."""


def card(model: Model, about: Mapping[str, Any], names: Sequence[str], compared: str) -> str:
    """Return the card as Markdown.

    Args:
        model: what was exported.
        about: its description.
        names: of the exported files that it speaks of; of a model's folder, the folder's.
        compared: a sentence on how far they are from the trained network.
    """
    hub = any(Path(name).suffix not in sum(SUFFIXES.values(), ()) for name in names)
    return (_HUB if hub else "") + "\n".join(_lines(model, about, names, compared)) + "\n"


def _lines(model: Model, about: Mapping[str, Any], names: Sequence[str], compared: str) -> Iterator[str]:
    own, seen = about["vergence"], about["pretrained_cfg"]
    yield f"# {shown(model.name)}\n"
    yield f"A trained image encoder: a picture in, {model.dim} numbers out. {compared}\n"
    yield "## Pictures\n"
    yield (
        f"Red, green and blue. The middle square, resized to {model.views.size} x {model.views.size} pixels (an "
        f"antialiased {seen['interpolation']} filter), in [0, 1], minus the mean {_numbers(seen['mean'])}, divided by "
        f"{_numbers(seen['std'])}. float32, `[n 3 {model.views.size} {model.views.size}]`.\n"
    )
    yield from (f"Assumed: {remark}.\n" for remark in model.remarks)
    yield "## Use\n"
    for name in names:
        yield from _use(model, about, name)
    yield "## Training\n"
    yield from _training(model, own)
    yield "## Scores and verdict\n"
    yield from _outcome(model)
    yield "## Licence\n"
    yield (
        "The weights belong to whoever trained them, who chooses their licence. The program that wrote this, Vergence, "
        "is under Apache-2.0, which says nothing about weights. The terms of the pictures may apply."
    )
    if start := own.get("started_from"):
        yield (
            f"\nThe encoder started from other weights, whose licence may apply: {shown(start['name'])}, SHA-256 "
            f"`{start['sha256']}`."
        )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _use(model: Model, about: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield how a file is loaded and asked, in a program of three lines."""
    suffix, quoted = Path(name).suffix, json.dumps(shown(name))
    if suffix == ".onnx":
        lines = [
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({quoted})",
            f'(y,) = session.run(None, {{"{INPUT}": pictures.numpy()}})',
        ]
    elif suffix in SUFFIXES["torch-export"]:
        lines = ["import torch", f"encoder = torch.export.load({quoted}).module()", "y = encoder(pictures)"]
    elif suffix in SUFFIXES["torchscript"]:
        lines = ["import torch", f"encoder = torch.jit.load({quoted})", "y = encoder(pictures)"]
    elif suffix not in SUFFIXES["safetensors"]:
        built = f"timm.create_model({json.dumps(f'local-dir:{shown(name)}')}, pretrained=True, num_classes=0).eval()"
        lines = ["import timm", f"encoder = {built}", "y = encoder(pictures)"]
    elif model.architecture is None or unknown_to_timm(model.architecture):
        lines = [
            "from vergence.runs import open_model",
            f"encoder = open_model({quoted}).encoder",
            "y = encoder(pictures)",
        ]
    else:
        grid = f", img_size={model.views.size}" if about["pretrained_cfg"].get("fixed_input_size") else ""
        built = f'timm.create_model("{model.architecture.name}", num_classes=0{grid}, checkpoint_path={quoted}).eval()'
        lines = ["import timm", f"encoder = {built}", "y = encoder(pictures)"]
    yield "\n".join(["```python", *lines, "```\n"])


def _training(model: Model, own: Mapping[str, Any]) -> Iterator[str]:
    if model.run is None:
        yield "It was trained elsewhere.\n"
        return
    run, count = model.run, own["pictures"]
    yield f"- pictures: {own['data']}{f', {count:,} of them' if isinstance(count, int) else ''}"
    yield f"- method: {run.method.kind}, {own['step']:,} steps of {run.batch_size:,} pictures"
    yield f"- encoder: {run.encoder.name}, stem {run.encoder.stem}, norm {run.encoder.norm}"
    yield f"- run: {run.key}, seed {run.seed}, Vergence {own['version']}\n"
    yield "All settings:\n"
    yield "\n".join(["```json", json.dumps(to_dict(run, skip_added=True, places=False), indent=1), "```\n"])


def _outcome(model: Model) -> Iterator[str]:
    """Yield the scores, each beside what it must beat, and the verdicts, as far as the run has them."""
    if model.run is None or model.folder is None or not os.path.exists(model.folder / SUMMARY):
        yield "None: it is of no finished run.\n"
        return
    summary = read_summary(model.folder, model.run)
    for label, key in (("projections", "verdict"), ("representation", "representation")):
        if verdict := summary.get(key):
            numbers = f" ({said})" if (said := numbers_of(verdict)) else ""
            yield f"- verdict on the {label}: **{one_line(verdict['state'])}**: {one_line(verdict['rule'])}{numbers}"
    for probe, name in accuracies.NAMES.items():
        value = accuracies.accuracy([summary], probe)
        if value.mean is not None:
            ends = f" [{value.interval[0]:.1f}, {value.interval[1]:.1f}]" if value.interval else ""
            beside = "".join(f", {baseline} {number:.1f}%" for baseline, number in value.baselines.items())
            protocol = one_line(str(summary[probe].get("protocol") or ""))
            yield f"- {name}: **{value.mean:.1f}%**{ends}{beside}; {protocol}"
    yield from (f"- warning: {one_line(sentence)}" for sentence in accuracies.warnings([summary]))
    yield ""
