"""What must be true after any fault, in one place.

The letters are those of docs/reliability.md:

(a) the newest checkpoint is whole, (b) at most one interval of saving is lost,
(c) after resuming, every bit is that of a run nobody touched, (d) nothing outside the run's folder has changed,
(e) one line of error and no traceback, (f) the exit code says what kind of fault it was,
(g) no process and no temporary file is left, (h) nothing hangs.
"""

import hashlib
import json
from pathlib import Path

from vergence.files import durable, series
from vergence.metrics.table import TIMING


def check(
    folder,
    reference=None,
    answer=None,
    *,
    code=0,
    said=(),
    every=None,
    at_least=0,
    outside=None,
    limit=60.0,
):
    """Assert (a) to (h), as far as they apply.

    Args:
        folder: a run's.
        reference: the folder of a run that nobody touched; `folder` must have ended like it.
        answer: of the command, as `fork_server.Server` gives it.
        code: the exit code it must have, or minus the signal that must have ended it.
        said: parts that its error line must have.
        every: steps between checkpoints: no more may be lost.
        at_least: the step of the newest checkpoint, or more.
        outside: what `tree` gave for the folder above, before; nothing but `folder` may have changed there.
        limit: seconds it may have taken.
    """
    if answer is not None:
        check_answer(answer, code, said, limit)
    newest = newest_step(folder)
    assert newest >= at_least, "(b)"
    if every is not None and (lines := durable.read_lines(folder / "metrics.jsonl")):
        assert newest >= lines[-1]["step"] - every, "(b)"
    if reference is not None:
        assert digest(folder) == digest(reference), "(c)"
        assert not leftovers(folder), "(g)"
    if outside is not None:
        inside = f"{folder.name}/"
        now = tree(folder.parent)
        for name in outside.keys() | now.keys():
            assert name.startswith(inside) or outside.get(name) == now.get(name), f"(d) {name}"


def check_answer(answer, code, said=(), limit=60.0):
    """(e), (f), (g) and (h) of a process that has ended."""
    lines = answer["error"].splitlines()
    assert answer["code"] == code, f"(f) {answer}"
    assert "Traceback" not in answer["error"], f"(e) {answer['error']}"
    if code > 0 and code != 141:  # at 141 nobody listens
        assert len(lines) == 1, f"(e) {lines}"
        assert lines[0].startswith("error: "), f"(e) {lines}"
    elif code < 0:
        assert not lines, f"(e) {lines}"
    for part in said:
        assert part in answer["error"], f"(e) {answer['error']}"
    assert not answer.get("orphans"), "(g)"
    assert answer["seconds"] < limit, "(h)"


def newest_step(folder):
    """(a): the step of the newest checkpoint, 0 without any; every checkpoint there is must be whole."""
    there = series.found(folder / "checkpoints")
    for checkpoint in there:
        durable.read_folder(checkpoint)
    return int(there[-1].name.removeprefix("step-")) if there else 0


def digest(folder):
    """Of every bit of the newest checkpoint's tensors, and of the log without what the clock decides."""
    _, files, _ = series.newest(folder / "checkpoints")
    lines = [
        {k: v for k, v in line.items() if k not in TIMING} for line in durable.read_lines(folder / "metrics.jsonl")
    ]
    parts = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name.endswith("safetensors")}
    assert len(parts) == 2
    return {**parts, "log": lines, "scores": json.loads((folder / "summary.json").read_text())["linear"]}


def tree(folder):
    """Every file below a folder, with its time and the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def leftovers(folder):
    """What interrupted writes left."""
    return sorted(folder.glob("**/.writing-*"))
