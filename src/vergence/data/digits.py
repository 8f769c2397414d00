"""scikit-learn's handwritten digits: 8 x 8, in that library itself: no download."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vergence import register
from vergence.config import Digits
from vergence.data.images import Images
from vergence.data.splits import Split, held_out


@register.data(Digits)
def load(config: Digits, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Images:
    """The digits, 80 % of each class for training and 20 % for testing; gray values in three equal channels."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    labels = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    gray = torch.from_numpy(np.round(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8))  # 0..16 -> 0..255
    test = torch.tensor(held_out([str(index).encode() for index in range(len(labels))], labels.tolist()))
    chosen = test if split == "test" else ~test
    pixels = gray[chosen].unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    kept, scored = int((~test).sum()), int(test.sum())
    facts = {
        "pictures": {"pretrain": kept, "train": kept, "test": scored},
        "test": "a fifth of each class, by their numbers",
        "side": {"smallest": 8, "median": 8, "largest": 8},
        "kept": 8,
    }
    return Images(pixels, labels[chosen], tuple("0123456789"), config.size, facts=facts)
