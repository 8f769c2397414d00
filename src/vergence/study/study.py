"""A study as a value: the runs that a question needs, and what is made of their results."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from vergence.config import Run
from vergence.config.schema import said
from vergence.config.spelling import nearest
from vergence.engine.periods import Periods
from vergence.errors import InputError
from vergence.grid import Job
from vergence.report.content import Figure, Finding, Panels, Table, identifier
from vergence.report.measures import Cell, Lines, Measure, Results, known, make_panels, make_table
from vergence.runs.training import Training
from vergence.study.checks import Check, Claim
from vergence.study.scale import Place, Scale, differing, seeds_differing


class Readable(Job, Protocol):
    """A job whose result can be read from its folder."""

    def read(self, folder: Path) -> Any:
        """Return the result of a finished job, without torch."""
        ...


Plan = Mapping[str, Sequence[Readable]]
"""Jobs by the name of their row; more than one where a row is repeated over seeds."""


@dataclass(kw_only=True)
class Study:
    """A question, the runs that answer it at several scales, and the tables, curves and claims made of their results.

    Attributes:
        title: heading of its page.
        lead: paragraphs at the head of the page.
        scales: how much of the work is done, by name; "full", else the last, is the document's own.
        rows: the document's runs by the name of their row, or a function of the scale that returns them.
        base: the row that others are compared with; empty: the first.
        long: rows that are trained for a scale's `long` epochs.
        online: probes scored during training, in every row.
        watch: what else `Training` shall watch in a row, from the row's name, its run and the scale.
        jobs: work that is no training run, by row.
        deviations: how a scale differs from the document, a line each; None: computed from the runs.

    Raises:
        InputError: there is no scale, or a row is no run.
    """

    title: str
    lead: str | Sequence[str]
    scales: Mapping[str, Scale]
    rows: Mapping[str, Run] | Callable[[Scale], Mapping[str, Run]]
    base: str = ""
    long: Collection[str] = ()
    online: tuple[str, ...] = ()
    watch: Callable[[str, Run, Scale], Mapping[str, Any]] = lambda row, run, scale: {}
    jobs: Callable[[Scale, Place], Plan] = lambda scale, place: {}
    deviations: Callable[[Scale], Sequence[str]] | None = None
    _tables: list[Callable[[Results], Iterable[Table]]] = field(default_factory=list, init=False)
    _figures: list[Callable[[Results], Iterable[Figure]]] = field(default_factory=list, init=False)
    _claims: list[Claim] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError('a study needs a scale; as in: scales={"smoke": Scale(about="minutes", epochs=3)}')
        for row, run in {} if callable(self.rows) else self.rows.items():
            if not isinstance(run, Run):
                kind = type(run).__name__
                raise InputError(
                    f"row {said(row)} is a {kind}, not a Run; as in: presets.default(c.BYOL(), c.Digits())"
                )
        self.lead = (self.lead,) if isinstance(self.lead, str) else tuple(self.lead)
        self.scales = {name: replace(scale, name=name) for name, scale in self.scales.items()}
        self.base = self.base or next(iter(self.document(self.full)), "")

    @property
    def full(self) -> Scale:
        """The document's own scale."""
        return self.scales.get("full") or list(self.scales.values())[-1]

    # --- what is done -------------------------------------------------------------------------------------------------

    def document(self, scale: Scale) -> Mapping[str, Run]:
        """Return the runs as the document has them, of those rows that a scale has."""
        return self.rows(scale) if callable(self.rows) else self.rows

    def check(self, rows: Collection[str]) -> None:
        """Raise `InputError` where a claim, or the base, names a row that is none of these."""
        named = [("base", [self.base] if self.base else [])]
        named += [(f"claim {claim.slug}", claim.check.rows) for claim in self._claims]
        for what, names in named:
            for row in names:
                if row not in rows:
                    raise InputError(f"{what}: no row {said(row)}; {nearest(row, rows)}")

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return the runs at a scale, by row."""
        found = {}
        for row, run in self.document(scale).items():
            epochs = scale.long if row in self.long and scale.long is not None else scale.epochs
            found[row] = replace(scale.apply(run), epochs=(epochs or run.epochs) if run.epochs else 0)
        return found

    def plan(self, scale: Scale, place: Place) -> dict[str, Sequence[Readable]]:
        """Return what is to be done at a scale, in order: each run once for every seed, then the study's own jobs."""
        plan: dict[str, Sequence[Readable]] = {}
        for row, run in self.runs(scale).items():
            periods = Periods(**{"online": self.online, **self.watch(row, run, scale)})
            plan[row] = [
                Training(
                    name=f"{row}, seed {seed}" if scale.seeds_of(row) > 1 else row,
                    run=replace(run, seed=seed),
                    data_dir=place.data_dir,
                    device=place.device,
                    periods=periods,
                )
                for seed in range(scale.seeds_of(row))
            ]
        return plan | dict(self.jobs(scale, place))

    def differences(self, scale: Scale) -> list[str]:
        """Return how a scale's runs differ from the document's, a line each."""
        if self.deviations is not None:
            return list(self.deviations(scale))
        return seeds_differing(self.full, scale) + differing(self.runs(self.full), self.runs(scale))

    # --- what is shown ------------------------------------------------------------------------------------------------

    def table(
        self,
        slug: str,
        title: str,
        *columns: Measure | Cell,
        rows: Sequence[str] = (),
        note: str | Callable[[Results], str] = "",
        only_known: bool = False,
    ) -> None:
        """Show a table with a column for each measure.

        Args:
            slug: names its file.
            title: its heading.
            columns: what is measured.
            rows: which rows; empty: all that the results have.
            note: what stands below; or a function of the results that writes it.
            only_known: leave out rows without results, and a table that has no others.
        """
        _require_slug(slug)

        def made(results: Results) -> Iterable[Table]:
            names = rows or results
            found = known(results, names) if only_known else {row: results.get(row, ()) for row in names}
            if found or not only_known:
                yield make_table(slug, title, columns, found, note(results) if callable(note) else note)

        self._tables.append(made)

    def curves(
        self,
        slug: str,
        title: str,
        *lines: Measure | Lines,
        caption: str = "",
        across: int | None = None,
        only_known: bool = False,
    ) -> None:
        """Show a figure with a panel for each measure over training: the mean over seeds, a standard deviation as band.

        Args:
            slug: names its file.
            title: its heading.
            lines: measures, each of all rows; or panels with a choice of rows.
            caption: what is seen, for those who cannot see it too; empty: what the measures mean.
            across: panels beside each other; None: two, or one where there is one.
            only_known: leave out panels without a line, and a figure that has no others.
        """
        _require_slug(slug)

        def made(results: Results) -> Iterable[Figure]:
            drawn = [part if isinstance(part, Lines) else Lines(part, list(results), y=part.title) for part in lines]
            found = tuple(p for p in make_panels(results, *drawn) if p.curves or not only_known)
            if found:
                yield Figure(slug, title, caption or said, Panels(found, across or min(2, len(found))))

        abouts = [
            f"{part.title}: {part.about}" if part.about else part.title for part in lines if isinstance(part, Measure)
        ]
        said = "; ".join(abouts) + "." if abouts else ""
        self._figures.append(made)

    def claim(self, slug: str, text: str, check: Check, *, source: str = "our expectation", rule: str = "") -> None:
        """Show a claim and whether it holds; the parameters are those of `Claim`."""
        _require_slug(slug)
        self._claims.append(Claim(slug, text, check, source, rule))

    def add(
        self,
        *,
        tables: Callable[[Results], Iterable[Table]] | None = None,
        figures: Callable[[Results], Iterable[Figure]] | None = None,
        claims: Iterable[Claim] = (),
    ) -> None:
        """Show tables and figures that functions of the results make, and claims."""
        self._tables += [tables] if tables else []
        self._figures += [figures] if figures else []
        self._claims += claims

    def tables(self, results: Results) -> list[Table]:
        """Return the tables of these results."""
        return [table for made in self._tables for table in made(results)]

    def figures(self, results: Results) -> list[Figure]:
        """Return the figures of these results."""
        return [figure for made in self._figures for figure in made(results)]

    def findings(self, results: Results) -> list[Finding]:
        """Return the claims, judged on these results."""
        return [claim.judge(results) for claim in self._claims]


def _require_slug(slug: str) -> None:
    if identifier(slug) != slug or slug == "results":
        raise InputError(f"{said(slug)} cannot name a file; use small letters, digits and dashes: {identifier(slug)!r}")
