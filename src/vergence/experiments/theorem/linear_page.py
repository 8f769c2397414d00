"""What is shown of Appendix I: two tables, two figures, and each claim judged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vergence.experiments.judging import all_of, holds_if, is_above, is_at_most
from vergence.experiments.theorem.linear_model import (
    ALGEBRA,
    APART,
    DESCENTS,
    EVEN,
    IDENTITY,
    LARGE,
    SHARING,
    SMALL,
    SQUARED,
    UNIT,
    UNIT_IDENTITY,
)
from vergence.report.content import Column, Curve, Figure, Finding, Outcome, Panel, Panels, Row, Table, Value

Found = Mapping[str, Any]
"""What a task of `linear_model` returns."""

LEFT = 0.1
"""Share of its first norm that an encoder keeps which has not collapsed."""

GONE = 1e-6
"""Share below which it has."""

RESIDUAL = 0.01
"""Share of its first residual that an encoder keeps which solves the equation, or is about to."""

FLOOR = 1e-17
"""Where 0 is drawn on a logarithmic axis."""

NO_EIGENVALUE = ("Gaussian", "no eigenvalue")


def _known(results: Mapping[str, Sequence[Any]], names: Iterable[str]) -> dict[str, Found]:
    return {name: results[name][0] for name in names if results.get(name)}


def _key(found: Found) -> tuple[str, ...]:
    return (found["key"],) if "key" in found else ()


def _short(name: str) -> str:
    return name.removeprefix("linear model, ").removeprefix("linear model ")


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(results: Mapping[str, Sequence[Any]]) -> list[Table]:
    return [*_algebra(_known(results, [ALGEBRA]).get(ALGEBRA)), *_training(_known(results, DESCENTS))]


def _algebra(found: Found | None) -> list[Table]:
    if found is None:
        return []

    def span(values: Sequence[float]) -> str:
        low, high = min(values), max(values)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    rows = tuple(
        Row(
            name,
            {
                "predictors": Value(mean=len(looks), n=1),
                "shared": span([look["shared"] for look in looks]),
                "solutions": span([look["nullity"] for look in looks]),
                "rank": span([look["rank"] for look in looks]),
                "residual": f"{max(look['residual'] for look in looks):.1e}" if looks[0]["nullity"] else "—",
                "zero": f"{max(look['zero'] for look in looks):.1e}" if looks[0]["nullity"] else "—",
                "least": f"{least:.1e}" if (least := min(look["least"] for look in looks)) else "—",
                "nearest": f"{min(look['nearest'] for look in looks):.1e}",
            },
            _key(found),
        )
        for name, looks in found["cases"].items()
    )
    columns = (
        Column("predictors", 0, "random matrices W that share these eigenvalues with B A⁻¹, and no others"),
        Column("shared", about="eigenvalues found in common"),
        Column("solutions", about="dimensions of the null space"),
        Column("rank", about="of a random solution θ: how many directions the encoder keeps"),
        Column("residual", about="largest |W θ A - θ B| / |θ| of a solution"),
        Column("zero", about="largest singular value taken for 0, relative to the largest of all"),
        Column("least", about="smallest other singular value"),
        Column("nearest", about="least distance of an eigenvalue of W from one of B A⁻¹"),
    )
    note = (
        f"A and B from {found['pairs']} pairs of views, flattened and reduced to {len(found['eigenvalues'])} "
        "dimensions; Gaussian: predictors drawn as a training run draws its own."
    )
    return [Table("sylvester", "Solutions of W θ A = θ B", columns, rows, note)]


def _training(seen: Mapping[str, Found]) -> list[Table]:
    rows = []
    for name, found in seen.items():
        course = found["course"]
        trained = name in (SMALL, EVEN, LARGE)
        rows.append(
            Row(
                _short(name),
                {
                    "steps": Value(mean=course["step"][-1], n=1),
                    "|θ| at first": Value(mean=course["encoder"][0], n=1),
                    "|θ| at last": f"{course['encoder'][-1]:.2e}",
                    "rank at first": Value(mean=course["rank"][0], n=1),
                    "rank at last": Value(mean=course["rank"][-1], n=1),
                    "residual at first": f"{course['residual'][0]:.1e}" if name in SQUARED else "—",
                    "residual at last": f"{course['residual'][-1]:.1e}" if name in SQUARED else "—",
                    "eigenvalues at first": f"{course['unmatched'][0]:.1e}",
                    "eigenvalues at last": f"{course['unmatched'][-1]:.1e}",
                    "balance": f"{course['balance'][-1]:.1e}" if trained else "—",
                },
                _key(found),
            )
        )
    columns = (
        Column("steps", 0, "of gradient descent on all pairs, in double precision"),
        Column("|θ| at first", 2),
        Column("|θ| at last", about="norm of the encoder; on the sphere its size is free"),
        Column("rank at first", 1, "effective rank of θ"),
        Column("rank at last", 1),
        Column("residual at first", about="|W θ A - θ B| / |θ|"),
        Column("residual at last"),
        Column("eigenvalues at first", about="mean distance of B A⁻¹'s eigenvalues from the nearest of W's"),
        Column("eigenvalues at last"),
        Column("balance", about="|change of WᵀW - θθᵀ| by the end, relative; 0 in the limit of small steps"),
    )
    note = "On the sphere: loss 2 - 2 cos instead of the appendix's |W θ x₁ - ξ x₂|², whose equation is not its own."
    return [Table("linear-model", "Linear BYOL from random starts", columns, tuple(rows), note)] if rows else []


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(results: Mapping[str, Sequence[Any]]) -> list[Figure]:
    return [*_scan(_known(results, [ALGEBRA]).get(ALGEBRA)), *_courses(_known(results, DESCENTS))]


def _scan(found: Found | None) -> list[Figure]:
    if found is None:
        return []
    scan = found["scan"]
    curve = Curve(name="smallest singular value", x=scan["w"], y=[max(FLOOR, v) for v in scan["least"]], colour=0)
    panel = Panel(
        title="W's moving eigenvalue against the operator's smallest singular value",
        x="eigenvalue w of W",
        y="smallest / largest singular value",
        curves=(curve,),
        log=True,
    )
    caption = (
        "One eigenvalue of W moves along the real axis, the others stay beyond all of B A⁻¹'s. The operator whose null "
        "space are the solutions θ is singular, to the last bits of double precision, just where w is one of the "
        f"{len(scan['real'])} real eigenvalues of B A⁻¹ ({', '.join(f'{v:.3f}' for v in scan['real'])}). Dips that do "
        "not reach the bottom are complex pairs near the axis, and points of the grid near an eigenvalue."
    )
    return [
        Figure(
            "sylvester-values", "A solution exists where an eigenvalue is shared", caption, Panels((panel,), across=1)
        )
    ]


def _courses(seen: Mapping[str, Found]) -> list[Figure]:
    if not seen:
        return []

    def panel(title: str, y: str, field: str, names: Sequence[str], log: bool) -> Panel:
        curves = tuple(
            Curve(
                name=_short(name),
                x=seen[name]["course"]["step"],
                y=[max(FLOOR, v) if log else v for v in seen[name]["course"][field]],
                colour=DESCENTS.index(name),
                dash="solid" if name in (SMALL, EVEN, LARGE, UNIT) else "dashed",
            )
            for name in names
            if name in seen
        )
        return Panel(title=title, x="step", y=y, curves=curves, log=log)

    fixed = (IDENTITY, APART, SHARING)
    panels = (
        panel("size of the encoder", "|θ|", "encoder", (SMALL, EVEN, LARGE, *fixed), True),
        panel("distance from a solution", "|W θ A - θ B| / |θ|", "residual", (SMALL, EVEN, LARGE, *fixed), True),
        panel("eigenvalues of B A⁻¹ and W", "mean distance from the nearest", "unmatched", (SMALL, EVEN, LARGE), True),
        panel("directions kept", "effective rank of θ", "rank", DESCENTS, False),
    )
    caption = (
        "A trained predictor brings its eigenvalues to those of B A⁻¹ and the encoder keeps its size and rank, unless "
        "W starts much larger than θ: then, as without predictor or with a fixed one that shares no eigenvalue, the "
        "encoder shrinks to 0. A fixed predictor that shares one eigenvalue (or one pair) keeps one direction (or "
        "two). On the sphere size is free, and the rank tells collapse. What is below 1e-17 is drawn there."
    )
    return [Figure("linear-model-course", "Linear BYOL, step by step", caption, Panels(panels, across=2))]


# --- findings ---------------------------------------------------------------------------------------------------------


def findings(results: Mapping[str, Sequence[Any]]) -> list[Finding]:
    return [*_judged_algebra(_known(results, [ALGEBRA]).get(ALGEBRA, {})), *_judged_training(_known(results, DESCENTS))]


def _judged_algebra(found: Found) -> list[Finding]:
    cases = found.get("cases", {})
    shared = [look for name, looks in cases.items() if name not in NO_EIGENVALUE for look in looks]
    apart = [look for name in NO_EIGENVALUE for look in cases.get(name, ())]
    missing = min((look["nullity"] - look["shared"] for look in shared), default=None)
    fewest = min((min(look["nullity"], look["shared"]) for look in shared), default=None)
    worst = max((look["residual"] for look in shared), default=None)
    found_anyway = max((max(look["nullity"], look["shared"]) for look in apart), default=None)
    least = min((look["least"] for look in apart), default=None)
    zero, source = Value(mean=0.0), "RAFT, Appendix I"
    return [
        Finding(
            "sylvester-if",
            "W θ A = θ B has a non-trivial solution if W and B A⁻¹ share an eigenvalue",
            source,
            all_of(
                is_above(Value(mean=fewest), zero, by=1),
                is_above(Value(mean=missing), zero),
                is_at_most(Value(mean=worst), zero, plus=1e-10),
            ),
            f"{len(shared)} predictors that share 1 to {max(look['shared'] for look in shared)} eigenvalues: as many "
            f"dimensions of solutions as shared eigenvalues or more, residual at most {worst:.1e}; a random solution's "
            "rank is the number shared: one shared eigenvalue keeps one direction."
            if shared
            else "Not run.",
            "For each of them the null space has at least as many dimensions as eigenvalues are shared, and its basis "
            "solves the equation within 1e-10.",
        ),
        Finding(
            "sylvester-only-if",
            "Only if they share one: else θ = 0 is the only solution, as it is for a predictor drawn at random",
            source,
            "not decided" if found_anyway is None else holds_if(found_anyway == 0),
            f"{len(apart)} predictors, {len(cases.get('Gaussian', ()))} of them Gaussian: no shared eigenvalue and no "
            f"solution but 0 in any; smallest singular value {least:.1e} of the largest."
            if apart
            else "Not run.",
            "No singular value below 1e-10 of the largest.",
        ),
    ]


def _judged_training(seen: Mapping[str, Found]) -> list[Finding]:
    def share(name: str, field: str) -> Value:
        """Of its first value that a course ends with."""
        course = seen[name]["course"][field] if name in seen else None
        return Value(mean=course[-1] / course[0] if course else None, n=1)

    def rank(name: str) -> Value:
        return Value(mean=seen[name]["course"]["rank"][-1] if name in seen else None, n=1)

    def told(names: Sequence[str]) -> str:
        said = []
        for name in names:
            if name not in seen:
                said.append(f"{_short(name)}: not run")
                continue
            of = seen[name]["course"]
            more = f", residual {of['residual'][0]:.1e} to {of['residual'][-1]:.1e}" if name in SQUARED else ""
            if name in (SMALL, EVEN, LARGE):
                more += f", eigenvalues {of['unmatched'][0]:.1e} to {of['unmatched'][-1]:.1e} apart"
            said.append(
                f"{_short(name)}: |θ| {of['encoder'][0]:.2f} to {of['encoder'][-1]:.2g}, rank {of['rank'][0]:.1f} to "
                f"{of['rank'][-1]:.1f}{more}"
            )
        return "; ".join(said) + "."

    zero = Value(mean=0.0)
    stays: dict[str, Outcome] = {name: is_above(share(name, "encoder"), zero, by=LEFT) for name in (SMALL, EVEN, LARGE)}
    solves: list[Outcome] = [is_at_most(share(name, "residual"), zero, plus=RESIDUAL) for name in (SMALL, EVEN)]
    goes: list[Outcome] = [is_at_most(share(name, "encoder"), zero, plus=GONE) for name in (IDENTITY, APART)]
    return [
        Finding(
            "linear-reaches-solution",
            "Training from a random start leads to a non-trivial solution: eigenvalues of W come to those of B A⁻¹",
            "RAFT, Appendix I, which asks it of the limit; that training gets there is ours to see",
            all_of(stays[SMALL], stays[EVEN], *solves),
            told((SMALL, EVEN)),
            f"The encoder ends with at least {LEFT:.0%} of its first norm and at most {RESIDUAL:.0%} of its residual.",
        ),
        Finding(
            "linear-collapses-without",
            "Without predictor, or with a fixed one that shares no eigenvalue, the encoder goes to 0",
            "RAFT, Appendix I and Section 3",
            all_of(*goes),
            told((IDENTITY, APART)),
            f"The encoder ends with at most {GONE:g} of its first norm.",
        ),
        Finding(
            "linear-any-start",
            "A randomly initialized linear predictor prevents collapse, of whatever size it starts",
            "RAFT, Section 3 and Appendix I, which name no size",
            all_of(*stays.values()),
            told((SMALL, EVEN, LARGE)) + " WᵀW - θθᵀ stays as it starts, so a W that starts larger cannot come down to "
            "the eigenvalues of B A⁻¹.",
            f"From each of three starts the encoder ends with at least {LEFT:.0%} of its first norm.",
        ),
        Finding(
            "linear-one-eigenvalue",
            "One shared eigenvalue, or pair, keeps the encoder from 0, but with one direction, or two: non-trivial is "
            "less than not collapsed",
            "Beyond RAFT, Appendix I, which calls it exactly the prevention for collapse",
            all_of(
                is_above(share(SHARING, "encoder"), zero, by=GONE),
                is_at_most(share(SHARING, "residual"), zero, plus=RESIDUAL),
                is_at_most(rank(SHARING), zero, plus=2.1),
            ),
            told((SHARING,)),
            f"Residual at most {RESIDUAL:.0%} of the first, norm above {GONE:g} of it, effective rank at most 2.1.",
        ),
        Finding(
            "linear-sphere",
            "On the sphere, too, a trained predictor keeps the encoder's rank, and none lets it go to a few directions",
            "Beyond RAFT, Appendix I, whose loss is not normalized",
            is_above(rank(UNIT), rank(UNIT_IDENTITY), by=3),
            told((UNIT, UNIT_IDENTITY)),
            "The effective rank at the end is larger with predictor by at least 3 of 16.",
        ),
    ]
