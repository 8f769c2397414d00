"""Does BYOL need batch norm in its heads? Two runs on digits, a minute each, and a picture of what happened."""

from pathlib import Path
from typing import Any

import torch

from vergence import config as c
from vergence.engine.where import Where
from vergence.presets import default
from vergence.report import text
from vergence.report.figures import draw_comparison
from vergence.report.live import open_view
from vergence.runs import run_training, score

NORMS: dict[str, c.Norm] = {"batch norm": "batch", "no norm": "none"}


def runs() -> dict[str, c.Run]:
    """Return BYOL on digits with and without batch norm in projector and predictor; nothing else differs."""
    return {
        name: default(c.BYOL(projector=c.Projector(norm=norm), predictor=c.MLPPredictor(norm=norm)), c.Digits())
        for name, norm in NORMS.items()
    }


def run_demo(folder: Path, device: torch.device) -> dict[str, dict[str, Any]]:
    """Train what is missing, print the comparison with an untrained encoder, write `demo.svg` into the folder."""
    console = text.console()
    summaries: dict[str, dict[str, Any]] = {}
    folders: dict[str, Path] = {}
    for name, run in runs().items():
        folders[name] = folder / run.name
        console.print(f"[bold]BYOL with {name} in its heads[/bold]")
        view = open_view(console, f"BYOL on digits, {name} in its heads")
        summaries[name] = run_training(run, folders[name], where=Where(device=device), resume=True, reporter=view)
    summaries["untrained"] = score(folders["batch norm"], where=Where(device=device), random=True)
    console.print(text.comparison(summaries))
    picture = folder / "demo.svg"
    draw_comparison("Does BYOL need batch norm in its heads?", folders, summaries["untrained"], picture)
    console.print(f"picture: {picture}", soft_wrap=True)
    return summaries
