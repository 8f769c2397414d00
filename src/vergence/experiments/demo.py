"""Does BYOL need batch norm in its heads? Two runs on digits, a minute each, and a picture of what happened."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vergence import config as c
from vergence.live import open_view
from vergence.presets import default
from vergence.report import text
from vergence.report.figures import draw_comparison
from vergence.runs import carry_out

NORMS: dict[str, c.Norm] = {"batch norm in the heads": "batch", "no norm in the heads": "none"}


def runs() -> dict[str, c.Run]:
    """BYOL on digits with and without batch norm in projector and predictor; nothing else differs."""
    return {name: _run(norm) for name, norm in NORMS.items()}


def _run(norm: c.Norm) -> c.Run:
    method = c.BYOL(projector=c.Projector(norm=norm), predictor=c.MLPPredictor(norm=norm))
    return replace(default(method, c.Digits()), epochs=10)


def run_demo(folder: Path, device: torch.device) -> dict[str, dict[str, Any]]:
    """Train what is missing, print the comparison, write `comparison.png` into the folder."""
    console = text.console()
    summaries, folders = {}, {}
    for name, run in runs().items():
        folders[name] = folder / run.name
        console.print(f"[bold]BYOL, {name}[/bold]")
        view = open_view(console, f"BYOL on digits, {name}")
        summaries[name] = carry_out(run, folders[name], device=device, resume=True, view=view)
    console.print(text.comparison(summaries))
    picture = folder / "comparison.png"
    draw_comparison(folders, picture)
    console.print(f"picture: {picture}", soft_wrap=True)
    return summaries
