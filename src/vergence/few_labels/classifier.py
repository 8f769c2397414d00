"""A fine-tuned classifier as files that timm and this library read: weights under timm's keys, and what they are."""

import copy
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from vergence.config.schema import to_dict
from vergence.few_labels.finetune import Classifier
from vergence.files import durable
from vergence.networks.weights import DESCRIPTION
from vergence.runs import Model

WEIGHTS = "model.safetensors"


def write_classifier(classifier: Classifier, model: Model, classes: tuple[str, ...], folder: Path) -> None:
    """Write `model.safetensors` and `config.json`, in timm's form, into a folder.

    `timm.create_model("local-dir:FOLDER")` loads a classifier whose architecture is one of timm's as it is. The tensors
    of any other are called `encoder.NAME` and `head.NAME`, as `few_labels.finetune.Classifier` calls them.

    Args:
        classifier: fine-tuned.
        model: what it was made from.
        classes: their names, in the order of what the classifier gives.
        folder: where it goes.
    """
    architecture = model.architecture
    named = None if architecture is None else _as_timms(classifier, architecture.name, model.views.size)
    state = (classifier if named is None else named).state_dict()
    views = model.views
    seen = {
        "input_size": [3, views.size, views.size],
        "mean": list(views.mean),
        "std": list(views.std),
        "num_classes": len(classes),
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    if named is not None:
        seen |= {key: named.pretrained_cfg[key] for key in ("classifier", "first_conv") if key in named.pretrained_cfg}
    about: dict[str, Any] = {
        "architecture": None if architecture is None else architecture.name,
        "num_classes": len(classes),
        "num_features": model.dim,
        "label_names": list(classes),
        "pretrained_cfg": seen,
        "vergence": {"timm": named is not None, "made_from": model.name}
        | ({} if architecture is None else {"encoder": to_dict(architecture)}),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    durable.write_file(folder / WEIGHTS, safetensors.torch.save(tensors, {"format": "pt"}))
    durable.write_file(folder / DESCRIPTION, json.dumps(about, indent=1).encode() + b"\n")


def _as_timms(classifier: Classifier, name: str, size: int) -> Any:
    """Return timm's own network of that name with the classifier's weights; None where it gives other answers."""
    if not timm.is_model(name):
        return None
    state = {key: value.cpu() for key, value in classifier.encoder.state_dict().items()}
    head = classifier.head
    try:
        network: Any = timm.create_model(name, num_classes=head.out_features)
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=(size, size))
        last = network.get_classifier()
        if not isinstance(last, nn.Linear) or last.weight.shape != head.weight.shape:
            return None
        strange = network.load_state_dict(state, strict=False).unexpected_keys
        last.load_state_dict({key: value.cpu() for key, value in head.state_dict().items()})
        pictures = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours, theirs = copy.deepcopy(classifier).cpu().eval()(pictures), network.eval()(pictures)
    except (RuntimeError, TypeError, ValueError, AttributeError):  # shapes of another stem, what a network lacks
        return None
    return network if not strange and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4) else None
