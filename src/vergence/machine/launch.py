"""Launchers say here which of several processes this one is: torchrun and its like, and SLURM's srun.

Nothing here imports torch until processes are started.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vergence.errors import InputError, Terminated

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The variables that torchrun, `accelerate launch` and others set, and that torch reads."""

STEP = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
"""The variables that srun sets for each task of a step, in the order of `TORCHRUN`."""


class Launched(NamedTuple):
    """The place of this process among those that were started together.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        local_rank: of this process among those of its machine.
        host: where rank 0 is.
        port: where rank 0 listens.
    """

    rank: int
    size: int
    local_rank: int
    host: str
    port: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """Return the place of this process; None where it is alone.

    Raises:
        InputError: the variables make no sense, or one of them is missing.
    """
    if environment.get("WORLD_SIZE") or environment.get("RANK", "0") != "0":
        names, host, port = TORCHRUN, environment.get("MASTER_ADDR") or "127.0.0.1", ""
    elif environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names, host, port = STEP, _first_host(environment.get("SLURM_STEP_NODELIST", "")), "SLURM_JOB_ID"
    else:
        return None
    rank_name, size_name, local_name = names[:3]
    size = _number(environment, size_name)
    if size == 1:
        return None
    rank = _number(environment, rank_name)
    if rank >= size:
        raise InputError(f"{rank_name}: {rank} is not one of {size} ranks ({size_name}), counted from 0")
    if port:  # two jobs on one node choose two ports
        listens = 20_000 + _number(environment, port) % 20_000
    else:
        listens = _number(environment, "MASTER_PORT") if environment.get("MASTER_PORT") else 29500
    if listens > 65535:
        raise InputError(f"MASTER_PORT: {listens} is no port; choose one from 1024 to 65535")
    return Launched(
        rank, size, _number(environment, local_name) if environment.get(local_name) else rank, host, listens
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if not text:
        raise InputError(
            f"{name} is not set, but others of its kind are: start with torchrun or srun, or unset them all"
        )
    if not text.isdecimal():
        raise InputError(f"{name}: must be a number, as the launcher sets it, not '{text[:40]}'")
    return int(text)


def _first_host(nodes: str) -> str:
    """Return the first of SLURM's list of nodes, such as "node[07-09,12],login1"."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    if found is None:
        raise InputError("SLURM_STEP_NODELIST is not set, or empty: start with srun, or unset SLURM_STEP_NUM_TASKS")
    return "".join(part for part in found.groups() if part)


def start(processes: int, words: Sequence[str]) -> int:
    """Run a command in several processes of this machine, by torch's elastic agent; return the exit code.

    Args:
        processes: how many.
        words: of the command, without its name.
    """
    import logging
    import uuid

    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # each rank says itself what it has to
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "vergence", *words)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 0), 128 - codes[0])
    except SignalException as error:
        raise (KeyboardInterrupt if error.sigval == 2 else Terminated) from error
    return 0


def requeued(environment: Mapping[str, str] = os.environ) -> str | None:
    """Ask SLURM to start this job again; return the job's number, None where there is no SLURM, or where it refuses."""
    job = environment.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return job if done.returncode == 0 else None
