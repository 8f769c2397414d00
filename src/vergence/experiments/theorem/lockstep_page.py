"""What is shown of Theorem 5.1: the table of walks, two figures, and each claim judged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vergence.experiments.judging import all_of, holds_if, is_at_most
from vergence.experiments.theorem.lockstep import (
    LOSS_ROUNDING,
    MATRIX,
    MIRRORED,
    NONE,
    OPTIMIZERS,
    PREDICTORS,
    TAN,
    WRONG,
)
from vergence.report.content import Column, Curve, Figure, Finding, Outcome, Panel, Panels, Row, Table, Value

Found = Mapping[str, Any]
"""What `lockstep.summarize` returns."""

FLOOR = 1e-10
"""Where a difference of exactly 0 is drawn on a logarithmic axis."""

MOVED = 1e-6
"""Less than this, of a parameter or relative, is no movement."""

WITHOUT_SIGN = tuple(f"{predictor}, nothing negated, SGD" for predictor in PREDICTORS)
PARTING = (*(f"{NONE}, {optimizer}" for optimizer in OPTIMIZERS), *WITHOUT_SIGN, f"{WRONG}, Adam")
TANGENTIAL = tuple(f"{TAN}, {optimizer}" for optimizer in OPTIMIZERS)
EVERY = (*MIRRORED, f"{MATRIX}, Adam", *TANGENTIAL, *PARTING)


def known(results: Mapping[str, Sequence[Any]], names: Iterable[str] = EVERY) -> dict[str, Found]:
    """The walks that were made, by row."""
    return {name: results[name][0] for name in names if results.get(name)}


def _scientific(value: float | None) -> str:
    return "—" if value is None else "0" if value == 0 else f"{value:.1e}"


def tables(results: Mapping[str, Sequence[Any]]) -> list[Table]:
    rows = tuple(
        Row(
            name,
            {
                "steps": Value(mean=found["steps"], n=1),
                "encoder": _scientific(found["online"]),
                "predictor": _scientific(found.get("predictor")),
                "target": _scientific(found["target"]),
                "values that differ": Value(mean=found["differing"], n=1),
                "first at step": "—" if found["first"] is None else str(found["first"]),
                "loss": _scientific(found["loss_gap"]),
                "encoder moved": Value(mean=100 * found["moved"], n=1),
                "bit for bit": "yes" if found["bit_for_bit"] else "no",
            },
            (found["key"],) if "key" in found else (),
        )
        for name, found in known(results).items()
    )
    columns = (
        Column("steps", 0, "of both networks, on the same views"),
        Column("encoder", about="largest difference of a parameter of encoder and projector, over all steps"),
        Column("predictor", about="the same of the predictor, |W + W'| where a sign was changed"),
        Column("target", about="the same of the target network"),
        Column("values that differ", 0, "most after any step, of all weights and statistics"),
        Column("first at step", about="the first step after which one differs"),
        Column("loss", about="largest |L_RAFT - L_BYOL' + 4 beta|; for Tan, whose loss is odd, |L_RAFT - L_BYOL'|"),
        Column("encoder moved", 1, "distance from its start at the end, percent of its norm"),
        Column("bit for bit", about="no value differed after any step"),
    )
    note = (
        "BYOL' from (θ, W) beside RAFT from θ and W with the sign of the predictor's last layer changed, alpha = beta "
        "= 1. The rows that are to part are controls. Equal means equal as numbers: 0 and -0 are."
    )
    return [Table("lockstep", "Theorem 5.1, step by step", columns, rows, note)] if rows else []


def figures(results: Mapping[str, Sequence[Any]]) -> list[Figure]:
    shown = {
        "linear": "linear, Adam",
        "MLP + batch norm": "MLP + batch norm, Adam",
        "no predictor": f"{NONE}, Adam",
        "linear, nothing negated": WITHOUT_SIGN[0],
        "first layer negated": f"{WRONG}, Adam",
    }
    seen = {name: found for name, row in shown.items() if (found := known(results, [row]).get(row))}
    if not seen:
        return []
    gaps = tuple(
        Curve(
            name=name,
            x=found["course"]["step"],
            y=[max(FLOOR, gap) for gap in found["course"]["online"]],
            colour=list(shown).index(name),
        )
        for name, found in seen.items()
    )
    panels = [Panel(title="encoders, how far apart", x="step", y="largest difference", curves=gaps, log=True)]
    for row, title in (("linear, Adam", "linear predictor"), (f"{NONE}, Adam", "no predictor")):
        if found := known(results, [row]).get(row):
            course = found["course"]
            losses = {"L of BYOL'": course["prime"], "L of RAFT + 4": [v + 4 for v in course["raft"]]}
            curves = tuple(
                Curve(name=name, x=course["step"], y=y, colour=5 + number, dash="dashed" if number else "solid")
                for number, (name, y) in enumerate(losses.items())
            )
            panels.append(Panel(title=f"both losses, {title}", x="step", y="loss", curves=curves))
    caption = (
        f"Left: the largest difference between a parameter of one encoder and the other's, after each step; exactly 0 "
        f"is drawn at {FLOOR:g}. Middle: with a linear predictor of opposite sign the two losses differ by 4 alone. "
        "Right: without a predictor there is no sign to change, and they part."
    )
    return [Figure("lockstep-course", "BYOL' and RAFT, side by side", caption, Panels(tuple(panels), across=3))]


# --- findings ---------------------------------------------------------------------------------------------------------


def exactly(found: Found | None) -> Outcome:
    """Whether a walk was bit for bit, though the encoder moved."""
    if found is None:
        return "not decided"
    return holds_if(found["differing"] == 0) if found["moved"] >= MOVED else "not decided"


def parts(found: Found | None) -> Outcome:
    """Whether the encoders of a walk came apart."""
    return "not decided" if found is None else holds_if(found["online"] >= MOVED)


def _told(results: Mapping[str, Sequence[Any]], names: Iterable[str]) -> str:
    seen, said = known(results, names), []
    for name in names:
        if found := seen.get(name):
            apart = f"{found['differing']} values differ, at most by {_scientific(found['online'])} in the encoder"
            said.append(f"{name}: {apart} ({found['steps']} steps)")
        else:
            said.append(f"{name}: not run")
    return "; ".join(said) + "."


RULE = (
    f"After no step any weight, target or statistic differs, while the encoder moves by {MOVED:g} of its norm or more."
)
PARTS = f"A parameter of the two encoders differs by at least {MOVED:g} after some step."


def findings(results: Mapping[str, Sequence[Any]]) -> list[Finding]:
    def judged(slug: str, claim: str, source: str, names: Sequence[str], *, parting: bool = False) -> Finding:
        seen = known(results, names)
        outcomes: list[Outcome] = [(parts if parting else exactly)(seen.get(name)) for name in names]
        return Finding(slug, claim, source, all_of(*outcomes), _told(results, names), PARTS if parting else RULE)

    paper, beyond = "RAFT, Theorem 5.1 and Appendix H", "Beyond RAFT's Theorem 5.1, which names linear predictors"
    found = [
        judged(
            f"lockstep-{predictor.replace(' + ', '-').replace(' ', '-').lower()}",
            "BYOL' from (θ, W) and RAFT from (θ, -W) have one encoder at each step, bit for bit; predictor: "
            f"{predictor}",
            paper if predictor == "linear" else beyond,
            [f"{predictor}, {optimizer}" for optimizer in OPTIMIZERS],
        )
        for predictor in PREDICTORS
    ]
    return [
        *found,
        judged(
            "lockstep-matrix",
            "Before a batch norm whose shift starts at 0, that of the matrix W may be changed instead of the norm's",
            beyond,
            [f"{MATRIX}, Adam"],
        ),
        judged(
            "lockstep-tan",
            "The same holds bit for bit for the Tan- variants, the only ones that the paper's proof is about",
            paper,
            TANGENTIAL,
        ),
        judged(
            "parts-without-predictor",
            "Without a predictor there is no W to negate, and BYOL' and RAFT part",
            "RAFT, Section 5, Remark: removing the predictor means fixing W = I",
            PARTING[: len(OPTIMIZERS)],
            parting=True,
        ),
        judged(
            "parts-without-sign",
            "The sign is needed: from one and the same (θ, W) the two part, and so they do if a layer before a ReLU is "
            "negated",
            "Control of the theorem's construction",
            PARTING[len(OPTIMIZERS) :],
            parting=True,
        ),
        _constant(results),
    ]


def _constant(results: Mapping[str, Sequence[Any]]) -> Finding:
    seen, tan = known(results, MIRRORED), known(results, TANGENTIAL)
    worst, of_tan = (max((found["loss_gap"] for found in of.values()), default=None) for of in (seen, tan))
    bits, steps = (sum(found[name] for found in seen.values()) for name in ("loss_bits", "steps"))
    return Finding(
        "loss-constant",
        "L_RAFT(θ, -W) = L_BYOL'(θ, W) - 4 beta at every step",
        "RAFT, Definitions 4.2 and 4.3, with d²(-p, z') = 4 - d²(p, z')",
        is_at_most(Value(mean=worst if len(seen) == len(MIRRORED) else None), Value(mean=0.0), plus=LOSS_ROUNDING),
        f"Largest |L_RAFT - L_BYOL' + 4 beta| {_scientific(worst)} over {steps} steps of {len(seen)} walks; not "
        f"exactly 0 at {bits} of them, for 2 - m and 2 + m round apart. For Tan, whose loss is odd in p, the two "
        f"losses are equal: {_scientific(of_tan)} over {len(tan)} walks.",
        f"At most {LOSS_ROUNDING:.2g}, what the roundings of float32 can add up to, in all {len(MIRRORED)} walks.",
    )
