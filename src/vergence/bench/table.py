"""The measurements for a person."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = tuple[str, str, str, str]


def print_record(console: Console, record: Mapping[str, Any]) -> None:
    """The machine, the work, and a row for each number: its median, and the range of its rounds."""
    for name, text in heading(record).items():
        console.print(Text(f"  {name:9} {text}"), soft_wrap=True)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("what", no_wrap=True)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("least to most", justify="right", no_wrap=True)
    table.add_column("")
    for row in rows(record):
        table.add_row(*row)
    console.print(table)


def heading(record: Mapping[str, Any]) -> dict[str, str]:
    """What was measured on what, in lines."""
    here, settings = record["environment"], record["settings"]
    run = settings["run"]
    commit = f"commit {record['commit']}{', changed' if record['dirty'] else ''}" if record["commit"] else "no checkout"
    lines = {
        "machine": f"{here['device_name']}, {here['cores']} cores, {here['threads']} threads",
        "code": f"vergence {here['vergence']}, {commit}, torch {here['torch']}",
        "work": f"{run['method']['kind']}, {run['encoder']['name']} ({run['encoder']['stem']} stem), "
        f"{run['views']['size']} px, batch {run['batch_size']}, {run['precision']}, compile {settings['compile']}",
    }
    if settings["pictures"]:
        lines["pictures"] = settings["pictures"]
    if "ceilings" in record:
        most = record["ceilings"]
        lines["ceilings"] = f"{most['tflops']:.3g} TFLOP/s ({most['dtype']}), copy {most['gb_per_s']:.3g} GB/s"
    return lines


def rows(record: Mapping[str, Any]) -> Iterable[Row]:
    """What, median, range, remark."""
    for order, found in record.get("views", {}).items():
        yield _row(f"views, {order} order", "views/s", found["views_per_s"])
        if "views_per_core_s" in found:
            yield _row("", "views/core-s", found["views_per_core_s"])
    for part, title in (("step", "step, views held"), ("train", "training, with views")):
        if part in record:
            yield from _training(title, record[part])
    if "evaluate" in record:
        yield from _evaluation(record["evaluate"])
    if "import" in record:
        for name, value in record["import"].items():
            if name != "rounds":
                yield _row(name.removesuffix("_s").replace("_", " "), "s", value)
    for found in record.get("at-once", {}).get("counts", ()):
        remark = f"{found['over_one']:.2f} times one after the other; threads each: {found['threads_each']}"
        yield f"{found['runs']} at once", f"{found['samples_per_s']:,.4g} samples/s", "", remark


def _training(title: str, found: Mapping[str, Any]) -> Iterable[Row]:
    known = [each["foreign"] for each in found["rounds"] if each["foreign"] is not None]
    remark = f"others took up to {max(known):.0%} of the machine" if known else ""
    yield _row(title, "samples/s", found["samples_per_s"], remark)
    yield _row("", "ms a step", found["step_ms"])
    reached = found["achieved"]
    remark = f"{reached['share_of_tflops']:.0%} of a product's, direct convolutions"
    yield "", f"{reached['tflops']:.3g} TFLOP/s", "", remark
    remark = f"{reached['share_of_gb_per_s_every_operator']:.0%} of a copy's, operator by operator; "
    remark += f"{reached['share_of_gb_per_s_products_only']:.0%} if fused"
    yield "", f"{reached['gb_per_s_every_operator']:.3g} GB/s", "", remark


def _evaluation(found: Mapping[str, Any]) -> Iterable[Row]:
    pictures = found["pictures"]
    remark = f"fitted {pictures['fitted']}, scored {pictures['scored']}; {found['pictures_per_s']:,.4g} a second"
    yield _row("evaluation: features", "s", found["features_s"], remark)
    yield _row("kNN probe", "s", found["knn_s"])
    times, longer = found["passes_ratio"], found["seconds_ratio"]
    remark = f"100 epochs of passes: {times:.3g} times as many, {longer:.3g} times the time"
    yield _row("linear probe", "s", found["linear_s"], remark)


def _row(title: str, unit: str, value: Mapping[str, float], remark: str = "") -> Row:
    median, least, most = (figure(value[name]) for name in ("median", "min", "max"))
    return title, f"{median} {unit}", f"{least} to {most}", remark


def figure(value: float) -> str:
    """Return a number with four digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
