"""The words that each command takes, but for the options of a run, which `command.options` reads."""

import argparse
from pathlib import Path

from vergence.command.bench import add_options
from vergence.command.checks import path_of
from vergence.command.options import add_fields
from vergence.engine.periods import Periods
from vergence.engine.probing import Probing


def add_arguments(added: dict[str, argparse.ArgumentParser]) -> None:
    """Add to the parser of each command the words that it takes."""
    train = added["train"]
    train.add_argument(
        "method",
        nargs="?",
        help="simclr, moco, byol, byol-prime, raft, contrastive, supervised, or a name of the paper, such as RAFT-LP",
    )
    train.add_argument("--preset", help="default, blog, raft or raft-code: everything as a document did it")
    train.add_argument("--config", type=path_of, metavar="RUN.JSON", help="run again what a run was; options change it")
    train.add_argument("--out", type=path_of, help="the run's folder [runs/METHOD-DATA-KEY]")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    add_fields(train, Periods)
    train.add_argument("--track", default="", metavar="NAMES", help="trackers of plugins that are told how it goes")
    evaluate = added["evaluate"]
    evaluate.add_argument("run", type=path_of, help="a run's folder")
    evaluate.add_argument("--data", help="labelled pictures to score on: a data set or a folder [those of the run]")
    evaluate.add_argument("--random", action="store_true", help="the same encoder with its first weights: the baseline")
    add_fields(evaluate, Probing)
    views = added["views"]
    views.add_argument("--out", type=path_of, default=Path("views.png"), help="the picture to write [views.png]")
    views.add_argument("--count", type=int, default=8, help="pictures shown [8]")
    _add_reproduce(added["reproduce"])
    report = added["report"]
    report.add_argument("runs", type=path_of, nargs="+", metavar="RUN", help="folders of runs")
    report.add_argument("--out", type=path_of, default=Path("report.html"), help="the page to write [report.html]")
    demo = added["demo"]
    demo.add_argument("--out", type=path_of, default=Path("runs/demo"), help="folder of the two runs [runs/demo]")
    bench = added["bench"]
    add_options(bench)
    for command in (train, bench):
        command.add_argument(
            "--compile", default="auto", help="how a step is made fast: auto, none, graph, full [auto]"
        )
    for command in (added["reproduce"], report):
        command.add_argument("--no-views", action="store_true", help="show no pictures on the page, to publish it")
    for command in (train, views):
        command.add_argument("--data", help="digits, cifar10, stl10, or a folder of pictures [digits]")
    for command in (train, evaluate, views, added["reproduce"], report, bench):
        command.add_argument(
            "--data-dir", type=path_of, help="where the data set's files are [$VERGENCE_DATA_DIR, else downloaded]"
        )
    for command in (train, evaluate, demo, added["reproduce"], bench):
        command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N [auto]")
        threads = "of each run [1]" if command is added["reproduce"] else "[one a core]"
        command.add_argument("--threads", type=int, help=f"CPU threads {threads}")


def _add_reproduce(reproduce: argparse.ArgumentParser) -> None:
    reproduce.add_argument("experiment", help="blog, raft (the paper), theorem (its mathematics, checked), or FILE.py")
    reproduce.add_argument("--scale", default="smoke", help="smoke (minutes, 2 cores), short (one GPU), full [smoke]")
    reproduce.add_argument("--out", type=path_of, help="folder of the page and its runs [runs/EXPERIMENT-SCALE]")
    reproduce.add_argument("--jobs", type=int, help="runs at a time [cores / threads; 1 on a GPU]")
    reproduce.add_argument("--seeds", type=int, help="runs of each row [as the scale says]")
    reproduce.add_argument("--epochs", type=int, help="of every run that is trained [as the scale says]")
    reproduce.add_argument("--subset", type=int, help="train on so many of the pictures [as the scale says]")
    reproduce.add_argument("--rows", help="only these rows, in quotes and separated by semicolons; the page has all")
    reproduce.add_argument("--data", help="other pictures than the scale's: digits, cifar10, stl10 or a folder")
