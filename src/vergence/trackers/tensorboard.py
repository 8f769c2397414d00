"""TensorBoard: event files in the run's folder, for `tensorboard --logdir`."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from collections import defaultdict
from collections.abc import Mapping

from vergence import register
from vergence.trackers.lines import LineTracker, now


@register.tracker("tensorboard")
class TensorBoard(LineTracker):
    """One event a line, so that a kill leaves it whole or not at all; a resume begins another file."""

    def open(self) -> defaultdict[str, int]:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        place = str(self.folder / "tensorboard")
        self.writer = EventFileWriter(place)
        there = EventAccumulator(place, size_guidance={SCALARS: 1}).Reload()  # the last of each is always kept
        kept = defaultdict(int, {tag: there.Scalars(tag)[-1].step for tag in there.Tags()[SCALARS]})
        if not kept:
            shown = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in self.settings().items()}
            self._write(0, hparams_pb(shown, trial_id=self.identity()))
        return kept

    def add(self, step: int, numbers: Mapping[str, float], states: Mapping[str, str]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()])
        for name, state in states.items():
            summary.MergeFrom(text_pb(name, state))
        self._write(step, summary)

    def stop(self) -> None:
        self.writer.close()

    def _write(self, step: int, summary) -> None:  # a type of the package's
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(step=step, wall_time=now(), summary=summary))
        self.writer.flush()
