"""What was probably meant by a word of the command line that is unknown: the ends of error lines. Imports no torch."""

from collections.abc import Collection, Iterable, Sequence

from vergence import config
from vergence.schema import closest, members, nearest

ELSEWHERE = {
    "arch": "encoder",
    "augmentation": "views",
    "backbone": "encoder",
    "bs": "batch-size",
    "cuda": "device",
    "dataset": "data",
    "ema": "target.decay",
    "gpu": "device",
    "gpus": "device",
    "image-size": "views.size",
    "learning-rate": "optimizer.lr",
    "max-epochs": "epochs",
    "model": "encoder",
    "num-epochs": "epochs",
    "num-workers": "threads",
    "output": "out",
    "output-dir": "out",
    "wd": "optimizer.weight-decay",
    "workers": "threads",
}
"""What other programs call an option of ours."""

SETS = {cls.kind: cls for cls in members(config.Data) if cls is not config.Folder}
"""The data sets that have a name of their own."""


def option(name: str, choices: Sequence[str]) -> str:
    """For an option of a run: the nearest, or those whose last part is called so."""
    name = name.replace("_", "-").lower()
    if ELSEWHERE.get(name) in choices:
        return f"did you mean '--{ELSEWHERE[name]}'?"
    found = [choice for choice in choices if choice.rpartition(".")[2] == name]
    if not found and (close := closest(name, choices)):
        found = [close]
    if not found:
        found = [choice for choice in choices if choice.rpartition(".")[2].startswith(name)]
    listed = " or ".join(f"'--{choice}'" for choice in found[:3])
    return f"did you mean {listed}?" if listed else "--help lists them all"


def method(name: str, methods: Collection[str], names: Collection[str]) -> str:
    """For a method, of ours or of the paper's table."""
    if name.lower() in SETS:
        return f"that is a data set, as in: vergence train byol --data {name.lower()}"
    if "/" in name or name.endswith((".json", ".yaml", ".yml")):
        return "a run is repeated with --config RUN.JSON; pictures are given with --data, a run's folder with --out"
    if close := closest(name, [*methods, *names]):
        return f"did you mean '{close}'?"
    return f"known: {', '.join(methods)}, and names of the paper such as RAFT-LP"


def choice(word: str, choices: Iterable[str]) -> str:
    """For a command or an experiment, where a method's name may stand by mistake."""
    methods = {cls.kind for cls in members(config.Method)}
    return f"to train it: vergence train {word.lower()}" if word.lower() in methods else nearest(word, choices)


def argument(word: str, program: str, takes: Iterable[str]) -> str:
    """For a word that no option takes, of a program such as `vergence train` with the options `takes`."""
    takes = {option[2:] for option in takes if option.startswith("--")}
    name, equals, value = word.partition("=")
    if word.startswith("--"):
        close = closest(name[2:], takes)
        return f"did you mean '--{close}'?" if close else f"see {program} --help"
    if word.startswith("-") or equals:
        return f"options are written --{name.lstrip('-')} {value or 'VALUE'}"
    if word.lower() in SETS and "data" in takes:
        return f"did you mean --data {word.lower()}?"
    if "/" in word and {"data", "out"} <= takes:
        return "pictures are given with --data, a run's folder with --out"
    return f"see {program} --help"
