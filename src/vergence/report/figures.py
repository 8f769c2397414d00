"""Figures of runs, in one style."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from vergence import durable
from vergence.runfile import METRICS, SUMMARY, read_json

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart with any colour vision."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def draw_comparison(folders: Mapping[str, Path], path: Path) -> None:
    """Runs side by side: cosines and effective rank over training, and accuracies at the end, as a PNG."""
    lines = {name: durable.read_lines(folder / METRICS) for name, folder in folders.items()}
    summaries = {name: read_json(folder / SUMMARY) for name, folder in folders.items()}
    colours = dict(zip(folders, PALETTE, strict=False))
    with pyplot.rc_context(STYLE):
        figure, (cosines, ranks, scores) = pyplot.subplots(1, 3, figsize=(10.5, 3.2))
        for name, colour in colours.items():
            epochs = [line["epoch"] for line in lines[name]]
            cosines.plot(epochs, [line["pos_cos"] for line in lines[name]], color=colour, label=f"{name}: same picture")
            cosines.plot(epochs, [line["neg_cos"] for line in lines[name]], color=colour, ls=":", label="different pictures")
            ranks.plot(epochs, [line["effective_rank"] for line in lines[name]], color=colour, label=name)
        cosines.set(title="Cosine of projections", xlabel="epoch")
        cosines.legend(fontsize=7)
        ranks.set(title="Effective rank of projections", xlabel="epoch", ylim=(0, None))
        for i, (name, summary) in enumerate(summaries.items()):
            heights = [summary[probe]["accuracy"] or 0 for probe in ("knn", "linear")]
            places = [x + (i - (len(summaries) - 1) / 2) * 0.35 for x in range(2)]
            label = f"{name}: {summary['verdict']['state']}"
            bars = scores.bar(places, heights, 0.32, color=colours[name], label=label)
            scores.bar_label(bars, fmt="%.1f", fontsize=8)
        scores.set(title="Test accuracy in %", xticks=range(2), xticklabels=["kNN", "linear"], ylim=(0, 125))
        scores.legend(fontsize=7, loc="upper left")
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        pyplot.close(figure)
    durable.write_file(path, buffer.getvalue())
