"""Jobs as tasks of a Ray cluster: each is the command that does one job; where its node is lost, another goes on."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from vergence.errors import MachineError
from vergence.grid.cluster import Cluster
from vergence.grid.worker import end_with_parent

THREADS = "OMP_NUM_THREADS"
"""The variable that Ray sets for its workers, though threads belong to the job and not to the place."""

PATIENCE = 10.0
"""Seconds that a cluster has to answer."""


class Ray:
    """Has a grid's jobs done by a Ray cluster.

    Attributes:
        cluster: what is asked for each job.
        command: what a task runs, with `--job` and the job's name behind it: words behind `vergence`, absolute paths.
    """

    def __init__(self, cluster: Cluster, command: Sequence[str]):
        self.cluster, self.command = cluster, command

    def left(self) -> None:
        """Return None: tasks end with the command that started them."""

    def start(self, names: Sequence[str]) -> "RayTasks":
        """Connect to the cluster and give it the jobs."""
        asked = self.cluster
        address = asked.address or os.environ.get("RAY_ADDRESS")
        _require_reachable(address or "")
        import ray  # pyright: ignore[reportMissingImports]

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=asked.address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, and gRPC's
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise MachineError(f"--on ray: no cluster {f'at {address}' if address else 'here'}: {said}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's would leave at once
        memory = None if asked.memory is None else int(asked.memory * 1e9)
        do = ray.remote(num_cpus=asked.cpus, num_gpus=asked.gpus, memory=memory, max_retries=asked.retries)(_do)
        given = {name: value for name, value in os.environ.items() if name.startswith("VERGENCE_") or name == THREADS}
        here = os.getcwd()
        return RayTasks(
            {do.options(name=name).remote([*self.command, "--job", name], here, given): name for name in names}
        )


class RayTasks:
    """Tasks of this process on a Ray cluster."""

    def __init__(self, tasks: Mapping[Any, str]):  # Ray's references, and the job of each
        self.tasks, self.said = dict(tasks), ""

    @property
    def about(self) -> str:
        count = len(self.tasks)
        return f"{count} task{'' if count == 1 else 's'} of Ray"

    def alive(self) -> bool:
        import ray  # pyright: ignore[reportMissingImports]

        ended, waiting = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0) if self.tasks else ([], [])
        for task in ended:
            name = self.tasks.pop(task)
            try:
                said = ray.get(task)
            except ray.exceptions.RayError as error:  # lost too often, or out of memory
                said = (str(error).splitlines() or [type(error).__name__])[0]
            self.said = f"{name}: {said}" if said else self.said
        return bool(waiting)

    def last_words(self) -> str:
        return self.said

    def leave(self) -> str:
        import ray  # pyright: ignore[reportMissingImports]

        ray.shutdown()
        return "its tasks end with this command; what was saved stands, and the same command goes on"


def _require_reachable(address: str) -> None:
    """See that something listens at an address with a port, for which Ray itself would wait for minutes.

    Raises:
        MachineError: nothing does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise MachineError(f"--on ray: no cluster at {address}: {said}") from error


def _do(command: Sequence[str], folder: str, given: Mapping[str, str]) -> str:
    """Run a command on a node, in the folder of the process that asked for it where the node has one of that name, and
    with variables of that process; return its last line of errors.
    """
    environment = {name: value for name, value in os.environ.items() if name != THREADS} | dict(given)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vergence", *command],
        cwd=folder if os.path.isdir(folder) else None,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=end_with_parent,
        text=True,
        errors="replace",
    )
    return ([line for line in done.stderr.splitlines() if line.startswith("error:")] or [""])[-1]
