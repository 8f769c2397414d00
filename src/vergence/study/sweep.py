"""A study of every combination of some values: its rows are runs, and its page has what any runs' page has."""

from collections.abc import Mapping

from vergence.config import Run
from vergence.engine.periods import Periods
from vergence.report.compare import figures_beside, tables_beside
from vergence.study.scale import Scale
from vergence.study.study import Study


def sweep_study(rows: Mapping[str, Run], *, seeds: int = 1, periods: Periods = Periods()) -> Study:
    """Return a study without a document: its runs as they are, with the tables and curves that any runs have.

    Args:
        rows: runs by the name of their row.
        seeds: runs of each row.
        periods: what is logged and scored while they train; changes no result.
    """
    methods = dict.fromkeys(run.method.kind for run in rows.values())
    count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}, {seeds} run{'' if seeds == 1 else 's'} each"
    study = Study(
        title=f"A sweep of {', '.join(methods)}",
        lead="Rows differ in what their names say, and the runs of a row in nothing but the seed.",
        scales={"full": Scale(about=count, seeds=seeds)},
        rows=rows,
        watch=lambda row, run, scale: vars(periods),
    )
    study.add(tables=tables_beside, figures=figures_beside)
    return study
