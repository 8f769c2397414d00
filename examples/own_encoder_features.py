"""Representations of a folder of pictures by the encoder of a finished run, as one safetensors file.

    python examples/own_encoder_features.py runs/byol-cifar10-0123456789ab photos features.safetensors

Row i of `y` is the i-th picture in the order of paths. If all pictures lie in class folders, `labels` are there as
well, and pictures held out for testing come after the others: see docs/data.md.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from vergence import config, data, runs
from vergence.evaluate import features
from vergence.runtime import find_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("pictures", type=Path, help="a folder of pictures")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()

    run, method, step = runs.load(a.run)
    folder = config.Folder(root=str(a.pictures.resolve()), size=run.views.size, bad_images="skip")
    parts = [data.load(folder, "train")]
    if parts[0].labels is not None:  # without labels, every split is all pictures
        parts.append(data.load(folder, "test"))

    device = find_device(a.device)
    y = torch.cat([features(method.encoder, images, run.views, device=device) for images in parts]).cpu()
    tensors = {"y": y}
    if parts[0].labels is not None:
        tensors["labels"] = torch.cat([images.labels for images in parts if images.labels is not None])
    save_file(tensors, a.out, metadata={"encoder": f"{run.encoder.name}, checkpoint after step {step} of {run.name}"})
    print(f"{a.out}: {tuple(y.shape)}")


if __name__ == "__main__":
    main()
