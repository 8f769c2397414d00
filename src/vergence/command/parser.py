"""The names of the commands. Nothing here imports more than the standard library: help waits for it."""

import argparse
from typing import Any

from vergence import __version__
from vergence.errors import InputError

COMMANDS = {
    "train": "train a method on pictures, watch it, evaluate it",
    "evaluate": "score a trained encoder, or a random one: kNN, linear, logistic",
    "diagnose": "say whether an encoder is healthy, collapsed or untrained, beside the same network untrained",
    "probe": "say whether an encoder helps where labels are few: linear probes",
    "finetune": "the same with all weights fine-tuned; leaves a classifier",
    "embed": "write what an encoder gives of each picture, beside its path: Parquet, CSV or NumPy",
    "similar": "compare embeddings: neighbours, near duplicates, clusters, a map; tables and a page",
    "export": "write a trained encoder for other programs: safetensors, ONNX, TorchScript, torch.export, timm",
    "data": "say what a run would find in pictures: counts, sizes, bad files, copies, leaks",
    "views": "draw a grid of the views a run would train on",
    "reproduce": "run a study and write its page: blog, raft, theorem, family, or one of your own",
    "sweep": "train every combination of values of options, and write a page: --optimizer.lr 0.03,0.06 --seeds 3",
    "report": "write one page about runs: curves, verdicts, what differs",
    "bench": "measure how fast this machine trains, beside what it can do at most",
    "demo": "BYOL with and without batch norm in its heads, on digits, compared",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse's own hides where nothing could be written


def parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the command's parser without the options of its commands, and the parser of each."""
    top = _Parser(
        prog="vergence", description="Self-supervised learning from two views of a picture.", allow_abbrev=False
    )
    top.add_argument("--plugin", metavar="FILE.py", help="a file that adds methods, backbones, data; may be repeated")
    top.add_argument("--version", action="version", version=f"vergence {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    added: dict[str, argparse.ArgumentParser] = {
        name: commands.add_parser(
            name, help=text, description=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        for name, text in COMMANDS.items()
    }
    return top, added
