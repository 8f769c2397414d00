"""Runs `vergence` again and again without importing torch each time: a process that has it forks for every call.

Reads one JSON object a line: {"arguments": [...], "environment": {...}, "kill_after": seconds or null}; answers with
{"code": exit code or -signal, "seconds": ..., "error": what it printed to stderr}.
"""

import json
import os
import signal
import sys
import tempfile
import time


def serve() -> None:
    import sklearn.datasets
    import sklearn.linear_model
    import sklearn.multiclass  # noqa: F401, imported here once for all children
    import timm  # noqa: F401
    import torch

    from vergence import cli, runs  # noqa: F401

    torch.set_num_threads(1)  # and no operation has run: this process has one thread, so forking it is safe
    for line in sys.stdin:
        call = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            began = time.monotonic()
            child = os.fork()
            if child == 0:
                os.environ.update(call["environment"])
                os.dup2(errors.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os._exit(cli.main(call["arguments"]))
            code = wait(child, call["kill_after"], call.get("signal", int(signal.SIGKILL)))
            errors.seek(0)
            answer = {
                "code": code,
                "seconds": time.monotonic() - began,
                "error": errors.read().decode(errors="replace"),
            }
        print(json.dumps(answer), flush=True)


def wait(child: int, kill_after: float | None, number: int) -> int:
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    serve()
