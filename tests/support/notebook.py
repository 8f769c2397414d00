"""The notebook of the docs: its cells, what they print when they are run, and the file with both.

`python tests/support/notebook.py docs/own_pictures.ipynb` runs every cell in a folder of its own and writes the file.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TEXT, SHELL, PYTHON = "text", "shell", "python"

CELLS = [
    (
        TEXT,
        "# From pictures without labels to an encoder that is used\n\n"
        "Pictures, weights to start from, a verdict on what came out, the encoder as a file for other programs, "
        "embeddings, similar pictures, and what it is worth where labels are few. Every command runs on two CPU cores "
        "in seconds; the pictures are scikit-learn's digits, so that nothing is downloaded. Put your own folder in "
        "their place.",
    ),
    (
        PYTHON,
        "from pathlib import Path\n\n"
        "import timm\nfrom PIL import Image\nfrom safetensors.torch import save_file\n"
        "from sklearn.datasets import load_digits\n\n"
        "digits = load_digits()\n"
        "for number, (pixels, label) in enumerate(zip(digits.images, digits.target)):\n"
        "    folder = Path('pictures') / str(label)\n"
        "    folder.mkdir(parents=True, exist_ok=True)\n"
        "    Image.fromarray((pixels * 15).astype('uint8')).resize((32, 32)).save(folder / f'{number:04}.png')\n\n"
        "# weights under timm's names: here those that timm begins with, in the place of a file that you have\n"
        "save_file(timm.create_model('test_resnet').state_dict(), 'resnet.safetensors')",
    ),
    (TEXT, "What a run would find in them:"),
    (SHELL, "vergence data pictures --size 32"),
    (TEXT, "Train from the file of weights. Digits are not mirrored, so the views are not either."),
    (
        SHELL,
        "vergence train simclr --data pictures --size 32 --encoder test_resnet --encoder.weights resnet.safetensors "
        "--views.first.flip 0 --views.second.flip 0 --optimizer.lr 0.2 --batch-size 64 --epochs 8 --out run",
    ),
    (TEXT, "Is it any good? Every number beside the same network with random weights:"),
    (SHELL, "vergence diagnose run --most 1000"),
    (TEXT, "The encoder for other programs: each file is read back and compared with what was trained."),
    (SHELL, "vergence export run --out encoder.onnx\nvergence export run --out model --format hf"),
    (
        PYTHON,
        "import numpy, onnxruntime, timm\n\n"
        "session = onnxruntime.InferenceSession('encoder.onnx')\n"
        "name = session.get_inputs()[0].name\n"
        "print(session.run(None, {name: numpy.zeros((2, 3, 32, 32), numpy.float32)})[0].shape)\n"
        "print(timm.create_model('local-dir:model', pretrained=True, num_classes=0).num_features)",
    ),
    (
        TEXT,
        "One row a picture, then what lies near to what; `similar/index.html` shows it in pictures. Digits of 8 pixels "
        "that were enlarged have little to be told by, so that many count as copies.",
    ),
    (SHELL, "vergence embed run --out pictures.parquet\nvergence similar pictures.parquet pictures"),
    (TEXT, "Does it help where labels are few? Fine-tuned on ten labels a class, beside training from scratch:"),
    (SHELL, "vergence finetune run --labels 10 --seeds 2 --steps 100"),
]
"""The kind and the text of each cell."""


def run(kind: str, source: str, folder: Path) -> str:
    """What a cell prints where it is run in a folder, without what differs from one machine to the next."""
    words = [sys.executable, "-c", source]
    if kind == SHELL:
        lines = re.sub("^vergence", f"{sys.executable} -m vergence", source, flags=re.MULTILINE)
        words = ["bash", "-ec", lines]
    environment = os.environ | {"COLUMNS": "110", "VERGENCE_CACHE": str(folder / "cache")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{source}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout.replace(f"{folder.resolve()}/", "")


def cell(kind: str, source: str, printed: str = "") -> dict[str, object]:
    """A cell as a notebook has it."""
    text = re.sub("^", "!", source, flags=re.MULTILINE) if kind == SHELL else source
    lines = text.splitlines(keepends=True)
    if kind == TEXT:
        return {"cell_type": "markdown", "metadata": {}, "source": lines}
    output = {"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}
    outputs = [output] if printed else []
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs, "source": lines}


def notebook(folder: Path) -> dict[str, object]:
    """The whole notebook, with what its cells print when they are run one after the other in a folder."""
    cells = [cell(kind, text, "" if kind == TEXT else run(kind, text, folder)) for kind, text in CELLS]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        Path(sys.argv[1]).write_text(json.dumps(notebook(Path(here)), indent=1) + "\n")
