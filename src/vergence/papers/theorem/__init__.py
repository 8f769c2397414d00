"""Is BYOL another way to run away from its teacher? RAFT's theorems, run: 4.1, 5.1 and Appendix I on real pictures."""

from collections.abc import Mapping

from vergence import config as c
from vergence import study as s
from vergence.papers.theorem import bound, linear_model, linear_page, lockstep, lockstep_page, tangent

LEAD = (
    "BYOL trains a network to predict what its teacher, a moving average of itself, makes of another view of the same "
    "picture. RAFT looks like its opposite: it brings the two views together and runs away from the teacher. The paper "
    "(Run Away From your Teacher, arXiv 2011.10944) claims that they are one method. Its argument has two steps, and "
    "both can be watched while networks train.",
    "First, BYOL' replaces BYOL's loss by an upper bound of two terms: the distance d² between the predictions of the "
    "two views (alignment), and the one between prediction and teacher on the same view (cross-model). It is the "
    "triangle inequality, squared: BYOL's distance is at most (1/alpha + 1/beta)(alpha alignment + beta cross-model), "
    "for any weights, on any batch (Theorem 4.1).",
    "Second, RAFT is BYOL' with a minus before the cross-model term. Predictions p and the teacher's projections z' "
    "are unit vectors, and for those d²(-p, z') = 4 - d²(p, z'): near to p is far from -p. Alignment does not see a "
    "sign that both predictions have. So a network that predicts -p where another predicts p has RAFT's loss where the "
    "other has that of BYOL', less 4 beta, a constant, which has no gradient. To predict -p it takes one change: the "
    "sign of the predictor's last layer. BYOL' from (θ, W) and RAFT from (θ, -W) then give the encoder the same "
    "gradient, and W opposite ones, at this step and so at all that follow (Theorem 5.1).",
    "It follows that the predictor need not be linear, as the paper asks: any will do whose last layer can be negated. "
    "Without a predictor there is nothing to negate but the network itself, whose teacher would turn with it, and the "
    "two methods part. It is exact in floating point, too: changing a sign rounds nothing, as long as d² is computed "
    "as 2 - 2 cos. Computed as |p - z'|², the two networks would add where the other subtracts, and round apart.",
    "What it does not say: why either method keeps its pictures apart. The theorem moves the question from one loss to "
    "the other, with the same encoder on both sides; where one collapses, so does the other. Appendix I says a little "
    "of why, for matrices: with a predictor there can be resting points other than 0. Below it is solved, and training "
    "is followed to such points, and from a start where it collapses none the less.",
)
SCALES = {
    "smoke": s.Scale(
        about="two to three minutes on 2 CPU cores: digits at 32 px and a small encoder, 20 steps of each pair",
        data=c.Digits(size=32),
        encoder=c.Encoder(name="test_resnet"),
        subset=1280,
        batch_size=64,
        epochs=1,
        long=4,
        seeds=1,
    ),
    "short": s.Scale(
        about="half an hour on one GPU: the paper's networks and pictures, an epoch of each pair",
        epochs=1,
        long=12,
        seeds=1,
    ),
    "full": s.Scale(
        about="some hours on one GPU: the paper's networks and pictures, ten epochs of each pair",
        epochs=10,
        long=100,
        seeds=3,
    ),
}


def jobs(scale: s.Scale, place: s.Place) -> s.Plan:
    """Return one batch for the Tan- loss, matrices for Appendix I, on the CPU, and pairs for Theorem 5.1, as jobs."""

    def works(tasks: Mapping[str, s.Task], device: str, work: float) -> s.Plan:
        return {
            name: [s.Work(name=name, task=task, data_dir=place.data_dir, device=device, work=work)]
            for name, task in tasks.items()
        }

    return {
        **works(tangent.tasks(scale), place.device, 1.0),
        **works(linear_model.tasks(scale), "cpu", 0.5),
        **works(lockstep.tasks(scale), place.device, 2.0 * (scale.epochs or 1)),
    }


def deviations(scale: s.Scale) -> list[str]:
    """Return how the runs for Theorem 4.1 differ from the paper's, and what of the rest the paper does not say."""
    pairs = linear_model.pairs(scale)
    return [
        *s.differing(bound.document(), study.runs(scale)),
        f"Theorem 5.1: the paper proves it and trains neither side by side; ours: the same setup for {scale.epochs} "
        f"epoch{'' if scale.epochs == 1 else 's'} with three optimizers, each with weight decay, and four predictors",
        f"Appendix I: the paper has no run of it; ours: views of {pairs.views.size} px in {pairs.n} dimensions, at "
        f"most {linear_model.PAIRS} pairs, exact gradients in double precision",
    ]


def _condition(results: s.Results) -> s.Judged:
    names = [f"linear, {optimizer}" for optimizer in lockstep.OPTIMIZERS]
    seen, same = s.firsts(results, names), tangent.equal(results)
    exact = [lockstep_page.exactly(seen.get(name)) for name in names]
    return s.all_hold([*exact, same]), (
        f"Pairs with the ordinary distance and a linear predictor that stayed equal bit for bit: "
        f"{sum(outcome == 'holds' for outcome in exact)} of {len(names)}; Tan- gradient equal to the ordinary one: "
        f"{same}."
    )


CONDITION = s.Claim(
    "condition-iii",
    "Condition (iii), that only the tangential part of the gradient is kept, need not be asked for where predictions "
    "are normalized inside the graph: it is met by itself",
    s.Check(_condition),
    "RAFT, Theorem 5.1 (iii) and Remark: 'easy to achieve'",
    "The ordinary distance gives equal encoders with each optimizer, and the Tan- gradient is the ordinary one.",
)

study = s.Study(
    title="RAFT's theorems, step by step",
    lead=LEAD,
    scales=SCALES,
    rows=bound.document(),
    base="linear, SGD",
    long=bound.ROWS,
    watch=lambda row, run, scale: {"log_every": 1},
    jobs=jobs,
    deviations=deviations,
)
study.add(tables=bound.tables, figures=bound.figures, claims=bound.CLAIMS)
study.add(tables=lockstep_page.tables, figures=lockstep_page.figures, claims=lockstep_page.CLAIMS)
study.add(tables=tangent.tables, claims=[*tangent.CLAIMS, CONDITION])
study.add(tables=linear_page.tables, figures=linear_page.figures, claims=linear_page.CLAIMS)
