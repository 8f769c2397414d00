"""A study of one's own: does the moving average matter on digits? Runs, a table, a figure, a claim, one page.

vergence reproduce examples/experiment.py    # about a minute; again, and nothing is trained twice
"""

from vergence import config as c
from vergence import presets
from vergence.study import Scale, Study, above, accuracy, logged

TARGETS = {"moving average": c.MovingAverage(decay=0.99), "stop-gradient": c.StopGradient()}
closeness = logged("neg_cos", "negative cosine", digits=3, about="of different pictures, in the last epoch")

study = Study(
    title="Does BYOL need its moving average?",
    lead="BYOL with a slowly moving target, and with the online network itself as target (as SimSiam).",
    scales={
        "smoke": Scale(about="about a minute on two cores", subset=512, epochs=3, seeds=2),
        "full": Scale(about="the whole data set", epochs=30, seeds=3),
    },
    rows={name: presets.default(c.BYOL(target=target), c.Digits()) for name, target in TARGETS.items()},
    online=("knn",),
)
study.table("targets", "Targets", accuracy("knn"), closeness)
study.curves("cosine", "Different pictures", closeness)
study.claim(
    "stop-gradient-is-closer",
    "Without a moving average different pictures lie closer together.",
    above(closeness, "stop-gradient", "moving average"),
)
