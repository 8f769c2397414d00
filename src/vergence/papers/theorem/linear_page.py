"""What is shown of Appendix I: two tables, two figures, and each claim judged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vergence.papers.theorem.linear_model import (
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
from vergence.study import (
    Cell,
    Check,
    Claim,
    Curve,
    Figure,
    Judged,
    Measure,
    Panel,
    Panels,
    Results,
    Table,
    Value,
    above,
    all_hold,
    all_of,
    at_least,
    at_most,
    firsts,
    holds_if,
    is_above,
    is_at_most,
    known,
    make_table,
)

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


TRAINED = (SMALL, EVEN, LARGE)


def _short(name: str) -> str:
    return name.removeprefix("linear model, ").removeprefix("linear model ")


# --- tables -----------------------------------------------------------------------------------------------------------

Look = Mapping[str, float]
"""What `linear_model.look` returns."""


def _span(key: str) -> Callable[[str, Sequence[Look]], str]:
    def said(_: str, looks: Sequence[Look]) -> str:
        low, high = (end(look[key] for look in looks) for end in (min, max))
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    return said


def _worst(key: str) -> Callable[[str, Sequence[Look]], str]:
    return lambda _, looks: f"{max(look[key] for look in looks):.1e}" if looks[0]["nullity"] else "—"


def _least(key: str) -> Callable[[str, Sequence[Look]], str]:
    return lambda _, looks: f"{min(look[key] for look in looks):.1e}"


LOOKS = (
    Cell(
        "predictors",
        lambda _, looks: Value(mean=len(looks), n=1),
        0,
        "random matrices W that share these eigenvalues with B A⁻¹, and no others",
    ),
    Cell("shared", _span("shared"), about="eigenvalues found in common"),
    Cell("solutions", _span("nullity"), about="dimensions of the null space"),
    Cell("rank", _span("rank"), about="of a random solution θ: how many directions the encoder keeps"),
    Cell("residual", _worst("residual"), about="largest |W θ A - θ B| / |θ| of a solution"),
    Cell("zero", _worst("zero"), about="largest singular value taken for 0, relative to the largest of all"),
    Cell(
        "least",
        lambda row, looks: _least("least")(row, looks) if min(look["least"] for look in looks) else "—",
        about="smallest other singular value",
    ),
    Cell("nearest", _least("nearest"), about="least distance of an eigenvalue of W from one of B A⁻¹"),
)


def _words(name: str, field: str, at: int, among: Sequence[str] = DESCENTS, about: str = "", form: str = ".1e") -> Cell:
    """Return the column of a field of `State` at the first or last step, as words, of those rows that have it."""

    def said(row: str, found: Sequence[Found]) -> str:
        there = row in map(_short, among)
        return f"{found[0]['course'][field][at]:{form}}" if there else "—"

    return Cell(name, said, about=about)


def _at(field: str, at: int) -> Callable[[Found], float]:
    return lambda found: found["course"][field][at]


COURSES = (
    Cell(
        "steps",
        lambda _, found: Value(mean=found[0]["course"]["step"][-1], n=1),
        0,
        "of gradient descent on all pairs, in double precision",
    ),
    Measure("|θ| at first", _at("encoder", 0), 2),
    _words("|θ| at last", "encoder", -1, about="norm of the encoder; on the sphere its size is free", form=".2e"),
    Measure("rank at first", _at("rank", 0), 1, "effective rank of θ"),
    Measure("rank at last", _at("rank", -1), 1),
    _words("residual at first", "residual", 0, SQUARED, "|W θ A - θ B| / |θ|"),
    _words("residual at last", "residual", -1, SQUARED),
    _words(
        "eigenvalues at first", "unmatched", 0, about="mean distance of B A⁻¹'s eigenvalues from the nearest of W's"
    ),
    _words("eigenvalues at last", "unmatched", -1),
    _words(
        "balance",
        "balance",
        -1,
        TRAINED,
        "|change of WᵀW - θθᵀ| by the end, relative; 0 in the limit of small steps",
    ),
)


def tables(results: Results) -> Iterator[Table]:
    """Yield the table of the algebra, and that of the descents."""
    for found in firsts(results, [ALGEBRA]).values():
        yield make_table(
            "sylvester",
            "Solutions of W θ A = θ B",
            LOOKS,
            found["cases"],
            f"A and B from {found['pairs']} pairs of views, flattened and reduced to {len(found['eigenvalues'])} "
            "dimensions; Gaussian: predictors drawn as a training run draws its own.",
            found,
        )
    if seen := known(results, DESCENTS):
        rows = {_short(name): found for name, found in seen.items()}
        note = (
            "On the sphere: loss 2 - 2 cos instead of the appendix's |W θ x₁ - ξ x₂|², whose equation is not its own."
        )
        yield make_table("linear-model", "Linear BYOL from random starts", COURSES, rows, note)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(results: Results) -> Iterator[Figure]:
    """Yield the figure of the operator's smallest singular value, and that of the descents."""
    for found in firsts(results, [ALGEBRA]).values():
        yield _scan(found["scan"])
    if seen := firsts(results, DESCENTS):
        yield _courses(seen)


def _scan(scan: Mapping[str, Sequence[float]]) -> Figure:
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
    return Figure("sylvester-values", "A solution exists where an eigenvalue is shared", caption, Panels((panel,), 1))


def _courses(seen: Mapping[str, Found]) -> Figure:
    def panel(title: str, y: str, field: str, names: Sequence[str], log: bool) -> Panel:
        curves = tuple(
            Curve(
                name=_short(name),
                x=seen[name]["course"]["step"],
                y=[max(FLOOR, v) if log else v for v in seen[name]["course"][field]],
                colour=DESCENTS.index(name),
                dash="solid" if name in (*TRAINED, UNIT) else "dashed",
            )
            for name in names
            if name in seen
        )
        return Panel(title=title, x="step", y=y, curves=curves, log=log)

    fixed = (IDENTITY, APART, SHARING)
    panels = (
        panel("size of the encoder", "|θ|", "encoder", (*TRAINED, *fixed), True),
        panel("distance from a solution", "|W θ A - θ B| / |θ|", "residual", (*TRAINED, *fixed), True),
        panel("eigenvalues of B A⁻¹ and W", "mean distance from the nearest", "unmatched", TRAINED, True),
        panel("directions kept", "effective rank of θ", "rank", DESCENTS, False),
    )
    caption = (
        "A trained predictor brings its eigenvalues to those of B A⁻¹ and the encoder keeps its size and rank, unless "
        "W starts much larger than θ: then, as without predictor or with a fixed one that shares no eigenvalue, the "
        "encoder shrinks to 0. A fixed predictor that shares one eigenvalue (or one pair) keeps one direction (or "
        "two). On the sphere size is free, and the rank tells collapse. What is below 1e-17 is drawn there."
    )
    return Figure("linear-model-course", "Linear BYOL, step by step", caption, Panels(panels, across=2))


# --- claims -----------------------------------------------------------------------------------------------------------


def _algebra(results: Results) -> tuple[list[Look], list[Look], Mapping[str, Sequence[Look]]]:
    """Return the predictors that share an eigenvalue, those that share none, and all by case."""
    cases = firsts(results, [ALGEBRA]).get(ALGEBRA, {}).get("cases", {})
    shared = [look for name, looks in cases.items() if name not in NO_EIGENVALUE for look in looks]
    return shared, [look for name in NO_EIGENVALUE for look in cases.get(name, ())], cases


def _if_shared(results: Results) -> Judged:
    shared, _, _ = _algebra(results)
    missing = min((look["nullity"] - look["shared"] for look in shared), default=None)
    fewest = min((min(look["nullity"], look["shared"]) for look in shared), default=None)
    worst, zero = max((look["residual"] for look in shared), default=None), Value(mean=0.0)
    outcomes = [
        is_above(Value(mean=fewest), zero, by=1),
        is_above(Value(mean=missing), zero),
        is_at_most(Value(mean=worst), zero, plus=1e-10),
    ]
    numbers = (
        f"{len(shared)} predictors that share 1 to {max(look['shared'] for look in shared)} eigenvalues: as many "
        f"dimensions of solutions as shared eigenvalues or more, residual at most {worst:.1e}; a random solution's "
        "rank is the number shared: one shared eigenvalue keeps one direction."
        if shared
        else "Not run."
    )
    return all_hold(outcomes), numbers


def _only_if_shared(results: Results) -> Judged:
    _, apart, cases = _algebra(results)
    if not apart:
        return "not decided", "Not run."
    found_anyway = max(max(look["nullity"], look["shared"]) for look in apart)
    least = min(look["least"] for look in apart)
    return holds_if(found_anyway == 0), (
        f"{len(apart)} predictors, {len(cases.get('Gaussian', ()))} of them Gaussian: no shared eigenvalue and no "
        f"solution but 0 in any; smallest singular value {least:.1e} of the largest."
    )


def _share(field: str) -> Measure:
    """Return the measure of a course's last value as a share of its first."""
    return Measure(field, lambda found: found["course"][field][-1] / found["course"][field][0])


NORM, REST, RANK = _share("encoder"), _share("residual"), Measure("rank", _at("rank", -1))


def _told(*names: str) -> Callable[[Results], str]:
    def told(results: Results) -> str:
        seen, said = firsts(results, names), []
        for name in names:
            if name not in seen:
                said.append(f"{_short(name)}: not run")
                continue
            of = seen[name]["course"]
            more = f", residual {of['residual'][0]:.1e} to {of['residual'][-1]:.1e}" if name in SQUARED else ""
            if name in TRAINED:
                more += f", eigenvalues {of['unmatched'][0]:.1e} to {of['unmatched'][-1]:.1e} apart"
            said.append(
                f"{_short(name)}: |θ| {of['encoder'][0]:.2f} to {of['encoder'][-1]:.2g}, rank {of['rank'][0]:.1f} to "
                f"{of['rank'][-1]:.1f}{more}"
            )
        return "; ".join(said) + "."

    return told


def _any_start(results: Results) -> str:
    kept = "WᵀW - θθᵀ stays as it starts, so a W that starts larger cannot come down to the eigenvalues of B A⁻¹."
    return f"{_told(*TRAINED)(results)} {kept}"


SYLVESTER = "RAFT, Appendix I"
CLAIMS = (
    Claim(
        "sylvester-if",
        "W θ A = θ B has a non-trivial solution if W and B A⁻¹ share an eigenvalue",
        Check(_if_shared),
        SYLVESTER,
        "For each of them the null space has at least as many dimensions as eigenvalues are shared, and its basis "
        "solves the equation within 1e-10.",
    ),
    Claim(
        "sylvester-only-if",
        "Only if they share one: else θ = 0 is the only solution, as it is for a predictor drawn at random",
        Check(_only_if_shared),
        SYLVESTER,
        "No singular value below 1e-10 of the largest.",
    ),
    Claim(
        "linear-reaches-solution",
        "Training from a random start leads to a non-trivial solution: eigenvalues of W come to those of B A⁻¹",
        all_of(at_least(NORM, (SMALL, EVEN), LEFT), at_most(REST, (SMALL, EVEN), RESIDUAL)).telling(_told(SMALL, EVEN)),
        "RAFT, Appendix I, which asks it of the limit; that training gets there is ours to see",
        f"The encoder ends with at least {LEFT:.0%} of its first norm and at most {RESIDUAL:.0%} of its residual.",
    ),
    Claim(
        "linear-collapses-without",
        "Without predictor, or with a fixed one that shares no eigenvalue, the encoder goes to 0",
        at_most(NORM, (IDENTITY, APART), GONE).telling(_told(IDENTITY, APART)),
        "RAFT, Appendix I and Section 3",
        f"The encoder ends with at most {GONE:g} of its first norm.",
    ),
    Claim(
        "linear-any-start",
        "A randomly initialized linear predictor prevents collapse, of whatever size it starts",
        at_least(NORM, TRAINED, LEFT).telling(_any_start),
        "RAFT, Section 3 and Appendix I, which name no size",
        f"From each of three starts the encoder ends with at least {LEFT:.0%} of its first norm.",
    ),
    Claim(
        "linear-one-eigenvalue",
        "One shared eigenvalue, or pair, keeps the encoder from 0, but with one direction, or two: non-trivial is less "
        "than not collapsed",
        all_of(at_least(NORM, SHARING, GONE), at_most(REST, SHARING, RESIDUAL), at_most(RANK, SHARING, 2.1)).telling(
            _told(SHARING)
        ),
        "Beyond RAFT, Appendix I, which calls it exactly the prevention for collapse",
        f"Residual at most {RESIDUAL:.0%} of the first, norm above {GONE:g} of it, effective rank at most 2.1.",
    ),
    Claim(
        "linear-sphere",
        "On the sphere, too, a trained predictor keeps the encoder's rank, and none lets it go to a few directions",
        above(RANK, UNIT, UNIT_IDENTITY, by=3).telling(_told(UNIT, UNIT_IDENTITY)),
        "Beyond RAFT, Appendix I, whose loss is not normalized",
        "The effective rank at the end is larger with predictor by at least 3 of 16.",
    ),
)
