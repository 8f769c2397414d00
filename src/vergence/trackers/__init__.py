"""Trackers: what is told how a run goes beside the terminal, each in a process of its own; nothing here imports torch.

Three are the library's, registered as a user's own are. Their packages are imported in the tracker's process only.
"""

from importlib.util import find_spec

from vergence.errors import InputError
from vergence.trackers import mlflow, tensorboard, wandb
from vergence.trackers.process import tracked

__all__ = ["require_installed", "tracked"]

_PACKAGES = {
    tensorboard.TensorBoard: ("tensorboard",),
    wandb.WandB: ("wandb",),
    mlflow.MLflow: ("mlflow", "sqlalchemy", "alembic"),
}


def require_installed(name: str) -> None:
    """See that the packages of a tracker that is registered are here; those of a user's own are its own business.

    Raises:
        InputError: one is not installed; names the extra that holds it.
    """
    from vergence.register import TRACKERS

    for package in _PACKAGES.get(TRACKERS[name], ()):
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's own, is no package
            raise InputError(f"--track {name}: {package} is not installed: pip install 'vergence[{name}]'")
