"""A run as one job of a grid."""

from dataclasses import dataclass
from pathlib import Path

from vergence import runs
from vergence.config import Run
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.where import Where
from vergence.files.results import Result, read_result, read_summary
from vergence.files.run_folder import RUN, SUMMARY, read_json
from vergence.runs.pictures import Facts, are_same


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run as one job of a grid.

    Attributes:
        name: how it is shown.
        run: what is trained; names the folder.
        data_dir, device, periods: as in `run_training`; they change no result.
        kept: name of its folder, where that is not the run's.
        pictures: the facts of those at hand, which a run in that folder must have been on; None: whichever.
    """

    name: str
    run: Run
    data_dir: Path | None = None
    device: str = "cpu"
    periods: Periods = Periods()
    kept: str = ""
    pictures: Facts | None = None

    @property
    def folder(self) -> str:
        return self.kept or self.run.name

    @property
    def work(self) -> float:
        return max(1, self.run.epochs)

    def finished(self, folder: Path) -> bool:
        if not (folder / SUMMARY).exists() or not read_summary(folder, self.run):
            return False
        return self.pictures is None or are_same(read_json(folder / RUN), self.pictures)

    def read(self, folder: Path) -> Result:
        return read_result(folder)

    def execute(self, folder: Path, view: Reporter) -> None:
        runs.run_training(
            self.run,
            folder,
            where=Where(data_dir=self.data_dir, device=self.device),
            periods=self.periods,
            resume=True,
            reporter=view,
        )
