"""Where a run's work is done; none of it decides more than the last bits of a result."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vergence.fast import Compile
from vergence.machine.processes import SINGLE_PROCESS, Group


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a run's work is done.

    Attributes:
        data_dir: where the pictures are, for data sets that live in a folder, and where those of a run are looked for
            that are no more where it began.
        device: of training and evaluation; None: the CPU.
        compile: how steps are made fast (`step.build_stepper`).
        group: the processes that do it together; each makes the same calls. One of them writes and evaluates.
    """

    data_dir: Path | str | None = None
    device: torch.device | str | None = None
    compile: Compile = "auto"
    group: Group = SINGLE_PROCESS
