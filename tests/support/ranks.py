"""Starts the processes of one run as a launcher does, without importing torch in each: a server that has it forks.

One JSON object a line: {"target": "module.function" or null, "ranks": [{"arguments": [...], "environment": {...},
"faults": [[name, ...], ...]}, ...], "patience": seconds}. Without a target each rank is the command `vergence`. The
answer is a list of what `checker.check_answer` takes, with "seconds" counted from the start. A rank that was stopped
(SIGSTOP) is killed once the others have left, as a launcher would; all are, when the patience is at its end.
"""

import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time

from fork_server import Server, left_behind, obey, prepare

PATIENCE = 60.0


class Ranks(Server):
    """The other end: call it with the words of a command, for all ranks alike, and what is different for some."""

    def __init__(self):
        super().__init__(__file__, TORCH_CPP_LOG_LEVEL="FATAL")  # as the command sets it, before torch is imported

    def __call__(self, *arguments, size=2, target=None, environment=None, special=None, timeout=PATIENCE):
        """`special`: by rank, what is its own: "arguments" (which come last), "environment", "faults"."""
        special, port = special or {}, free_port()
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **(environment or {})}
        ranks = []
        for rank in range(size):
            own = special.get(rank, {})
            ranks.append(
                {
                    "arguments": [str(a) for a in (*arguments, *own.get("arguments", ()))],
                    "environment": {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **own.get("environment", {})},
                    "faults": own.get("faults", []),
                }
            )
        return self.ask({"target": target, "ranks": ranks, "patience": timeout})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def serve() -> None:
    prepare()
    for line in sys.stdin:
        call = json.loads(line)
        children = [start(call["target"], rank) for rank in call["ranks"]]
        print(json.dumps(attend(children, call["patience"])), flush=True)


def start(target: str | None, rank: dict) -> dict:
    errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by `attend`
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if target is None:
            obey(rank, errors.fileno())
        os.environ.update(rank["environment"])
        os.dup2(errors.fileno(), 2)
        module, _, name = target.rpartition(".")
        code = 99
        try:
            getattr(importlib.import_module(module), name)(*rank["arguments"])
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(code)
    return {"pid": pid, "errors": errors, "began": began, "stopped": False, "code": None}


def attend(children: list[dict], patience: float) -> list[dict]:
    deadline = time.monotonic() + patience
    while any(child["code"] is None for child in children):
        time.sleep(0.01)
        now = time.monotonic()
        for child in children:
            if child["code"] is not None:
                continue
            others = all(other["code"] is not None for other in children if other is not child)
            if now > deadline or (others and child["stopped"]):
                os.kill(child["pid"], signal.SIGKILL)
            pid, status = os.waitpid(child["pid"], os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                child["stopped"] = True
            elif pid:
                child |= {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - child["began"]}
    return [answer(child) for child in children]


def answer(child: dict) -> dict:
    child["errors"].seek(0)
    error = child["errors"].read().decode(errors="replace")
    child["errors"].close()
    return {k: child.get(k) for k in ("code", "seconds")} | {"error": error, "orphans": left_behind(child["pid"])}


if __name__ == "__main__":
    serve()
