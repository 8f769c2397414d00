"""The page of a comparison on few labels: one table, one figure, and where an encoder helps, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vergence.config import Data, data_name
from vergence.config.labels import amount
from vergence.few_labels.finetune import RECIPE
from vergence.few_labels.results import Outcome, accuracy_of, gain
from vergence.report.content import Column, Curve, Figure, Page, Panel, Panels, Row, Section, Table, Value
from vergence.report.tables import csv_text

LINEAR = (
    "a softmax regression on features of frozen weights, fitted until it has converged, its penalty chosen on the "
    "labelled pictures alone"
)

Group = dict[tuple[str, str], dict[str, list[Outcome]]]
"""Results by row and protocol, then by amount."""


def page_of(
    found: Sequence[Outcome], data: Data, pictures: tuple[int, int, str], remarks: Sequence[str], command: str
) -> Page:
    """Return the page of all results in a folder.

    Args:
        found: the results.
        data: the pictures.
        pictures: how many may be labelled, how many classifiers are scored on, and what those are called.
        remarks: what had to be assumed of a model, or is left out.
        command: what makes the page.
    """
    train, test, split_name = pictures
    groups = _grouped(found)
    protocols = {"linear probe": LINEAR, "fine-tuned": f"{RECIPE}; {_crops(found)}"}
    used = [name for name in protocols if any(one.protocol == name for one in found)]
    name = data_name(data)
    return Page(
        title=f"Few labels on {name}",
        lead=(
            f"{train} training pictures of {name} may be labelled. Each classifier is scored on all {test} "
            f"{split_name} pictures, once, after its fit: they choose nothing. Every encoder gets the same labelled "
            "pictures of each class, as a function of the seed and of the pictures; fewer are among more.",
            *(f"{used_name.capitalize()}: {protocols[used_name]}." for used_name in used),
            *(f"{remark[:1].upper()}{remark[1:]}." for remark in remarks),
        ),
        sections=(
            Section("Where it helps", text=tuple(gains(found)), slug="gains"),
            Section("Accuracy", items=(_table(groups, found), _figure(groups, found)), slug="accuracies"),
        ),
        command=command,
    )


def _crops(found: Sequence[Outcome]) -> str:
    crops: Mapping[str, Any] = next((one.crops for one in found if one.protocol == "fine-tuned"), {})
    if not crops:
        return ""
    low, high = crops["crop_scale"]
    mirrored = f"mirrored with probability {crops['flip']:g}" if crops["flip"] else "not mirrored"
    steps = next((one.steps for one in found if one.protocol == "fine-tuned"), None)
    here = f"; here {steps} steps" if steps else ""
    return f"crops keep {low:g} to {high:g} of the area, {mirrored}{here}"


def _grouped(found: Sequence[Outcome]) -> Group:
    """Return results by row and protocol: trained encoders first, then what they are compared with."""
    baselines = {name for one in found for name in one.beside}
    encoders: dict[str, dict[str, None]] = {}
    for one in found:
        encoders.setdefault(one.row, {})[one.encoder] = None
    groups: Group = {}
    for one in sorted(found, key=lambda one: (one.row in baselines, one.row.startswith("random"), one.row)):
        several = one.row not in baselines and len(encoders[one.row]) > 1
        name = f"{one.row} {one.encoder[:6]}" if several else one.row
        groups.setdefault((name, one.protocol), {}).setdefault(one.labels, []).append(one)
    return groups


def _amounts(found: Sequence[Outcome]) -> dict[str, str]:
    """Return the headings of the amounts of labels, fewest first."""
    counts: dict[str, int] = {}
    for one in sorted(found, key=lambda one: one.count):
        counts.setdefault(one.labels, one.count)
    return {labels: f"{amount(labels).words} ({count:,})" for labels, count in counts.items()}


def gains(found: Sequence[Outcome]) -> Iterator[str]:
    """Yield, for each trained encoder, protocol and baseline, what it gains with each amount of labels, in a sentence.

    It helps, or hurts, where the 95% interval of the difference says so, and is not decided elsewhere.
    """
    groups, amounts = _grouped(found), _amounts(found)
    for (row, protocol), of_amount in groups.items():
        beside = dict.fromkeys(name for some in of_amount.values() for one in some for name in one.beside)
        for other in beside:
            parts: dict[str, list[str]] = {}
            for labels in amounts:
                found_gain = gain(of_amount.get(labels, ()), groups.get((other, protocol), {}).get(labels, ()))
                if found_gain is not None:
                    low, high = found_gain.interval
                    parts.setdefault(found_gain.word, []).append(
                        f"{amount(labels).words} ({found_gain.own:.1f}% against {found_gain.other:.1f}%: "
                        f"{found_gain.points:+.1f} [{low:.1f}, {high:.1f}])"
                    )
            said = "; ".join(f"{word} with {', '.join(some)}" for word, some in parts.items())
            scratch = " (supervised training from scratch)" if _is_scratch(other, protocol) else ""
            if said:
                yield f"{row}, {protocol}, against {other}{scratch}: {said}."


def _is_scratch(row: str, protocol: str) -> bool:
    return row.startswith("random weights") and protocol == "fine-tuned"


def _named(row: str, protocol: str) -> str:
    return f"{row}, {'supervised from scratch' if _is_scratch(row, protocol) else protocol}"


def _table(groups: Group, found: Sequence[Outcome]) -> Table:
    amounts = _amounts(found)
    columns = tuple(Column(heading, 1, "accuracy in percent, by labelled pictures") for heading in amounts.values())
    rows = []
    for (row, protocol), of_amount in groups.items():
        cells: dict[str, Value | str] = {amounts[labels]: accuracy_of(some) for labels, some in of_amount.items()}
        rows.append(Row(_named(row, protocol), cells))
    values = [cell for row in rows for cell in row.cells.values() if isinstance(cell, Value)]
    n = max((value.n for value in values), default=0)
    note = (
        "Columns: labelled pictures of each class and, in parentheses, in all. Below an accuracy its 95% interval: "
        f"over {n} seeds by Student's t, of a lone one by Wilson; n = {n} where nothing else is said."
    )
    return Table("accuracy", "Accuracy on test pictures, in percent", columns, tuple(rows), note)


def _figure(groups: Group, found: Sequence[Outcome]) -> Figure:
    rows = list(dict.fromkeys(row for row, _ in groups))
    curves = []
    for (row, protocol), of_amount in groups.items():
        points = [
            (some[0].count, value)
            for some in sorted(of_amount.values(), key=lambda some: some[0].count)
            if (value := accuracy_of(some)).mean is not None
        ]
        bands = [value.interval or (value.mean, value.mean) for _, value in points]
        curves.append(
            Curve(
                name=_named(row, protocol),
                x=[count for count, _ in points],
                y=[value.mean or 0.0 for _, value in points],
                low=[low or 0.0 for low, _ in bands],
                high=[high or 0.0 for _, high in bands],
                colour=rows.index(row),
                dash="solid" if protocol == "linear probe" else "dashed",
            )
        )
    panel = Panel(title="", x="labelled pictures", y="accuracy in %", curves=tuple(curves), log_x=True)
    caption = (
        "Test accuracy against the number of labelled pictures, on a logarithmic axis. Bands: 95% intervals, "
        "Student's t over seeds, Wilson's of a lone one. Dashed: all weights fine-tuned."
    )
    return Figure("labels", "Accuracy by labels", caption, Panels((panel,), across=1))


def results_csv(found: Sequence[Outcome]) -> str:
    """Return every classifier as a line of CSV."""
    heads = ("encoder", "protocol", "labels", "pictures", "seed", "accuracy", "balanced accuracy", "low", "high")
    rows: list[tuple[str | float | int | None, ...]] = [(*heads, "fitted and scored how", "key")]
    for one in found:
        low, high = one.score.get("interval") or (None, None)
        balanced = one.score.get("balanced_accuracy")
        rows.append(
            (
                *(one.row, one.protocol, one.labels, one.count, one.seed),
                *(one.accuracy, balanced, low, high, one.score["protocol"], one.key),
            )
        )
    return csv_text(rows)
