"""What was probably meant by a word of the command line that is unknown: the ends of error lines. Imports no torch."""

import os
import re
from collections.abc import Collection, Iterable, Sequence

from vergence import config
from vergence.config.schema import members, said
from vergence.config.spelling import closest, nearest

ELSEWHERE = {
    **dict.fromkeys(("accumulate-grad-batches", "grad-accumulation", "grad-accum", "grad-accum-steps"), "accumulate"),
    **dict.fromkeys(("gradient-accumulation-steps", "accum-iter", "accum-steps"), "accumulate"),
    **dict.fromkeys(("batch", "batch-size-per-device", "bs", "global-batch-size"), "batch-size"),
    "per-device-train-batch-size": "batch-size",
    "num-classes": "classes",
    **dict.fromkeys(("dataset", "root", "train-dir"), "data"),
    **dict.fromkeys(("cuda", "devices", "gpu", "gpus"), "device"),
    "drop-path-rate": "encoder.drop-path",
    "global-pool": "encoder.pool",
    **dict.fromkeys(("arch", "backbone", "model"), "encoder"),
    **dict.fromkeys(("max-epochs", "n-epochs", "num-epochs"), "epochs"),
    **dict.fromkeys(("log-every-n-steps", "log-interval"), "log-every"),
    **dict.fromkeys(("init-from", "load-from", "pretrained", "pretrained-weights", "weights"), "encoder.weights"),
    "opt": "optimizer",
    **dict.fromkeys(("base-lr", "learning-rate"), "optimizer.lr"),
    **dict.fromkeys(("clip-grad", "gradient-clip-val", "grad-clip", "max-grad-norm"), "optimizer.clip"),
    **dict.fromkeys(("freeze-epochs", "freeze-backbone"), "optimizer.frozen-epochs"),
    **dict.fromkeys(("layer-lr-decay", "llrd"), "optimizer.layer-decay"),
    **dict.fromkeys(("trust", "trust-coeff"), "optimizer.trust-coefficient"),
    "wd": "optimizer.weight-decay",
    "warmup": "schedule.warmup-epochs",
    **dict.fromkeys(("checkpoint-dir", "default-root-dir", "experiment-dir", "log-dir", "output"), "out"),
    **dict.fromkeys(("output-dir", "save-dir", "save-path"), "out"),
    **dict.fromkeys(("save-freq", "save-interval"), "save-every"),
    **dict.fromkeys(("sched", "scheduler"), "schedule"),
    **dict.fromkeys(("random-seed", "seed-everything"), "seed"),
    **dict.fromkeys(("ema", "ema-decay"), "target.decay"),
    "moves": "target.update-when",
    "horizon": "schedule-epochs",
    **dict.fromkeys(("num-workers", "workers"), "threads"),
    **dict.fromkeys(("augmentation", "augmentations"), "views"),
    **dict.fromkeys(("crop-size", "image-size", "img-size", "imgsz", "input-size"), "views.size"),
}
"""What other programs, or earlier versions of this one, call an option of ours."""

_GOES_ON = "a run goes on with --config FOLDER/run.json --out FOLDER --resume; weights to start from: --encoder.weights"
_LOG = "the log is metrics.jsonl in the run's folder, and vergence report draws it"
_HALF = "networks compute in 16 bits with --precision bfloat16, or float16 and a scaled loss"
_PROCESSES = "several processes are started by torchrun, as docs/distributed.md says"
_SPLIT = "the pictures of --data are divided by their folders: train, val or test, each with a folder for each class"
INSTEAD = {
    **dict.fromkeys(("checkpoint", "ckpt", "ckpt-path", "resume-from", "resume-from-checkpoint"), _GOES_ON),
    **dict.fromkeys(("wandb", "logger", "tensorboard", "project", "entity", "mlflow", "comet"), _LOG),
    **dict.fromkeys(("use-wandb", "wandb-project", "report-to"), _LOG),
    **dict.fromkeys(("amp", "fp16", "half", "bf16", "mixed-precision", "use-amp"), _HALF),
    **dict.fromkeys(("local-rank", "nodes", "num-nodes", "strategy", "world-size", "rank"), _PROCESSES),
    **dict.fromkeys(("dist-url", "distributed", "ddp", "nproc-per-node", "accelerator"), _PROCESSES),
    **dict.fromkeys(("val-dir", "test-dir", "val-data", "train-split", "val-split"), _SPLIT),
    **dict.fromkeys(("max-steps", "steps", "iterations"), "a run is measured in passes over the pictures: --epochs"),
    **dict.fromkeys(("no-labels", "unlabeled"), "no training uses labels; only the probes do, where there are some"),
    **dict.fromkeys(("cos", "cosine"), "the rate follows a cosine; --schedule constant keeps it"),
    **dict.fromkeys(("drop-last", "shuffle", "pin-memory"), "pictures lie in memory, shuffled each epoch by --seed"),
    **dict.fromkeys(("num-classes", "nb-classes"), "classes are those of the folders; nothing asks for their number"),
    **dict.fromkeys(("deterministic",), "every run is: the same configuration gives the same bits"),
    **dict.fromkeys(("knn", "eval", "linear-eval", "eval-every"), "--online knn,linear scores during training"),
}
"""What other programs have an option for, and we do otherwise: a clause that says how."""


def sets() -> dict[str, type[config.Data]]:
    """Return every data set by the name that `--data` gives it; a folder is given by its path."""
    return {cls.kind: cls for cls in members(config.Data) if cls is not config.Folder}


def option(name: str, choices: Sequence[str]) -> str:
    """Return the end of an error line about an unknown option of a run: what it is called or how it is done here, the
    nearest option, or those whose last part is called so.
    """
    name = name.replace("_", "-").lower()
    if elsewhere := _elsewhere(name, choices):
        return elsewhere
    found = [choice for choice in choices if choice.rpartition(".")[2] == name]
    if not found and (close := closest(name, choices)):
        found = [close]
    if not found and (close := closest(name, [other for other, ours in ELSEWHERE.items() if ours in choices])):
        found = [ELSEWHERE[close]]
    if not found:
        found = [choice for choice in choices if choice.rpartition(".")[2].startswith(name)]
    listed = " or ".join(f"'--{choice}'" for choice in found[:3])
    return f"did you mean {listed}?" if listed else "--help lists them all"


def _elsewhere(name: str, choices: Collection[str]) -> str | None:
    """Return what an option of another program is called here, or how it is done here; None where it is not known."""
    if ELSEWHERE.get(name) in choices:
        return f"did you mean '--{ELSEWHERE[name]}'?"
    return INSTEAD.get(name)


def method(name: str, methods: Collection[str], names: Collection[str]) -> str:
    """For a method, of ours or of the paper's table."""
    if name.lower() in sets():
        return f"that is a data set, as in: vergence train byol --data {name.lower()}"
    if "/" in name or name.endswith((".json", ".yaml", ".yml")):
        return "a run is repeated with --config RUN.JSON; pictures are given with --data, a run's folder with --out"
    if close := closest(name, [*methods, *names]):
        return f"did you mean '{close}'?"
    return f"known: {', '.join(methods)}, and names of the paper such as RAFT-LP"


ENCODERS = {
    "beit": "beit_base_patch16_224",
    "clip": "vit_base_patch16_clip_224",
    "convnext": "convnext_tiny",
    "convnextv2": "convnextv2_tiny",
    "deit": "deit_small_patch16_224",
    "densenet": "densenet121",
    "dino": "vit_small_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
    "dinov3": "vit_small_patch16_dinov3",
    "efficientnet": "efficientnet_b0",
    "efficientnetv2": "efficientnetv2_s",
    "eva": "eva02_tiny_patch14_224",
    "inception": "inception_v3",
    "ijepa": "vit_huge_patch14_224",
    "mae": "vit_base_patch16_224",
    "mixer": "mixer_b16_224",
    "mobilenet": "mobilenetv3_large_100",
    "mobilenetv2": "mobilenetv2_100",
    "mobilenetv3": "mobilenetv3_large_100",
    "regnet": "regnety_008",
    "resnet": "resnet18",
    "resnext": "resnext50_32x4d",
    "siglip": "vit_base_patch16_siglip_224",
    "swin": "swin_tiny_patch4_window7_224",
    "vgg": "vgg16_bn",
    "vit": "vit_small_patch16_224",
    "wide-resnet": "wide_resnet50_2",
    "wideresnet": "wide_resnet50_2",
}
"""What a family of encoders, or of their pretrained weights, is called, and a member of it that timm has."""

_WIDTHS = {"t": "tiny", "ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
_TRANSFORMER = re.compile(r"(?:vit|dino|dinov2|mae|clip)?[-_]?(?:vit)?[-_]?([a-z]+)[-_/]?(?:p|patch)?(\d+)(?:[-_]\d+)?")
_TRAINED = re.compile(r"[/:]|beit|clip|dino|jepa|mae|siglip")
"""In a name that stands for weights as much as for a network."""

_FILES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".onnx", ".tar", ".json", ".h5")


def encoder(name: str, known: Collection[str]) -> str:
    """Return the whole error line about a name of an encoder that timm does not have."""
    base, tag, _ = name.partition(".")
    if tag and base in known:
        return f"{said(name)} names pretrained weights; write --encoder.weights timm:{name}, or {base} for random ones"
    places = re.split(r"[/:]", name)
    of_a_file = name.lower().endswith(_FILES) or name.startswith((".", "/", "~")) or os.path.exists(name)
    last = places[-1]  # where it comes from may stand before it, and a tag behind
    parts = (last.partition(".")[0], last, last.rpartition(".")[2], name)
    meant = None if of_a_file else next(filter(None, (_encoder(part, known) for part in parts)), None)
    if meant is None and (of_a_file or len(places) > 1):
        what = f"{said(name)} is no model of timm's but a place"
        return f"{what}; name a model, such as resnet18, and weights to start from with --encoder.weights"
    meant = meant or closest(name, known)
    random = ", with random weights" if _TRAINED.search(name.lower()) else ""
    ending = f"did you mean '{meant}'{random}?" if meant else "timm has resnet18 and vit_small_patch16_224, for example"
    return f"unknown model {said(name)}; {ending}"


def _encoder(name: str, known: Collection[str]) -> str | None:
    """A name of timm's that is written otherwise, a family's, or a transformer's by its width and patch."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    if not letters:
        return None
    if same := min((other for other in known if other.replace("_", "") == letters), default=None):
        return same
    if family := next((meant for other, meant in ENCODERS.items() if other.replace("-", "") == letters), None):
        return family
    if parts := _TRANSFORMER.fullmatch(name.lower().replace(" ", "-")):
        stem = f"vit_{_WIDTHS.get(parts[1], parts[1])}_patch{parts[2]}_"
        endings = ("dinov2", "224") if "dinov2" in letters else ("224",)
        if found := next((stem + ending for ending in endings if stem + ending in known), None):
            return found
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    if inside := next((word for word in words if word in known), None):
        return inside
    begun = [other for other in known if len(letters) > 5 and other.replace("_", "").startswith(letters)]
    if begun and "vit" not in words:
        return min(begun, key=lambda other: (len(other), other))
    return next((ENCODERS[word] for word in words if word in ENCODERS), None)


def choice(word: str, choices: Iterable[str]) -> str:
    """For a command or an experiment, where a method's name may stand by mistake."""
    methods = {cls.kind for cls in members(config.Method)}
    return f"to train it: vergence train {word.lower()}" if word.lower() in methods else nearest(word, choices)


def argument(word: str, program: str, takes: Iterable[str]) -> str:
    """For a word that no option takes, of a program such as `vergence train` with the options `takes`."""
    takes = {option[2:] for option in takes if option.startswith("--")}
    name, equals, value = word.partition("=")
    if word.startswith("--"):
        if elsewhere := _elsewhere(name[2:].replace("_", "-").lower(), takes):
            return elsewhere
        close = closest(name[2:], takes)
        return f"did you mean '--{close}'?" if close else f"see {program} --help"
    if word.startswith("-") or equals:
        return f"options are written --{name.lstrip('-')} {value or 'VALUE'}"
    if word.lower() in sets() and "data" in takes:
        return f"did you mean --data {word.lower()}?"
    if "/" in word and {"data", "out"} <= takes:
        return "pictures are given with --data, a run's folder with --out"
    return f"see {program} --help"
