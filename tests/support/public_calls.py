"""A call of each public function, for tests of what calls leave behind. Run as a script, it measures freed memory."""

import inspect
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from small_runs import SHORT, views_of
from vergence import augment, config, data, losses, methods, presets, runs
from vergence.engine import evaluate, train
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.exports import export
from vergence.metrics import collapse, diagnosis, measure, probe, softmax_regression, traces, verdict

MODULES = {
    module.__name__.removeprefix("vergence."): module
    for module in (
        *(losses, collapse, diagnosis, measure, probe, softmax_regression, traces, verdict),
        *(methods, augment, data, evaluate, runs, train, presets, config, export),
    )
}
"""The modules whose functions programs call, by name."""


def public(module):
    """The names of a module's public functions: those it exports, or else those it defines."""
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
    ]
    return {name for name in names if not name.startswith("_") and inspect.isfunction(getattr(module, name))}


def calls(name, folder):
    """Calls of the public functions of a module, by their names and, after a comma, how they are called.

    Args:
        name: of the module.
        folder: a copy of the finished run `SHORT`, which calls may write into.
    """
    module = MODULES[name]
    images = data.load(config.Digits(), "test").take(torch.arange(60))
    given = {
        "losses": _losses,
        "metrics.collapse": _collapse,
        "metrics.diagnosis": _diagnosis,
        "metrics.measure": _measure,
        "metrics.probe": partial(_probe, images),
        "metrics.softmax_regression": partial(_softmax_regression, images),
        "metrics.traces": _traces,
        "metrics.verdict": _verdict,
        "methods": lambda: {"build": [SHORT], "on_embeddings": [config.BYOL(), 8]},
        "augment": partial(_augment, images),
        "data": lambda: {
            "load": [config.Digits(), "train"],
            "inspect": [config.Digits()],
            "stream": [config.Digits(), 16],
            "default_cache_dir": [],
            "pack": [folder.parent / "packed.arrow", {"train": images.pixels.numpy()}],
        },
        "engine.evaluate": partial(_evaluate, images, folder),
        "runs": partial(_runs, images, folder),
        "engine.train": lambda: {
            "train": [SHORT, images, folder.parent, {"reporter": Reporter()}],
            "steps_per_epoch": [SHORT, 60],
        },
        "presets": _presets,
        "config": _config,
        "exports.export": partial(_export, folder),
    }[name]()
    made = {}
    for call, values in given.items():
        options = values.pop() if values and isinstance(values[-1], dict) else {}
        made[call] = partial(getattr(module, call.partition(",")[0]), *values, **options)
    return made


def _losses():
    z = torch.rand(4, 3)
    two = dict.fromkeys(("squared_distance", "tangential", "alignment"), (z, z))
    four = dict.fromkeys(("cross_model", "byol", "byol_prime", "raft", "simsiam"), (z, z, z, z))
    others = {"info_nce": (z, z, z, 0.2), "nt_xent": (z, z, 0.2), "normalize": (z,), "uniformity": (z,)}
    others |= {"isoloss": (z, z, z)}
    others |= {"nnclr": (z, z, z, z, 0.2), "variance_hinge": (z,), "covariance_penalty": (z,)}
    others |= dict.fromkeys(("barlow_twins", "barlow_twins_terms", "vicreg"), (z, z))
    others |= {"sinkhorn": (z,), "swav": (z, z), "dino": (z, z, z[0]), "sharpened": (z, z[0], 0.04)}
    others |= dict.fromkeys(("sigreg", "visreg", "visreg_shape"), (z, z))
    others |= dict.fromkeys(("visreg_scale", "visreg_mean", "whiten"), (z,))
    others |= {"w_mse": (z, z), "centre_distance": (z[None],)}
    decorated = {"of_embeddings": (lambda z: z,), "across_crops": (losses.squared_distance, [z, z, z], [z, z])}
    return {call: list(values) for call, values in (two | four | others | decorated).items()}


def _collapse():
    z = torch.rand(4, 3)
    one = ("feature_std", "gram", "spectrum", "effective_rank", "rank_of_gram", "centred_gram", "centred_rank")
    two = ("positive_negative_cosine", "positive_cosine", "negative_cosine", "centred_agreement")
    return {name: [z] for name in one} | {name: [z, z] for name in two} | {"rank_of_gram": [z @ z.T]}


def _diagnosis():
    y = torch.rand(30, 20)
    one = ("rankme", "participation_ratio", "nesum", "stable_rank", "explained_variance_auc", "alpha_req")
    others = ("mean_cosine", "dead_dimensions", "norm_spread")
    two = {name: [y, y.flip(0)] for name in ("invariance", "neighbour_agreement")}
    return {name: [y] for name in (*one, *others)} | two | {"lidar": [torch.rand(5, 4, 3)]}


def _measure():
    outputs = methods.build(SHORT)(views_of())
    found = {"z": torch.rand(2, 4, 3)}
    begin = {"loss": {}, "terms": {}, "layers": None}
    return {
        "measure": [outputs],
        "read": [outputs, None],
        "embeddings": [outputs.z, outputs.y, {"z_target": outputs.z}],
        "begin": [measure.embeddings(outputs.z), begin],
        "number": ["uniformity", {"found": found}],
    }


def _probe(images):
    features = probe.Features(torch.rand(60, 8), images.labels)
    both = dict.fromkeys(("knn", "linear"), (features, features))
    others = {"linear_raft": (features, features, {"epochs": 2}), "logistic": (features,)}
    answers = (images.labels, images.labels, images.labels, "all right")
    plain = {"interval": (3, 7), "unscored": ("no labels",), "score": answers}
    plain |= {"difference_interval": (90.0, (85.0, 94.0), 80.0, (75.0, 85.0))}
    return {call: list(values) for call, values in (both | others | plain).items()}


def _softmax_regression(images):
    fold = torch.arange(60) % 2 == 0
    chosen = [torch.rand(60, 8), images.labels, len(images.classes), [1.0, 0.1], [(fold, ~fold)]]
    square = [lambda x: (float(x @ x), 2 * x), torch.ones(3).double().numpy(), 1e-6, 10]
    return {"minimize": square, "choose_penalty": chosen}


def _traces():
    method, z = methods.build(SHORT), torch.rand(20, 8)
    split = [method(views_of()), list(method.online.parameters())]
    looks = {"circle": [z, z[:3], z[3:6]], "leading_spectrum": [z]}
    return {"gradient_split": split, "predictor_trace": [method.predictor, z], **looks}


def _verdict():
    numbers = dict.fromkeys(verdict.REPRESENTATION, 0.5)
    return {
        "judge_representation": [numbers, numbers, 60],
        "judge_encoder": [None, None, 60, 8],
        "decide": [verdict.REPRESENTATION_RULES, {"lines": 0.0}, {}],
    }


def _augment(images):
    x, one, generator = torch.rand(4, 3, 16, 16), torch.ones(4), torch.Generator().manual_seed(0)
    drawn = augment.draw(SHORT.views.first, 4, 16, generator)
    whole = [torch.zeros(4, dtype=torch.long)] * 2 + [torch.full((4,), 16)] * 2
    colours = ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue")
    pixels = images.pixels[:4]
    ragged = augment.Ragged(lambda index, factor: pixels[index], torch.full((4, 2), 16))
    return {
        **{name: [x, one / 4] for name in colours},
        "jitter": [x, one, one, one, one / 4, drawn.order],
        "crop_resize": [x, *whole, 8],
        "gaussian_blur": [x, one, 3],
        "grayscale": [x],
        "solarize": [x],
        "normalize": [x, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)],
        "kernel_size": [96],
        "draw": [SHORT.views.first, 4, 16, generator],
        "apply": [pixels, 16, 16, drawn, SHORT.views],
        "two_views": [pixels, 16, SHORT.views, generator],
        "multi_crop": [pixels, 16, replace(SHORT.views, local=config.Local(count=3)), generator],
        "evaluation_view": [pixels, 16, SHORT.views],
        "two_views, of different shapes": [ragged, None, SHORT.views, generator],
        "evaluation_view, of different shapes": [ragged, None, SHORT.views],
    }


def _evaluate(images, folder):
    encoder, cpu = runs.load_encoder(folder), {"device": "cpu"}
    return {
        "features": [encoder, images, SHORT.views, cpu],
        "evaluate": [encoder, images, images, SHORT.views],
        "labelled_features": [encoder, images, SHORT.views, cpu],
        "beside": [{}, "untrained", {"others": {}}],
        "representing": [encoder, torch.device("cpu")],
        "look_at_representation": [encoder, images, SHORT.views, cpu],
    }


def _runs(images, folder):
    fresh = folder.parent / "fresh"
    return {
        "run_training": [SHORT, fresh, {"periods": Periods(online=("knn",), trace_every=1)}],
        "run_training, finished": [SHORT, folder],
        "find_finished": [SHORT, folder, False],
        "from_weights": [replace(SHORT, encoder=replace(SHORT.encoder, weights=str(folder)))],
        "open_model": [folder],
        "embed": [runs.open_model(folder), config.Digits(size=16), folder.parent / "embedded.npz"],
        "score": [folder],
        "score, random": [folder, {"random": True}],
        "load": [folder],
        "load_encoder": [folder],
        "subset": [images, 20],
        "diagnose": [runs.open_model(folder), {"most": 30}],
    }


def _export(folder):
    named = {
        "export": "net.safetensors",
        "export, TorchScript": "net.ts",
        "export, torch": "net.pt2",
        "export, ONNX": "net.onnx",
    }
    return {call: [folder, folder.parent / name] for call, name in named.items()} | {
        "export, timm": [folder, folder.parent / "net", {"format": "hf"}]
    }


def _config():
    digits = config.Digits()
    return {"data_name": [digits], "instead": [digits, config.CIFAR10()], "configuration": [type("Plain", (), {})]}


def _presets():
    method, digits = config.BYOL(), config.Digits()
    every = dict.fromkeys(("default", "blog", "raft", "raft_code", "vit"), (method, digits))
    return {call: list(values) for call, values in every.items()} | {
        "methods": [],
        "method_named": ["RAFT-LP"],
        "preset": ["blog", "byol", digits],
    }


# --- freed memory -----------------------------------------------------------------------------------------------------


def kept():
    """MB that stay here of two blocks that were filled and freed, of 40 MB: more than malloc keeps by itself."""
    before = _resident()
    blocks = [torch.ones(10 << 20) for _ in range(2)]
    del blocks
    return _resident() - before


def _resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (pages * 4096) >> 20


if __name__ == "__main__":
    from vergence.machine.memory import keep_freed_memory

    for name in MODULES:
        for call, function in calls(name, Path(sys.argv[1])).items():
            function()
            print(kept(), name, call)
    keep_freed_memory()
    print(kept(), "memory", "keep_freed_memory")
