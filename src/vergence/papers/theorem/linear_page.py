"""The page of Appendix I: two tables, two figures, and its claims."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vergence import study as s
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

Found = Mapping[str, Any]
"""The result of a task of `linear_model`."""

LEFT = 0.1
"""Share of its first norm that an encoder keeps which has not collapsed."""

GONE = 1e-6
"""Share below which it has."""

RESIDUAL = 0.01
"""Share of its first residual that an encoder keeps which solves the equation, or is about to."""

FLOOR = 1e-17
"""The place of 0 on a logarithmic axis."""

NO_EIGENVALUE = ("Gaussian", "no eigenvalue")


TRAINED = (SMALL, EVEN, LARGE)


def _short(name: str) -> str:
    return name.removeprefix("linear model, ").removeprefix("linear model ")


# --- tables -----------------------------------------------------------------------------------------------------------

Look = Mapping[str, float]
"""The result of `linear_model.look`."""


def _span(key: str) -> Callable[[str, Sequence[Look]], str]:
    def said(_: str, looks: Sequence[Look]) -> str:
        low, high = (end(look[key] for look in looks) for end in (min, max))
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    return said


def _worst(key: str) -> Callable[[str, Sequence[Look]], str]:
    return lambda _, looks: f"{max(look[key] for look in looks):.1e}" if looks[0]["nullity"] else "—"


def _least(key: str, zero: str) -> Callable[[str, Sequence[Look]], str]:
    return lambda _, looks: f"{least:.1e}" if (least := min(look[key] for look in looks)) else zero


MADE = "random matrices W that share these eigenvalues with B A⁻¹, and no others"
LOOKS = (
    s.Cell("predictors", lambda _, looks: s.Value(mean=len(looks), n=1), 0, MADE),
    s.Cell("shared", _span("shared"), about="eigenvalues found in common"),
    s.Cell("solutions", _span("nullity"), about="dimensions of the null space"),
    s.Cell("rank", _span("rank"), about="of a random solution θ: how many directions the encoder keeps"),
    s.Cell("residual", _worst("residual"), about="largest |W θ A - θ B| / |θ| of a solution"),
    s.Cell("zero", _worst("zero"), about="largest singular value taken for 0, relative to the largest of all"),
    s.Cell("least", _least("least", "—"), about="smallest other singular value"),
    s.Cell("nearest", _least("nearest", "0.0e+00"), about="least distance of an eigenvalue of W from one of B A⁻¹"),
)


def _at(name: str, field: str, at: int, about: str = "", digits: int = 2) -> s.Cell:
    """Return the column of a field of `State`, at the first step, 0, or at the last, -1."""
    return s.Cell(name, lambda _, found: s.Value(mean=found[0]["course"][field][at], n=1), digits, about)


def _words(
    name: str, field: str, at: int, about: str = "", among: Sequence[str] = DESCENTS, form: str = ".1e"
) -> s.Cell:
    """Return the column of a field as words, of the rows that have it."""
    rows = [_short(row) for row in among]
    return s.Cell(name, lambda row, of: f"{of[0]['course'][field][at]:{form}}" if row in rows else "—", about=about)


DRIFT = "|change of WᵀW - θθᵀ| by the end, relative; 0 in the limit of small steps"
COURSES = (
    _at("steps", "step", -1, "of gradient descent on all pairs, in double precision", 0),
    _at("|θ| at first", "encoder", 0),
    _words("|θ| at last", "encoder", -1, "norm of the encoder; on the sphere its size is free", form=".2e"),
    _at("rank at first", "rank", 0, "effective rank of θ", 1),
    _at("rank at last", "rank", -1, digits=1),
    _words("residual at first", "residual", 0, "|W θ A - θ B| / |θ|", SQUARED),
    _words("residual at last", "residual", -1, among=SQUARED),
    _words("eigenvalues at first", "unmatched", 0, "mean distance of B A⁻¹'s eigenvalues from the nearest of W's"),
    _words("eigenvalues at last", "unmatched", -1),
    _words("balance", "balance", -1, DRIFT, TRAINED),
)


def tables(results: s.Results) -> Iterator[s.Table]:
    """Yield the table of the algebra, and that of the descents."""
    for found in s.firsts(results, [ALGEBRA]).values():
        yield s.make_table(
            "sylvester",
            "Solutions of W θ A = θ B",
            LOOKS,
            found["cases"],
            f"A and B from {found['pairs']} pairs of views, flattened and reduced to {len(found['eigenvalues'])} "
            "dimensions; Gaussian: predictors drawn as a training run draws its own.",
            found,
        )
    if seen := s.known(results, DESCENTS):
        rows = {_short(name): found for name, found in seen.items()}
        note = (
            "On the sphere: loss 2 - 2 cos instead of the appendix's |W θ x₁ - ξ x₂|², whose equation is not its own."
        )
        yield s.make_table("linear-model", "Linear BYOL from random starts", COURSES, rows, note)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(results: s.Results) -> Iterator[s.Figure]:
    """Yield the figure of the operator's smallest singular value, and that of the descents."""
    for found in s.firsts(results, [ALGEBRA]).values():
        yield _scan(found["scan"])
    if seen := s.firsts(results, DESCENTS):
        yield _courses(seen)


def _scan(scan: Mapping[str, Sequence[float]]) -> s.Figure:
    curve = s.Curve(name="smallest singular value", x=scan["w"], y=[max(FLOOR, v) for v in scan["least"]], colour=0)
    panel = s.Panel(
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
    return s.Figure(
        "sylvester-values", "A solution exists where an eigenvalue is shared", caption, s.Panels((panel,), 1)
    )


def _courses(seen: Mapping[str, Found]) -> s.Figure:
    def panel(title: str, y: str, field: str, names: Sequence[str], log: bool) -> s.Panel:
        curves = tuple(
            s.Curve(
                name=_short(name),
                x=seen[name]["course"]["step"],
                y=[max(FLOOR, v) if log else v for v in seen[name]["course"][field]],
                colour=DESCENTS.index(name),
                dash="solid" if name in (*TRAINED, UNIT) else "dashed",
            )
            for name in names
            if name in seen
        )
        return s.Panel(title=title, x="step", y=y, curves=curves, log=log)

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
    return s.Figure("linear-model-course", "Linear BYOL, step by step", caption, s.Panels(panels, across=2))


# --- claims -----------------------------------------------------------------------------------------------------------


def _algebra(results: s.Results) -> tuple[list[Look], list[Look], Mapping[str, Sequence[Look]]]:
    """Return the predictors that share an eigenvalue, those that share none, and all by case."""
    cases = s.firsts(results, [ALGEBRA]).get(ALGEBRA, {}).get("cases", {})
    shared = [look for name, looks in cases.items() if name not in NO_EIGENVALUE for look in looks]
    return shared, [look for name in NO_EIGENVALUE for look in cases.get(name, ())], cases


def _if_shared(results: s.Results) -> s.Judged:
    shared, _, _ = _algebra(results)
    missing = min((look["nullity"] - look["shared"] for look in shared), default=None)
    fewest = min((min(look["nullity"], look["shared"]) for look in shared), default=None)
    worst = max((look["residual"] for look in shared), default=None)
    outcomes = [s.is_above(fewest, 1.0), s.is_above(missing, 0.0), s.is_at_most(worst, 1e-10)]
    numbers = (
        f"{len(shared)} predictors that share 1 to {max(look['shared'] for look in shared)} eigenvalues: as many "
        f"dimensions of solutions as shared eigenvalues or more, residual at most {worst:.1e}; a random solution's "
        "rank is the number shared: one shared eigenvalue keeps one direction."
        if shared
        else "Not run."
    )
    return s.all_hold(outcomes), numbers


def _only_if_shared(results: s.Results) -> s.Judged:
    _, apart, cases = _algebra(results)
    if not apart:
        return "not decided", "Not run."
    found_anyway = max(max(look["nullity"], look["shared"]) for look in apart)
    least = min(look["least"] for look in apart)
    return s.holds_if(found_anyway == 0), (
        f"{len(apart)} predictors, {len(cases.get('Gaussian', ()))} of them Gaussian: no shared eigenvalue and no "
        f"solution but 0 in any; smallest singular value {least:.1e} of the largest."
    )


def _share(field: str) -> s.Measure:
    """Return the measure of a course's last value as a share of its first."""
    return s.Measure(field, lambda found: found["course"][field][-1] / found["course"][field][0])


NORM, REST, RANK = _share("encoder"), _share("residual"), s.Measure("rank", lambda found: found["course"]["rank"][-1])


def _told(*names: str) -> Callable[[s.Results], str]:
    def told(results: s.Results) -> str:
        seen, said = s.firsts(results, names), []
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


def _any_start(results: s.Results) -> str:
    kept = "WᵀW - θθᵀ stays as it starts, so a W that starts larger cannot come down to the eigenvalues of B A⁻¹."
    return f"{_told(*TRAINED)(results)} {kept}"


SYLVESTER = "RAFT, Appendix I"
CLAIMS = (
    s.Claim(
        "sylvester-if",
        "W θ A = θ B has a non-trivial solution if W and B A⁻¹ share an eigenvalue",
        s.Check(_if_shared),
        SYLVESTER,
        "For each of them the null space has at least as many dimensions as eigenvalues are shared, and its basis "
        "solves the equation within 1e-10.",
    ),
    s.Claim(
        "sylvester-only-if",
        "Only if they share one: else θ = 0 is the only solution, as it is for a predictor drawn at random",
        s.Check(_only_if_shared),
        SYLVESTER,
        "No singular value below 1e-10 of the largest.",
    ),
    s.Claim(
        "linear-reaches-solution",
        "Training from a random start leads to a non-trivial solution: eigenvalues of W come to those of B A⁻¹",
        s.all_of(s.at_least(NORM, (SMALL, EVEN), LEFT), s.at_most(REST, (SMALL, EVEN), RESIDUAL)).telling(
            _told(SMALL, EVEN)
        ),
        "RAFT, Appendix I, which asks it of the limit; that training gets there is ours to see",
        f"The encoder ends with at least {LEFT:.0%} of its first norm and at most {RESIDUAL:.0%} of its residual.",
    ),
    s.Claim(
        "linear-collapses-without",
        "Without predictor, or with a fixed one that shares no eigenvalue, the encoder goes to 0",
        s.at_most(NORM, (IDENTITY, APART), GONE).telling(_told(IDENTITY, APART)),
        "RAFT, Appendix I and Section 3",
        f"The encoder ends with at most {GONE:g} of its first norm.",
    ),
    s.Claim(
        "linear-any-start",
        "A randomly initialized linear predictor prevents collapse, of whatever size it starts",
        s.at_least(NORM, TRAINED, LEFT).telling(_any_start),
        "RAFT, Section 3 and Appendix I, which name no size",
        f"From each of three starts the encoder ends with at least {LEFT:.0%} of its first norm.",
    ),
    s.Claim(
        "linear-one-eigenvalue",
        "One shared eigenvalue, or pair, keeps the encoder from 0, but with one direction, or two: non-trivial is less "
        "than not collapsed",
        s.all_of(
            s.at_least(NORM, SHARING, GONE), s.at_most(REST, SHARING, RESIDUAL), s.at_most(RANK, SHARING, 2.1)
        ).telling(_told(SHARING)),
        "Beyond RAFT, Appendix I, which calls it exactly the prevention for collapse",
        f"Residual at most {RESIDUAL:.0%} of the first, norm above {GONE:g} of it, effective rank at most 2.1.",
    ),
    s.Claim(
        "linear-sphere",
        "On the sphere, too, a trained predictor keeps the encoder's rank, and none lets it go to a few directions",
        s.above(RANK, UNIT, UNIT_IDENTITY, by=3).telling(_told(UNIT, UNIT_IDENTITY)),
        "Beyond RAFT, Appendix I, whose loss is not normalized",
        "The effective rank at the end is larger with predictor by at least 3 of 16.",
    ),
)
