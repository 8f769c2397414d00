"""The process of one tracker: it is told on its standard input, in lines of JSON, what the terminal is told."""

import json
import signal
import sys
from pathlib import Path

from vergence import plugins, register
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.run_folder import METRICS, RUN, read_log, read_run
from vergence.metrics.verdict import Verdict


def follow(name: str, folder: Path) -> None:
    """Build a tracker and tell it what comes, until the run stops or the process that trains is gone."""
    plugins.load_named()
    if name not in register.TRACKERS:
        raise InputError("it is in no file that --plugin loads and in no package, so that its own process lacks it")
    with durable.locked(folder, f".{name}.lock", wait=True):  # until one whose run was killed has kept what it was told
        tracker, stopped = register.TRACKERS[name](read_run(folder / RUN), folder), False
        for text in sys.stdin.buffer:
            if not text.endswith(b"\n"):  # torn by a kill
                break
            call, *told = json.loads(text)
            if call == "start":
                told[3] = read_log(folder / METRICS, told[1])
            elif call == "line":
                told[1] = Verdict(*told[1])
            getattr(tracker, call)(*told)
            stopped |= call == "stop"
        if not stopped:
            tracker.stop()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the run, which stops and then says so
        signal.signal(number, signal.SIG_IGN)
    try:
        follow(sys.argv[1], Path(sys.argv[2]))
    except BaseException as error:
        sys.exit(plugins.said_by(error))
