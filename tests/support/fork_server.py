"""Runs `vergence` again and again without importing torch each time: a process that has it forks for every call.

The process reads one JSON object a line: {"arguments": [...], "environment": {...}, "faults": [[name, ...], ...],
"kill_after": seconds or null, "signal": number}; it answers with {"code": exit code or -signal, "seconds": ...,
"error": what was printed to stderr, "orphans": whether a process was left behind}.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from repository import SOURCE


class Server:
    """The other end: call it with the words of a command."""

    def __init__(self, script=__file__, **environment):
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **environment},
        )

    def __call__(self, *arguments, environment=None, faults=(), kill_after=None, number=int(signal.SIGKILL)):
        call = {
            "arguments": [str(a) for a in arguments],
            "environment": environment or {},
            "faults": [[name, *map(_plain, given)] for name, *given in faults],
            "kill_after": kill_after,
            "signal": int(number),
        }
        return self.ask(call)

    def ask(self, call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def _plain(value):
    return value if isinstance(value, int | float) else str(value)


def prepare() -> None:
    """Import and load here, once for all children, what a run uses. No operation has run when this returns: the process
    has one thread, so forking it is safe.
    """
    import sklearn.datasets
    import sklearn.linear_model
    import sklearn.multiclass  # noqa: F401
    import timm  # noqa: F401
    import torch

    from vergence import runs  # noqa: F401
    from vergence.augment import colours
    from vergence.fast import tiles

    colours.load()
    tiles.load()
    torch.set_num_threads(1)


def serve() -> None:
    prepare()
    for line in sys.stdin:
        call = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            began = time.monotonic()
            child = os.fork()
            if child == 0:
                obey(call, errors.fileno())
            code = wait(child, call["kill_after"], call["signal"])
            errors.seek(0)
            answer = {
                "code": code,
                "seconds": time.monotonic() - began,
                "error": errors.read().decode(errors="replace"),
                "orphans": left_behind(child),
            }
        print(json.dumps(answer), flush=True)


def obey(call, errors: int) -> None:
    """The child's whole life."""
    import faults
    from vergence.command import cli

    os.setsid()  # what it starts is in its group, where the server finds what it leaves behind
    os.environ.update(call["environment"])
    time.tzset()
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = 99  # a fault that could not be injected
    try:
        undo = [getattr(faults, name)(*given) for name, *given in call["faults"]]
        code = cli.main(call["arguments"])
        for last in filter(None, undo):
            last()
    except BaseException as error:
        if sys.stderr is not None:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    os._exit(code)


def wait(child: int, kill_after: float | None, number: int) -> int:
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def left_behind(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    serve()
