"""What an exported encoder says of itself: a JSON object in the form of timm's `config.json`, with a part of ours."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from vergence import __version__
from vergence.config import Folder, Run, data_name
from vergence.config.schema import to_dict
from vergence.files.run_folder import RUN, read_json
from vergence.networks.weights import TIMM, weights_digest
from vergence.runs import Model

_OF_TIMM = ("first_conv", "classifier", "fixed_input_size")
"""What timm must know of an architecture to give its weights another head, and its positions their grid."""


def described(model: Model, encoder: nn.Module) -> dict[str, Any]:
    """Return the description of a model.

    Args:
        model: which one.
        encoder: its network as it is exported.
    """
    architecture, views = model.architecture, model.views
    of_timm: Any = getattr(encoder, "pretrained_cfg", {})
    found = {
        "architecture": architecture and architecture.name,
        "num_classes": 0,
        "num_features": model.dim,
        "pretrained_cfg": {
            **{name: of_timm[name] for name in _OF_TIMM if of_timm.get(name) is not None},
            "num_classes": 0,
            "input_size": [3, views.size, views.size],
            "mean": [*views.mean],
            "std": [*views.std],
            "interpolation": _interpolation(model.run),
            "crop_pct": 1.0,
            "crop_mode": "center",
        },
        "vergence": {
            "version": __version__,
            "weights": weights_digest(encoder, views.size),
            **({"encoder": to_dict(architecture, skip_added=True, places=False)} if architecture else {}),
            **_of_run(model),
        },
    }
    return json.loads(json.dumps(found))  # what a reader of the file gets: lists for tuples


def _interpolation(run: Run | None) -> str:
    """Return the filter by which pictures are resized: that of views, unless they were resized when they were read."""
    squares = run is not None and isinstance(run.data, Folder) and run.data.crops == "square"
    return "bicubic" if squares else "bilinear"


def _of_run(model: Model) -> dict[str, Any]:
    """Return what trained a model and on what; places of files are left out."""
    if model.run is None or model.folder is None:
        return {}
    run, there = model.run, read_json(model.folder / RUN)
    found = {
        "method": to_dict(run.method, skip_added=True, places=False),
        "data": data_name(run.data),
        "pictures": there.get("pictures"),
        "key": run.key,
        "step": model.step,
    }
    if (weights := run.encoder.weights) is not None:
        name = weights if weights.startswith(TIMM) else Path(weights).name
        found["started_from"] = {"name": name, "sha256": run.encoder.weights_hash}
    return found
