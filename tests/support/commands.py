"""The command called in this process, and the small run that its tests share."""

import contextlib
import io
from typing import NamedTuple

from vergence.command import cli

SMALL = {
    "encoder": "test_resnet",
    "data.size": 16,
    "views.size": 16,
    "subset": 40,
    "batch-size": 8,
    "epochs": 2,
    "projector.hidden": 16,
    "projector.out": 8,
    "predictor.hidden": 16,
    "optimizer.lr": 0.1,
    "log-every": 2,
    "device": "cpu",
    "threads": 1,
}


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def errors(self):
        """The text of each error line; nothing else may stand on stderr."""
        lines = self.err.splitlines()
        assert all(line.startswith("error: ") for line in lines), self.err
        return [line.removeprefix("error: ") for line in lines]


def vergence(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
    return Answer(code, out.getvalue(), err.getvalue())


def words_of(options, without=()):
    return [word for name, value in options.items() if name not in without for word in (f"--{name}", value)]


def train(out, *more, **options):
    """Train BYOL on a few digits; options as keywords, with __ for a point."""
    changed = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    return vergence("train", "byol", "--out", out, *words_of(SMALL | changed), *more)
