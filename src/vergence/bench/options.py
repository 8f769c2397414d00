"""The command `vergence bench`: its own options; those of a run are as in `vergence train`."""

import argparse

from vergence.checks import path_of

PARTS = ("views", "step", "train", "evaluate", "import", "at-once")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add them to the command."""
    command.add_argument("method", nargs="?", default="byol", help="as in vergence train [byol]")
    command.add_argument("--what", help=f"which of {','.join(PARTS)} [all but at-once]")
    command.add_argument("--at-once", metavar="COUNTS", help="measure so many runs at the same time too, such as 1,2,4")
    command.add_argument("--steps", type=int, default=10, help="steps of a round [10]")
    command.add_argument("--warmup", type=int, default=4, metavar="STEPS", help="steps before the first round [4]")
    command.add_argument("--rounds", type=int, default=5, help="rounds of each measurement [5]")
    command.add_argument("--pictures", type=int, help="pictures that are evaluated [1200; 60000 on a GPU]")
    command.add_argument("--data", help="digits, cifar10, stl10 or a folder [cifar10]; noise of its shape if not there")
    command.add_argument("--out", type=path_of, metavar="FILE.JSON", help="write every number there")
    command.epilog = (
        "The default is BYOL, ResNet-18, views of 96 px from pictures of 32 px, batch 64 on a CPU and 256 on a GPU.\n"
        "Options of a run, such as --encoder resnet50 --precision bfloat16, are those of vergence train."
    )
