"""The RAFT paper's Figures 2 to 5 from our runs, and looks inside gradient and predictor that it does not have."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vergence import study as s
from vergence.papers.raft.rows import BETAS, SUPERVISED, swept

FIGURE_3 = (SUPERVISED, "BYOL-MLPP", "BYOL-NP", "BYOL'-MLPP", "RAFT-MLPP")
FIGURE_4 = ("BYOL-MLPP", "BYOL-LP", "BYOL-LPI", "BYOL-NP")
FIGURE_5 = ("BYOL'-NP", "RAFT-NP", "RAFT-LP")
INSIDE = ("BYOL-MLPP", "BYOL-LP", "BYOL-LPI", "RAFT-LP")
"""Rows whose gradient and predictor are looked into."""

COLUMNS = 5
"""Moments of training shown side by side."""


# --- Figure 2a: two samples on a circle -------------------------------------------------------------------------------

DECAY = 0.996
"""Decay of the teacher, as in the runs."""

RATE = 0.01
"""Rate of gradient descent on a sample's angle."""

START, KICK = math.radians(2), math.radians(1)
"""Angle between the two samples at first, and how far each one's first update moves it."""

STEPS = 280
"""Until running away has brought two samples to opposite ends."""

Path = list[tuple[float, float]]


def walk(angle: float, kick: float, sign: int) -> tuple[list[float], Path]:
    """Move a unit vector on the circle, with its teacher, the moving average of where it was.

    It starts on its teacher, is moved once by `kick`, and then descends sign d²(p, teacher), with d² of unit vectors.

    Args:
        angle: where it starts, in radians.
        kick: its first update, in radians.
        sign: 1 runs towards the teacher, as BYOL', -1 away from it, as RAFT.

    Returns:
        The angle before and after each update, and the teacher's points; `STEPS + 1` of each.
    """
    x, y = math.cos(angle), math.sin(angle)
    angles, teacher = [angle], [(x, y)]
    for step in range(STEPS):
        gradient = 2 * sign * math.sin(angle - math.atan2(y, x))  # of sign (2 - 2 cos) to the angle
        angle += kick if step == 0 else -RATE * gradient
        x, y = DECAY * x + (1 - DECAY) * math.cos(angle), DECAY * y + (1 - DECAY) * math.sin(angle)
        angles.append(angle)
        teacher.append((x, y))
    return angles, teacher


def between(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return the angle between two walks at each step, in degrees, 0 to 180."""
    return [math.degrees(math.acos(max(-1, min(1, math.cos(a - b))))) for a, b in zip(first, second, strict=True)]


WALKS = {
    "away from the teacher, updates opposite at first": (-1, -1),
    "away from the teacher, updates alike at first": (-1, 1),
    "towards the teacher, updates opposite at first": (1, -1),
}
"""Sign of the objective, and of the second sample's first update."""


def figure_2a() -> s.Figure:
    """Draw why running away separates two samples, computed in the plane of two of them."""
    walks = {
        name: (walk(START / 2, KICK, sign), walk(-START / 2, other * KICK, sign))
        for name, (sign, other) in WALKS.items()
    }
    angles = {name: between(first[0], second[0]) for name, (first, second) in walks.items()}
    away, alike, towards = angles.values()
    panels = [
        s.Panel(
            title="angle between the two samples",
            x="step",
            y="degrees",
            curves=tuple(
                s.Curve(name=name, x=range(STEPS + 1), y=degrees, colour=i, dash=("solid", "dashed", "dotted")[i])
                for i, (name, degrees) in enumerate(angles.items())
            ),
            y_range=(0, None),
        )
    ]
    for title, name in (("running away", next(iter(WALKS))), ("running towards", list(WALKS)[-1])):
        whole = _on_circle([math.tau * i / 120 for i in range(121)])
        curves = [s.Curve.through("the circle", whole, 5, "dotted")]
        for i, (path, teacher) in enumerate(walks[name], start=3):
            mark = "first" if i == 3 else "second"
            curves.append(s.Curve.through(f"{mark} sample", _on_circle(path), i))
            curves.append(s.Curve.through(f"{mark}'s teacher", teacher, i, "dashed"))
        panels.append(s.Panel(title=f"{title}: paths on the circle", x="", y="", curves=tuple(curves), equal=True))
    caption = (
        f"Not a training run: two unit vectors on a circle, {away[0]:.0f}° apart, each with a teacher that is the "
        f"moving average (decay {DECAY:g}) of where it was. The first update, whatever its cause, moves each by "
        f"{math.degrees(KICK):g}°; after it each descends only its distance to its own teacher, with rate {RATE:g}. "
        f"Where the first updates were opposite, running away carries both on the way they began: {away[1]:.0f}° after "
        f"that update, {away[-1]:.0f}° after {STEPS} steps, as far as a circle goes. Running towards the teacher "
        f"takes the update back: {towards[-1]:.1f}°. Neither pushes the two apart: where their first updates were "
        f"alike, they run away side by side and end {alike[-1]:.1f}° apart. Running away amplifies a difference of "
        "direction and makes none."
    )
    return s.Figure(
        "figure-2a", "Figure 2a: running away separates two samples", caption, s.Panels(tuple(panels), across=3)
    )


def _on_circle(angles: Sequence[float]) -> Path:
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


# --- Figures 3 to 5 ---------------------------------------------------------------------------------------------------


def _figure_3(results: s.Results, what: str, slug: str, said: str) -> Iterator[s.Figure]:
    known = {name: _looks(result, what) for name, result in s.firsts(results, FIGURE_3).items()}
    known = {name: looks for name, looks in known.items() if looks}
    epochs = _spread_out(sorted({epoch for looks in known.values() for epoch in looks}))
    if not epochs:
        return
    circles = {
        (name, f"epoch {epoch:g}"): looks[epoch] for name, looks in known.items() for epoch in epochs if epoch in looks
    }
    caption = (
        f"Directions of the {said}, of up to 1,024 training pictures, in the plane of their two main components. The "
        "width of the ring is the share of pictures in each of 72 arcs; a line joins two views of one picture. First "
        "seed. "
    )
    caption += (
        "As the paper: centred, so that a collapsed network shows its residue on a full ring."
        if what == "y"
        else "Not centred: pictures that have collapsed to one point are one spike."
    )
    columns = tuple(f"epoch {epoch:g}" for epoch in epochs)
    yield s.Figure(slug, f"Figure 3: {said}", caption, s.Circles(tuple(known), columns, circles))


def _looks(result: s.Result, what: str) -> dict[float, s.Circle]:
    epochs: list[float]
    looks: list[Any]
    epochs, looks = result.course(f"circle.{what}")
    return {
        epoch: s.Circle(look["density"], [(first, second) for first, second in look["pairs"]])
        for epoch, look in zip(epochs, looks, strict=True)
    }


def _spread_out(some: Sequence[float], count: int = COLUMNS) -> list[float]:
    """Return at most `count` of them, evenly, the first and the last among them."""
    if len(some) <= count:
        return list(some)
    return [some[round(i * (len(some) - 1) / (count - 1))] for i in range(count)]


def _spectrum(results: s.Results) -> Iterator[s.Figure]:
    panels = []
    for name, result in s.firsts(results, INSIDE).items():
        epochs, spectra = result.course("predictor.singular")
        shown = _spread_out(epochs, 4)
        curves = tuple(
            s.Curve(name=f"epoch {epoch:g}", x=range(1, 1 + len(values)), y=values, colour=shown.index(epoch))
            for epoch, values in zip(epochs, spectra, strict=True)
            if epoch in shown
        )
        if curves:
            panels.append(s.Panel(title=name, x="index", y="singular value", curves=curves))
    caption = (
        "Singular values of the predictor, largest first, at several epochs; of a perceptron's mean Jacobian over a "
        "batch of projections. The identity would be a level line at 1. First seed."
    )
    if panels:
        title = "The predictor's singular values"
        yield s.Figure("figure-predictor-spectrum", title, caption, s.Panels(tuple(panels), 2))


GRADIENTS = {
    "loss": ("norm: the loss", "norm"),
    "alignment": ("norm: alignment", "norm"),
    "cross_model": ("norm: cross-model", "norm"),
    "loss_with_alignment": ("loss and alignment", "cosine"),
    "loss_with_cross_model": ("loss and cross-model", "cosine"),
    "alignment_with_cross_model": ("alignment and cross-model", "cosine"),
    "explained": ("explained by the two", "share of squared norm"),
}
PREDICTOR = {
    "from_identity": ("distance to the identity", "|J - I| / √d"),
    "eigen_alignment": ("eigenvectors it keeps", "mean |cos(J u, u)|"),
    "commutator": ("commutator", "|J F - F J| / (|J F| + |F J|)"),
}


def add_figures(study: s.Study) -> None:
    """Show those figures that there are runs for; Figure 2a needs none."""

    def over_training(slug: str, title: str, panels: Sequence[s.Lines], caption: str) -> None:
        study.curves(slug, title, *panels, caption=caption, across=3, only_known=True)

    study.add(figures=lambda _: [figure_2a()])
    study.add(figures=lambda results: _figure_3(results, "y", "figure-3", "representations, about their mean"))
    origin = ("z about the origin", "figure-3-origin", "projections, about the origin")
    study.add(figures=lambda results: _figure_3(results, *origin))
    over_training(
        "figure-4",
        "Figure 4: BYOL over training, by predictor",
        [
            s.Lines("loss", FIGURE_4, "(a) loss", "loss"),
            s.Lines("uniformity", FIGURE_4, "(b) uniformity", "uniformity"),
            s.Lines("online.linear-raft.accuracy", FIGURE_4, "(c) linear evaluation", "percent"),
        ],
        "BYOL by predictor. The loss is the sum over both directions, 0 to 8. Lower uniformity is more uniform, 0 is "
        "one point. (c) is the table's protocol each time: a linear layer fitted anew on the frozen encoder of that "
        "epoch, 100 epochs. Bands are a standard deviation over seeds, where there are several.",
    )
    over_training(
        "figure-5",
        "Figure 5: alignment and uniformity by beta",
        [
            s.Lines(
                metric,
                {swept(name, (1, beta)): f"beta = {beta:g}" for beta in BETAS},
                f"({'abc'[i]}) {name}: {metric}",
                metric,
            )
            for metric in ("alignment", "uniformity")
            for i, name in enumerate(FIGURE_5)
        ],
        "Alignment of predictions above, uniformity of projections below, for several weights of the cross-model "
        "distance with alpha = 1; 0 is one point in both. Table 3 has their ends.",
    )
    over_training(
        "figure-gradients",
        "BYOL's gradient in the paper's two terms",
        [s.Lines(f"split.{name}", INSIDE, *axes, log="norm" in axes) for name, axes in GRADIENTS.items()],
        "The gradient to encoder and projector on one training batch, beside those of the two terms that the paper "
        "bounds BYOL's loss by. Above, their lengths; then the cosines between them; last, the share of the whole "
        "gradient's squared length that the best combination of the two reaches: 1 for RAFT, which is such a "
        "combination, and for BYOL what the bound keeps of its direction.",
    )
    study.add(figures=_spectrum)
    over_training(
        "figure-predictor",
        "The predictor and the correlation of projections",
        [s.Lines(f"predictor.{name}", INSIDE, *axes) for name, axes in PREDICTOR.items()],
        "The predictor's matrix J beside F, the correlation matrix of the projections z. Left: its distance to the "
        "identity, the apparent collapse of Section 3. Middle: how far it keeps the direction of F's eigenvectors u, "
        "weighted by their eigenvalues. Right: 0 where J and F have the same eigenspaces, the alignment that Tian et "
        "al. (arXiv 2102.06810, Theorem 3) predict.",
    )
