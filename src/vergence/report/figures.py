"""Figures of runs, in one style."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from vergence.files import durable
from vergence.files.run_folder import METRICS, SUMMARY, read_json

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart with any colour vision."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def draw_comparison(folders: Mapping[str, Path], untrained: Mapping[str, Any], path: Path) -> None:
    """Runs side by side, as a PNG: cosines and effective rank over training, accuracies at the end.

    Args:
        folders: each run's folder by its name.
        untrained: accuracies of an encoder with random weights.
        path: the picture to write.
    """
    lines = {name: durable.read_lines(folder / METRICS) for name, folder in folders.items()}
    summaries = {name: read_json(folder / SUMMARY) for name, folder in folders.items()}
    with pyplot.rc_context(STYLE):
        figure, (cosines, ranks, scores) = pyplot.subplots(1, 3, figsize=(11, 3.4))
        for (name, of_run), colour in zip(lines.items(), PALETTE, strict=False):
            epochs = [line["epoch"] for line in of_run]
            cosines.plot(epochs, [line["pos_cos"] for line in of_run], color=colour, label=f"{name}, same picture")
            other = [line["neg_cos"] for line in of_run]
            cosines.plot(epochs, other, color=colour, linestyle="--", label=f"{name}, different pictures")
            ranks.plot(epochs, [line["effective_rank"] for line in of_run], color=colour)
            state = summaries[name]["verdict"]["state"]
            ranks.annotate(
                f"{name}:\n{state}",
                (epochs[-1], of_run[-1]["effective_rank"]),
                (-6, 8),
                color=colour,
                textcoords="offset points",
                ha="right",
                fontsize=8,
            )
        cosines.set(title="Cosine of projections", xlabel="epoch", ylim=(None, 1.45), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
        cosines.legend(fontsize=7, loc="upper left")
        ranks.set(title="Effective rank of projections", xlabel="epoch", ylim=(0, None))
        bars = {**summaries, "untrained": untrained}
        for i, ((name, summary), colour) in enumerate(
            zip(bars.items(), (*PALETTE[: len(folders)], "#999999"), strict=True)
        ):
            heights = [summary[probe]["accuracy"] or 0 for probe in ("knn", "linear")]
            places = [x + (i - (len(bars) - 1) / 2) * 0.28 for x in range(2)]
            scores.bar_label(scores.bar(places, heights, 0.26, color=colour, label=name), fmt="%.1f", fontsize=7)
        scores.set(
            title="Test accuracy in %",
            xticks=range(2),
            xticklabels=["kNN", "linear"],
            ylim=(0, 125),
            yticks=range(0, 101, 20),
        )
        scores.legend(fontsize=7, loc="upper left", ncols=3)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        pyplot.close(figure)
    durable.write_file(path, buffer.getvalue())
