"""The part of docs/metrics.md that is written from the table of metrics.

python tests/support/metric_table.py docs/metrics.md    # writes it anew
"""

import math
import sys
from pathlib import Path

from vergence.metrics.table import EMBEDDINGS, TABLE

BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def _range(low, high):
    if low == -math.inf:
        return "any"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def _embeddings(metric):
    kinds = ", ".join(dict.fromkeys(metric.embeddings.split()))
    return f"{kinds}; {'each view' if metric.views == 1 else 'both views'}" if kinds else ""


def table():
    """The table in Markdown, then what stands for the embeddings."""
    lines = [
        "| field | is | of | range | at collapse | unit | how to read it | function |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for metric in TABLE.values():
        collapse = "" if metric.at_collapse is None else f"{metric.at_collapse:g}"
        functions = ", then ".join(f"`{name}`" for name in (metric.compute, metric.finish) if name)
        cells = (f"`{metric.name}`", metric.label, _embeddings(metric), _range(*metric.range), collapse, metric.unit)
        lines.append(
            f"| {' | '.join((*cells, metric.reading, functions))} |".replace("|  |", "| |").replace("|  |", "| |")
        )
    lines += ["", *(f"- {name}: {meaning}." for name, meaning in EMBEDDINGS.items())]
    return "\n".join(lines) + "\n"


def page(text):
    """The page with its table as it is now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text()))
