"""A run from Python: train BYOL on a part of scikit-learn's digits, read the summary, use the encoder.

    python examples/train_in_python.py

Eight steps: enough to see every part work, too few to learn anything.
"""

from dataclasses import replace
from pathlib import Path

import torch

from vergence import config, data, presets, runs
from vergence.engine.evaluate import features

torch.set_num_threads(1)  # a network this small is no faster on more
run = presets.preset("default", "byol", config.Digits())
run = replace(run, encoder=config.Encoder(name="test_resnet"), subset=256, epochs=2)
folder = Path("runs") / run.name

summary = runs.run_training(run, folder, resume=True)  # a finished run is recognised, an unfinished one goes on
print(f"{folder}: {summary['verdict']['state']}: {summary['verdict']['rule']}")
print(f"kNN {summary['knn']['accuracy']}%: {summary['knn']['protocol']}")

encoder = runs.load_encoder(folder)
test = data.load(run.data, "test")
y = features(encoder, test, run.views, device=torch.device("cpu"))
print(f"representations of {len(test)} test pictures: {tuple(y.shape)}")
