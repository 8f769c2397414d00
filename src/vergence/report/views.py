"""The grid of views and local crops that a run would train on."""

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vergence.augment import evaluation_view, multi_crop
from vergence.config import Run
from vergence.data import load
from vergence.machine.randomness import generator

DRAWS = 3


def draw_views(run: Run, *, count: int = 8, data_dir: Path | None = None) -> bytes:
    """Draw a PNG with one row a picture: the picture itself, then three draws of its two views and its local crops.

    Raises:
        InputError: the run's pictures are not there, or a transform is not registered.
    """
    images = load(run.data, "pretrain", data_dir=data_dir)
    chosen = torch.randperm(len(images), generator=generator(run.seed, "order", 0))[:count]
    pixels = images.pixels[chosen]
    columns = [evaluation_view(pixels, images.size, run.views)]
    for draw in range(DRAWS):
        drawn = multi_crop(pixels, images.size, run.views, generator(run.seed, "views", draw + 1))
        columns += [crop for crops in drawn for crop in crops]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.views.mean, run.views.std))
    grid = torch.stack([_framed(column * std + mean, run.views.size) for column in columns])  # columns, count, 3, s, s
    gap = 2
    grid = torch.nn.functional.pad(grid, (gap, gap, gap, gap), value=1.0)
    across, down, _, side, _ = grid.shape
    sheet = grid.permute(1, 3, 0, 4, 2).reshape(down * side, across * side, 3)
    picture = Image.fromarray((sheet * 255).round().to(torch.uint8).numpy())
    scale = max(1, 96 // run.views.size)
    buffer = BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _framed(crops: Tensor, side: int) -> Tensor:
    """Return crops `[b 3 t t]` in the middle of white squares `[b 3 side side]`."""
    before = (side - crops.shape[-1]) // 2
    after = side - crops.shape[-1] - before
    return torch.nn.functional.pad(crops, (before, after, before, after), value=1.0)
