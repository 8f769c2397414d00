"""Studies as values: runs by the name of their row, scales, measures, tables, curves and claims, and their page.

A study is made with `Study` and shown by `reproduce`, or by the command `vergence reproduce FILE.py`.
`examples/experiment.py` is a whole one.
"""

from vergence.engine.reporter import Reporter
from vergence.files.results import Result
from vergence.report.content import (
    Bars,
    Circle,
    Circles,
    Column,
    Curve,
    Figure,
    Finding,
    Outcome,
    Panel,
    Panels,
    Row,
    Table,
    Value,
)
from vergence.report.measures import (
    Cell,
    Lines,
    Measure,
    Results,
    accuracy,
    curve,
    first_epoch,
    firsts,
    known,
    listed,
    logged,
    make_panels,
    make_table,
    steps,
)
from vergence.study.checks import (
    Check,
    Claim,
    Judged,
    above,
    after,
    all_hold,
    all_of,
    any_of,
    at_least,
    at_most,
    close,
    collapses,
    falls,
    holds_if,
    is_above,
    is_at_most,
    is_near,
    opposite,
    recovers,
    tells_collapse,
    undecided,
    where_run,
)
from vergence.study.find import open_study
from vergence.study.kept import KEPT, kept
from vergence.study.reproduction import PAGE, PageOptions, page_of, rebuild, reproduce
from vergence.study.scale import Place, Scale, differing, seeds_differing
from vergence.study.study import Plan, Study
from vergence.study.work import Task, Work

__all__ = ["KEPT", "PAGE", "Bars", "Cell", "Check", "Circle", "Circles", "Claim", "Column", "Curve", "Figure"]
__all__ += ["Finding", "Judged", "Lines", "Measure", "Outcome", "PageOptions", "Panel", "Panels", "Place", "Plan"]
__all__ += ["Reporter", "Result", "Results", "Row", "Scale", "Study", "Table", "Task", "Value", "Work", "above"]
__all__ += ["accuracy", "after", "all_hold", "all_of", "any_of", "at_least", "at_most", "close", "collapses", "curve"]
__all__ += ["differing", "falls", "first_epoch", "firsts", "holds_if", "is_above", "is_at_most", "is_near", "kept"]
__all__ += ["known", "listed", "logged", "make_panels", "make_table", "open_study", "opposite", "page_of", "rebuild"]
__all__ += ["recovers", "reproduce", "seeds_differing", "steps", "tells_collapse", "undecided", "where_run"]
