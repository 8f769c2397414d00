"""What a cluster is asked for: the keys of the file that `--cluster` names. Nothing here imports submitit or Ray."""

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from vergence.config.marks import Above, AtLeast
from vergence.config.schema import configuration, from_dict
from vergence.errors import InputError

Engine = Literal["local", "slurm", "ray"]
"""What does the jobs of a grid: this process, runners that submitit submits to SLURM, or the tasks of a Ray cluster."""

_PACKAGES = {"slurm": "submitit", "ray": "ray"}


@configuration
class Cluster:
    """What is asked of a cluster for each runner (SLURM), or for each job (Ray).

    Raises:
        InputError: a value cannot be so.
    """

    executor: Annotated[Literal["slurm", "local"], "local: submitit's own processes on this machine"] = "slurm"
    runners: Annotated[int, AtLeast(1), "SLURM: how many, as one array of jobs"] = 4
    minutes: Annotated[int, AtLeast(1), "SLURM: time limit of a runner, which saves and is queued again"] = 240
    requeues: Annotated[int, AtLeast(0), "SLURM: how often, because of the time limit; preemption does not count"] = 10
    grace: Annotated[int, AtLeast(1), "SLURM: seconds to save in, between the signal and the end"] = 120
    cpus: Annotated[int, AtLeast(1), "cores"] = 1
    gpus: Annotated[float, AtLeast(0), "GPUs; with Ray also a fraction, such as 0.25"] = 0.0
    memory: Annotated[float | None, Above(0), "GB"] = None
    partition: Annotated[str | None, "SLURM"] = None
    account: Annotated[str | None, "SLURM"] = None
    qos: Annotated[str | None, "SLURM"] = None
    constraint: Annotated[str | None, "SLURM"] = None
    setup: Annotated[tuple[str, ...], "SLURM: lines of shell before the runner, such as 'module load cuda'"] = ()
    address: Annotated[str | None, "Ray: of a running cluster [$RAY_ADDRESS, else one on this machine]"] = None
    retries: Annotated[int, AtLeast(0), "Ray: how often a job is begun again whose node was lost"] = 10


def read_cluster(path: Path | None) -> Cluster:
    """Return what a TOML file asks of a cluster; the defaults where there is none.

    Raises:
        InputError: there is no such file, it is no TOML, or a key or value is none; names each.
    """
    if path is None:
        return Cluster()
    try:
        return from_dict(Cluster, tomllib.loads(path.read_text()), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--cluster {path}: cannot be read: {said}") from error


def require_engine(engine: Engine) -> None:
    """See that the package is installed which hands jobs to a cluster.

    Raises:
        InputError: it is not; names the extra that holds it.
    """
    package = _PACKAGES.get(engine)
    if package is None:
        return
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name, such as that of a page, is no package
        raise InputError(f"--on {engine}: {package} is not installed: pip install 'vergence[{engine}]'")
