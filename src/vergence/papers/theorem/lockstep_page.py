"""The page of Theorem 5.1: the table of walks, a figure, and its claims."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vergence import study as s
from vergence.papers.theorem.lockstep import LOSS_ROUNDING, MATRIX, MIRRORED, NONE, OPTIMIZERS, PREDICTORS, TAN, WRONG

Found = Mapping[str, Any]
"""The result of `lockstep.summarize`."""

FLOOR = 1e-10
"""The place of a difference of exactly 0 on a logarithmic axis."""

MOVED = 1e-6
"""Less than this, of a parameter or relative, is no movement."""

WITHOUT_SIGN = tuple(f"{predictor}, nothing negated, SGD" for predictor in PREDICTORS)
PARTING = (*(f"{NONE}, {optimizer}" for optimizer in OPTIMIZERS), *WITHOUT_SIGN, f"{WRONG}, Adam")
TANGENTIAL = tuple(f"{TAN}, {optimizer}" for optimizer in OPTIMIZERS)
EVERY = (*MIRRORED, f"{MATRIX}, Adam", *TANGENTIAL, *PARTING)


def _scientific(value: float | None) -> str:
    return "—" if value is None else "0" if value == 0 else f"{value:.1e}"


def _of(name: str, key: str, about: str, say: Callable[[Any], s.Value | str] = _scientific, digits: int = 0) -> s.Cell:
    """Return the column of a number that `lockstep.summarize` returns."""
    return s.Cell(name, lambda _, walks: say(walks[0].get(key)), digits, about)


def _value(value: float) -> s.Value:
    return s.Value(mean=value, n=1)


COLUMNS = (
    _of("steps", "steps", "of both networks, on the same views", _value),
    _of("encoder", "online", "largest difference of a parameter of encoder and projector, over all steps"),
    _of("predictor", "predictor", "the same of the predictor, |W + W'| where a sign was changed"),
    _of("target", "target", "the same of the target network"),
    _of("values that differ", "differing", "most after any step, of all weights and statistics", _value),
    _of("first at step", "first", "the first step after which one differs", lambda n: "—" if n is None else str(n)),
    _of("loss", "loss_gap", "largest |L_RAFT - L_BYOL' + 4 beta|; for Tan, whose loss is odd, |L_RAFT - L_BYOL'|"),
    _of(
        "encoder moved",
        "moved",
        "distance from its start at the end, percent of its norm",
        lambda x: _value(100 * x),
        1,
    ),
    _of("bit for bit", "bit_for_bit", "no value differed after any step", lambda same: "yes" if same else "no"),
)


def tables(results: s.Results) -> Iterator[s.Table]:
    """Yield the table of the walks that were made."""
    note = (
        "BYOL' from (θ, W) beside RAFT from θ and W with the sign of the predictor's last layer changed, alpha = beta "
        "= 1. The rows that are to part are controls. Equal means equal as numbers: 0 and -0 are."
    )
    if rows := s.known(results, EVERY):
        yield s.make_table("lockstep", "Theorem 5.1, step by step", COLUMNS, rows, note)


def figures(results: s.Results) -> Iterator[s.Figure]:
    """Yield the figure of the differences and of both losses over the steps."""
    shown = {
        "linear": "linear, Adam",
        "MLP + batch norm": "MLP + batch norm, Adam",
        "no predictor": f"{NONE}, Adam",
        "linear, nothing negated": WITHOUT_SIGN[0],
        "first layer negated": f"{WRONG}, Adam",
    }
    made = s.firsts(results, shown.values())
    seen = {name: made[row] for name, row in shown.items() if row in made}
    if not seen:
        return
    gaps = tuple(
        s.Curve(
            name=name,
            x=found["course"]["step"],
            y=[max(FLOOR, gap) for gap in found["course"]["online"]],
            colour=list(shown).index(name),
        )
        for name, found in seen.items()
    )
    panels = [s.Panel(title="encoders, how far apart", x="step", y="largest difference", curves=gaps, log=True)]
    for row, title in (("linear, Adam", "linear predictor"), (f"{NONE}, Adam", "no predictor")):
        if found := s.firsts(results, [row]).get(row):
            course = found["course"]
            losses = {"L of BYOL'": course["prime"], "L of RAFT + 4": [v + 4 for v in course["raft"]]}
            curves = tuple(
                s.Curve(name=name, x=course["step"], y=y, colour=5 + number, dash="dashed" if number else "solid")
                for number, (name, y) in enumerate(losses.items())
            )
            panels.append(s.Panel(title=f"both losses, {title}", x="step", y="loss", curves=curves))
    caption = (
        f"Left: the largest difference between a parameter of one encoder and the other's, after each step; exactly 0 "
        f"is drawn at {FLOOR:g}. Middle: with a linear predictor of opposite sign the two losses differ by 4 alone. "
        "Right: without a predictor there is no sign to change, and they part."
    )
    yield s.Figure("lockstep-course", "BYOL' and RAFT, side by side", caption, s.Panels(tuple(panels), across=3))


# --- claims -----------------------------------------------------------------------------------------------------------


def exactly(found: Found | None) -> s.Outcome:
    """Judge whether a walk was bit for bit, though the encoder moved."""
    if found is None:
        return "not decided"
    return s.holds_if(found["differing"] == 0) if found["moved"] >= MOVED else "not decided"


def parts(found: Found | None) -> s.Outcome:
    """Judge whether the encoders of a walk came apart."""
    return "not decided" if found is None else s.holds_if(found["online"] >= MOVED)


def _told(results: s.Results, names: Iterable[str]) -> str:
    seen, said = s.firsts(results, names), []
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


def each(judge: Callable[[Found | None], s.Outcome], names: Sequence[str]) -> s.Check:
    """Return the check that `judge` says "holds" of each of these walks."""

    def judged(results: s.Results) -> s.Judged:
        seen = s.firsts(results, names)
        return s.all_hold(judge(seen.get(name)) for name in names), _told(results, names)

    return s.Check(judged, PARTS if judge is parts else RULE, tuple(names))


def _constant(results: s.Results) -> s.Judged:
    seen, tan = s.firsts(results, MIRRORED), s.firsts(results, TANGENTIAL)
    worst, of_tan = (max((found["loss_gap"] for found in of.values()), default=None) for of in (seen, tan))
    bits, steps = (sum(found[name] for found in seen.values()) for name in ("loss_bits", "steps"))
    return (
        s.is_at_most(worst if len(seen) == len(MIRRORED) else None, LOSS_ROUNDING),
        f"Largest |L_RAFT - L_BYOL' + 4 beta| {_scientific(worst)} over {steps} steps of {len(seen)} walks; not "
        f"exactly 0 at {bits} of them, for 2 - m and 2 + m round apart. For Tan, whose loss is odd in p, the two "
        f"losses are equal: {_scientific(of_tan)} over {len(tan)} walks.",
    )


PAPER, BEYOND = "RAFT, Theorem 5.1 and Appendix H", "Beyond RAFT's Theorem 5.1, which names linear predictors"
CLAIMS = (
    *(
        s.Claim(
            f"lockstep-{predictor.replace(' + ', '-').replace(' ', '-').lower()}",
            "BYOL' from (θ, W) and RAFT from (θ, -W) have one encoder at each step, bit for bit; predictor: "
            f"{predictor}",
            each(exactly, [f"{predictor}, {optimizer}" for optimizer in OPTIMIZERS]),
            PAPER if predictor == "linear" else BEYOND,
        )
        for predictor in PREDICTORS
    ),
    s.Claim(
        "lockstep-matrix",
        "Before a batch norm whose shift starts at 0, that of the matrix W may be changed instead of the norm's",
        each(exactly, [f"{MATRIX}, Adam"]),
        BEYOND,
    ),
    s.Claim(
        "lockstep-tan",
        "The same holds bit for bit for the Tan- variants, the only ones that the paper's proof is about",
        each(exactly, TANGENTIAL),
        PAPER,
    ),
    s.Claim(
        "parts-without-predictor",
        "Without a predictor there is no W to negate, and BYOL' and RAFT part",
        each(parts, PARTING[: len(OPTIMIZERS)]),
        "RAFT, Section 5, Remark: removing the predictor means fixing W = I",
    ),
    s.Claim(
        "parts-without-sign",
        "The sign is needed: from one and the same (θ, W) the two part, and so they do if a layer before a ReLU is "
        "negated",
        each(parts, PARTING[len(OPTIMIZERS) :]),
        "Control of the theorem's construction",
    ),
    s.Claim(
        "loss-constant",
        "L_RAFT(θ, -W) = L_BYOL'(θ, W) - 4 beta at every step",
        s.Check(_constant),
        "RAFT, Definitions 4.2 and 4.3, with d²(-p, z') = 4 - d²(p, z')",
        f"At most {LOSS_ROUNDING:.2g}, what the roundings of float32 can add up to, in all {len(MIRRORED)} walks.",
    ),
)
