"""Runners on SLURM, submitted as one array by submitit: each is the command that does a grid here, on a shared root."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.grid.cluster import Cluster
from vergence.grid.worker import end_with_parent

SUBMITTED = "submitted.json"
"""The identifiers that SLURM gave the runners, which a later command asks it about."""


class Slurm:
    """Has a grid's jobs done by runners on SLURM.

    Attributes:
        cluster: what is asked for each runner.
        command: what a runner runs: words behind `vergence`, with absolute paths.
        folder: for the logs of the runners, and what submitit keeps; on a shared disk.
    """

    def __init__(self, cluster: Cluster, command: Sequence[str], folder: Path):
        if cluster.gpus != int(cluster.gpus):
            raise InputError(f"--cluster: gpus: SLURM gives whole GPUs, not {cluster.gpus:g}; --jobs shares one")
        self.cluster, self.command, self.folder = cluster, command, folder.absolute()

    def left(self) -> "SubmittedRunners | None":
        """Return the runners that an earlier command submitted, where some run or wait."""
        import submitit  # pyright: ignore[reportMissingImports]

        try:
            found = json.loads((self.folder / SUBMITTED).read_bytes())
            kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[found["executor"]]
            runners = SubmittedRunners([kind(self.folder, str(name)) for name in found["ids"]], found["executor"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return runners if runners.alive(now=True) else None

    def start(self, names: Sequence[str]) -> "SubmittedRunners":
        """Submit as many runners as the cluster's file says, and no more than there are jobs."""
        import submitit  # pyright: ignore[reportMissingImports]

        asked = self.cluster
        durable.make_folder(self.folder)
        runner = Runner([sys.executable, "-P", "-m", "vergence", *self.command], asked.grace)
        try:
            executor = submitit.AutoExecutor(
                self.folder,
                asked.executor,
                slurm_max_num_timeout=asked.requeues,
                local_max_num_timeout=asked.requeues,
            )
            executor.update_parameters(
                name="vergence",
                timeout_min=asked.minutes,
                cpus_per_task=asked.cpus,
                gpus_per_node=int(asked.gpus) or None,
                mem_gb=asked.memory,
                slurm_partition=asked.partition,
                slurm_account=asked.account,
                slurm_qos=asked.qos,
                slurm_constraint=asked.constraint,
                slurm_signal_delay_s=asked.grace,
                slurm_setup=list(asked.setup) or None,
                local_setup=list(asked.setup) or None,
            )
            jobs = executor.submit_array([runner] * min(asked.runners, len(names)))
        except (RuntimeError, OSError) as error:  # what sbatch says, or that there is none
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)
            raise MachineError(f"--on slurm: no runner was submitted: {said}") from error
        ids = [job.job_id for job in jobs]
        durable.write_json(self.folder / SUBMITTED, {"executor": asked.executor, "ids": ids})
        return SubmittedRunners(jobs, asked.executor)


class SubmittedRunners:
    """Runners that SLURM knows, or submitit's own processes on this machine."""

    def __init__(self, jobs: Sequence[Any], executor: str):  # submitit's jobs
        self.jobs, self.executor = jobs, executor

    @property
    def about(self) -> str:
        first, last = self.jobs[0].job_id, self.jobs[-1].job_id
        names = first if first == last else f"{first} to {last}"
        return f"{len(self.jobs)} runner{'' if first == last else 's'}, {names}; logs in {self.jobs[0].paths.folder}"

    def alive(self, *, now: bool = False) -> bool:
        return any(not job.done(force_check=now) for job in self.jobs)

    def last_words(self) -> str:
        """Return the last line with an error in a runner's log, and where the logs are."""
        said = ""
        for job in self.jobs:
            lines = (job.stderr() or "").splitlines()
            said = next((line.strip() for line in reversed(lines) if "error:" in line), said)
        return f"{said} (logs in {self.jobs[0].paths.folder})".strip()

    def leave(self) -> str:
        first = self.jobs[0].job_id.partition("_")[0]
        ending = f" (scancel {first} ends them)" if self.executor == "slurm" else ""
        return f"its runners go on{ending}, and the same command watches again"


class Runner:
    """What submitit calls on a node, and calls again after it was told to make room.

    It holds no state but the command: what a runner has done is in the folders of the jobs.
    """

    process: "subprocess.Popen[bytes] | None" = None

    def __init__(self, command: Sequence[str], grace: int):
        self.command, self.grace = command, grace

    def __call__(self) -> int:
        """Run the command; return its exit code."""
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, preexec_fn=_prepare)
        _wait_for(self.process)
        code = self.process.wait()
        if code == 128 + signal.SIGTERM:  # SLURM told all processes; now it tells submitit, or ends and queues this one
            time.sleep(self.grace)
        return code

    def checkpoint(self) -> Any:
        """Let the command save and end; return what is to be queued again. Called where a signal interrupted the call
        above, so nothing of subprocess may wait here.
        """
        from submitit.helpers import DelayedSubmission  # pyright: ignore[reportMissingImports]

        if self.process is not None:
            self.process.terminate()
            _wait_for(self.process)
            self.process.poll()
        return DelayedSubmission(Runner(self.command, self.grace))


def _wait_for(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _prepare() -> None:
    """Leave the signal for making room to submitit, and do not outlive it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    end_with_parent()
