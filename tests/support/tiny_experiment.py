"""Does a norm in the heads matter to ten steps? A study of a few seconds, with all that a real one has."""

from dataclasses import replace

from small_runs import run_of, small
from vergence import config as c
from vergence.study import Scale, Study, above, accuracy, logged

NORMS: dict[str, c.Norm] = {"batch": "batch", "none": "none"}
RUNS = {
    name: run_of(small(c.BYOL(projector=c.Projector(norm=norm), predictor=c.MLPPredictor(norm=norm))), subset=None)
    for name, norm in NORMS.items()
}
cosine = logged("neg_cos", "cosine", digits=4)

study = Study(
    title="A tiny experiment",
    lead="Two heads, two seeds.",
    scales={
        "smoke": Scale(about="seconds", subset=48, epochs=3, seeds=2),
        "full": Scale(about="minutes", subset=480, epochs=3, seeds=2),
    },
    rows={**RUNS, "random": replace(RUNS["batch"], epochs=0)},
    online=("knn",),
    watch=lambda row, run, scale: {"trace_every": 1, "log_every": 2},
)
study.table("scores", "Scores", accuracy("knn", digits=2, published=dict.fromkeys(RUNS, "12.3")), cosine)
study.curves("course", "Course", cosine)
study.claim("norm", "No norm is closer to one point.", above(cosine, "none", "batch"), source="here")
