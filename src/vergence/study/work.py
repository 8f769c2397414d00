"""A job whose result is one file: a computation that is no training run, done whole or not at all."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from vergence.config.schema import canonical, to_dict
from vergence.engine.reporter import Reporter
from vergence.files import durable
from vergence.files.run_folder import read_json
from vergence.machine.device import environment

RESULT = "result.json"


class Task(Protocol):
    """Everything that decides a result, as a frozen dataclass, and how to come by it."""

    kind: ClassVar[str]

    def solve(self, data_dir: Path | None, device: torch.device, view: Reporter) -> dict[str, Any]:
        """Return the result, of plain JSON values.

        Args:
            data_dir: where the pictures are.
            device: where to compute.
            view: told how far it is.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task as one job of a study.

    Attributes:
        name: how it is shown.
        task: what is done; names the folder.
        data_dir, device: as in `Task.solve`; they decide no result.
        work: how long it takes, in passes over the pictures.
    """

    name: str
    task: Task
    data_dir: Path | None = None
    device: str = "cpu"
    work: float = 1.0

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of the task's hash; where its pictures lie has a part in it."""
        return hashlib.sha256(canonical(self.task, places=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        return f"{self.task.kind}-{self.key}"

    def finished(self, folder: Path) -> bool:
        return (folder / RESULT).exists()

    def read(self, folder: Path) -> dict[str, Any]:
        return read_json(folder / RESULT)

    def execute(self, folder: Path, view: Reporter) -> None:
        device = torch.device(self.device)
        with durable.locked(folder):
            if self.finished(folder):
                return
            durable.sweep(folder)
            about = {"key": self.key, "task": to_dict(self.task), "environment": environment(device)}
            try:
                found = self.solve(folder, device, view)
            finally:
                view.stop()
            durable.write_json(folder / RESULT, about | found)

    def solve(self, folder: Path, device: torch.device, view: Reporter) -> dict[str, Any]:
        """Return the task's result; a job that leaves files beside it writes them into `folder`."""
        return self.task.solve(self.data_dir, device, view)
