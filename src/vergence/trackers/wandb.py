"""Weights & Biases: one of its runs for each of ours, on its server or, with `WANDB_MODE=offline`, in files."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import json
import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vergence import register
from vergence.config.schema import to_dict
from vergence.trackers.lines import LineTracker


@register.tracker("wandb")
class WandB(LineTracker):
    """One row of its history a line. Its server knows the last step; offline its files say."""

    def open(self) -> defaultdict[str, int]:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers
        import wandb

        self.theirs = wandb.init(
            id=self.identity(),
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or self.folder,
            project=os.environ.get("WANDB_PROJECT") or "vergence",
            name=os.environ.get("WANDB_NAME") or self.folder.name,
            config={"key": self.run.key, **to_dict(self.run)},
            settings=wandb.Settings(console="off", disable_git=True, x_disable_stats=True),
        )
        if not self.theirs.offline:
            last = self.theirs.step - 1
            return defaultdict(lambda: last)
        files = Path(self.theirs.settings.wandb_dir).glob(f"*run-*-{self.identity()}/*.wandb")
        kept = defaultdict[str, int](int)
        for row in (row for path in files for row in rows(path)):
            kept |= {name: max(row["_step"], kept[name]) for name in row}
        return kept

    def add(self, step: int, numbers: Mapping[str, float], states: Mapping[str, str]) -> None:
        self.theirs.log({**numbers, **states}, step=step, commit=True)

    def stop(self) -> None:
        self.theirs.finish()


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of history in a `.wandb` file, values by name; a torn end is left out.

    The package has no reader of its own. The file is a log as LevelDB writes it, of 7 bytes and blocks of 32 KiB: each
    record is whole or in pieces, and each piece begins with its checksum, length and kind.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record, block = path.read_bytes(), 7, b"", 32 << 10
    whole, first, last = 1, 2, 4
    while at + 7 <= len(data):
        if (left := block - at % block) < 7:  # no room for a piece's beginning: zeros
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        piece, at = data[at + 7 : at + 7 + length], at + 7 + length
        if len(piece) < length or not whole <= kind <= last:
            return
        record = piece if kind in (whole, first) else record + piece
        if kind in (whole, last) and (row := Record.FromString(record).history).item:
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item}
