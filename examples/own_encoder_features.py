"""Representations of a folder of pictures by the encoder of a finished run, as one safetensors file.

    python examples/own_encoder_features.py runs/byol-cifar10-0123456789ab photos features.safetensors

Row i of `y` is the picture `names[i]`, a path below the folder: pictures that cannot be used have no row, and pictures
held out for testing come after the others (docs/data.md). Where all pictures lie in class folders, `labels` and
`classes` are there as well. Names are text, and so in the file's metadata, as JSON:

    with safetensors.safe_open("features.safetensors", "pt") as file:
        y, names = file.get_tensor("y"), json.loads(file.metadata()["names"])
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from vergence import config, data, runs
from vergence.engine.evaluate import features
from vergence.machine.device import find_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("pictures", type=Path, help="a folder of pictures")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()

    run, method, step = runs.load(a.run)
    folder = config.Folder(root=str(a.pictures.resolve()), size=run.views.size, bad_images="skip")
    parts = [data.load(folder, "pretrain")]
    if parts[0].facts["test"] is not None:  # else no picture was held out
        parts.append(data.load(folder, "test"))

    device = find_device(a.device)
    y = torch.cat([features(method.encoder, images, run.views, device=device) for images in parts]).cpu()
    tensors = {"y": y}
    metadata = {
        "encoder": f"{run.encoder.name}, checkpoint after step {step} of {run.name}",
        "names": json.dumps([name for images in parts for name in images.names or ()]),
    }
    labels = [images.labels for images in parts if images.labels is not None]
    if len(labels) == len(parts):
        tensors["labels"] = torch.cat(labels)
        metadata["classes"] = json.dumps(parts[0].classes)
    save_file(tensors, a.out, metadata=metadata)
    print(f"{a.out}: {tuple(y.shape)}")


if __name__ == "__main__":
    main()
