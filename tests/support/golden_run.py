"""A run as this version writes it, kept so that later versions prove that they read it.

python tests/support/golden_run.py    # keeps one of this version, before it is released
"""

import hashlib
import json
import tempfile
import zipfile
from pathlib import Path

import torch

from repository import GOLDEN
from small_runs import VARIANTS, run_of
from vergence import __version__, methods
from vergence.config import Run
from vergence.config.schema import from_dict
from vergence.engine import checkpoint
from vergence.optim import build_optimizer
from vergence.runs import run_training


def restored(folder):
    """The step and the SHA-256 of every tensor that loading gives, moments included."""
    record = json.loads((folder / "run.json").read_text())
    run = from_dict(Run, record["run"])
    method = methods.build(run).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(run.optimizer, method)
    step, warnings = checkpoint.load_newest(
        folder / "checkpoints", method, optimizer, {"key": run.key, "data": record["data"]}
    )
    assert not warnings
    moments = {f"{i}.{k}": v for i, values in optimizer.state_dict()["state"].items() for k, v in values.items()}
    hashed = hashlib.sha256()
    for name, tensor in sorted({**method.state_dict(), **moments}.items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.contiguous().numpy().tobytes())
    return {"step": step, "sha256": hashed.hexdigest()}


def keep_golden():
    """A real run whose numbers are a pattern, so that it packs into a few KB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run = run_of(VARIANTS["byol"], subset=28, epochs=1)
        run_training(run, folder)
        method = methods.build(run).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(run.optimizer, method)
        record = {"key": run.key, "data": json.loads((folder / "run.json").read_text())["data"]}
        step, _ = checkpoint.load_newest(folder / "checkpoints", method, optimizer, record)
        moments = [values["momentum_buffer"] for values in optimizer.state.values()]
        for tensor in (*method.state_dict().values(), *moments):
            if tensor.is_floating_point():
                pattern = torch.arange(tensor.numel()) % 17 / 16 + 0.125
                with torch.no_grad():
                    tensor.copy_(pattern.view(tensor.shape))
        checkpoint.save(folder / "checkpoints", step, method, optimizer, record)
        GOLDEN.mkdir(exist_ok=True)
        path = GOLDEN / f"run-{__version__}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"):
                archive.write(file, file.relative_to(folder))
        path.with_suffix(".json").write_text(json.dumps(restored(folder), indent=2) + "\n")


if __name__ == "__main__":
    keep_golden()
