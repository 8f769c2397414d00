"""Weights that an encoder starts from: where they lie, what is known of them, and how they get into it.

Nothing that a file holds is executed: safetensors has tensors only, and of a pickle torch reads tensors and plain
values only.
"""

import argparse
import codecs
import hashlib
import io
import math
import pathlib
import pickle
import re
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from vergence import config
from vergence.config.schema import said
from vergence.errors import InputError
from vergence.files import series
from vergence.files.names import listed, shown
from vergence.files.run_folder import CHECKPOINTS, RUN, read_json, run_in

TIMM = "timm:"
"""What stands before the name of pretrained weights that timm knows."""

DESCRIPTION = "config.json"
"""The file beside `model.safetensors` in a model's folder, in timm's form; beside `x.safetensors` it is `x.json`."""

State = Mapping[str, Tensor]
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights that an encoder may start from.

    Attributes:
        text: what names them, a path without `~` and with all folders before it.
        file: where they lie.
        encoder: the architecture that they are of; None where nothing beside them says so.
        size: side in pixels of the pictures that they were trained on; None where that is unknown.
        mean, std: by which those pictures were normalized, in [0, 1]; None where that is unknown.
    """

    text: str
    file: Path
    encoder: config.Encoder | None = None
    size: int | None = None
    mean: Colour | None = None
    std: Colour | None = None

    def digest(self) -> str:
        """Return the file's SHA-256 in hexadecimal digits."""
        with open(self.file, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find(text: str) -> Source:
    """Return where weights lie and what is known of them; those that timm names are fetched where they are not yet.

    Args:
        text: a file of tensors, a run's folder, a model's folder as `vergence export` and timm write it, or
            "timm:NAME.TAG".

    Raises:
        InputError: there is nothing of that name, or it cannot be had.
    """
    if text.startswith(TIMM):
        return _of_timm(text)
    try:
        path = Path(text).expanduser().absolute()
        if path.is_dir():
            return _of_run(path) if (path / RUN).exists() else _of_folder(path)
        if path.is_file():
            return _of_file(path)
    except (OSError, RuntimeError) as error:  # a name too long, a user who is not there
        raise InputError(f"{said(text)}: {error}") from error
    if timm.is_model(text.partition(".")[0]):
        raise InputError(f"{said(text)} is no file and no folder; timm's pretrained weights are named {TIMM}{text}")
    raise InputError(f"{said(text)}: no such file or folder; give a .safetensors or .pth file, a run, or {TIMM}NAME")


def _of_run(folder: Path) -> Source:
    run = run_in(folder)
    newest, _, _ = series.newest(folder / CHECKPOINTS)
    if newest is None:
        raise InputError(f"{shown(folder)}: this run has no checkpoint yet; train it first")
    views = run.views
    file = newest / "method.safetensors"
    return Source(text=str(folder), file=file, encoder=run.encoder, size=views.size, mean=views.mean, std=views.std)


def _of_folder(folder: Path) -> Source:
    if not (file := folder / "model.safetensors").is_file():
        raise InputError(f"{shown(folder)}: holds neither a {RUN} nor a model.safetensors; give the file of weights")
    return described(str(folder), file, folder / DESCRIPTION)


def _of_file(file: Path) -> Source:
    beside = file.with_suffix(".json")
    found = described(str(file), file, beside if beside.exists() else file.with_name(DESCRIPTION))
    return found if found.encoder else Source(text=str(file), file=file)  # another program's config.json


def described(text: str, file: Path, description: Path) -> Source:
    """Return weights or a program with what a description in timm's form says of them; without that file, nothing.

    Raises:
        InputError: it is not of that form, or says of pictures what cannot be.
    """
    said_of_it = read_json(description) if description.is_file() else {}
    about, own = said_of_it.get("pretrained_cfg") or said_of_it, said_of_it.get("vergence") or {}
    try:
        name, size = said_of_it.get("architecture"), about.get("input_size")
        encoder = config.Encoder(**(own.get("encoder") or {"name": name})) if name else None
        known = {"size": size and int(size[-1]), **{name: colour(about.get(name)) for name in ("mean", "std")}}
        config.Views(**{name: value for name, value in known.items() if value is not None})  # refuses what cannot be
        return Source(text=text, file=file, encoder=encoder, **known)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, InputError) as error:
        reason = "; ".join(str(error).splitlines())
        raise InputError(f"{shown(description)}: not a description as timm writes it: {reason}") from error


def colour(values: Any) -> Colour | None:
    """Return three numbers for red, green and blue, from any sequence; None from None."""
    if values is None:
        return None
    red, green, blue = map(float, values)
    return red, green, blue


def _of_timm(text: str) -> Source:
    name = text.removeprefix(TIMM)
    base, _, tag = name.partition(".")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{base}.*")]
    if not tags:
        known = f"timm has no pretrained weights of {base}" if timm.is_model(base) else f"timm has no model {base}"
        raise InputError(f"{said(text)}: {known}; see timm.list_pretrained()")
    if tag and tag not in tags:
        raise InputError(f"{said(text)}: timm has no such weights of {base}, but {listed(tags)}")
    about: Any = timm.get_pretrained_cfg(name)
    return Source(
        text=text,
        file=_fetched(text, about),
        encoder=config.Encoder(name=base),
        size=about.input_size[-1],
        mean=colour(about.mean),
        std=colour(about.std),
    )


def _fetched(text: str, about: Any) -> Path:
    """Return the file of weights that timm names, from the cache of what was fetched before where it is there."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models._hub import download_cached_file

    names = [about.hf_hub_filename] if about.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    try:
        if about.file:
            return Path(about.file)
        if not about.hf_hub_id:
            return Path(download_cached_file(about.url))
        for name in names:
            if isinstance(there := try_to_load_from_cache(about.hf_hub_id, name), str):
                return Path(there)
        _require_reachable(constants.ENDPOINT)  # the library tries for half a minute, and says so
        for name in names:
            try:
                return Path(hf_hub_download(about.hf_hub_id, name))
            except LocalEntryNotFoundError:  # one of those below: the network has failed
                raise
            except EntryNotFoundError:
                continue
        raise InputError(f"{about.hf_hub_id} has no {' and no '.join(names)}")
    except Exception as error:  # of the network, in as many ways as there are
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        advice = "fetch it where there is a network, or give a local file: --encoder.weights FILE"
        raise InputError(f"{said(text)}: neither in the cache nor to be had: {reason}; {advice}") from error


def _require_reachable(address: str) -> None:
    with suppress(HTTPError), urlopen(Request(address, method="HEAD"), timeout=10):
        pass


_SCALAR: Any = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    *(argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "bool"))),
    codecs.encode,
]
"""What training scripts leave beside the weights and what only holds values: the arguments, paths, numpy's numbers."""


def read(file: Path) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Return the tensors of a file by the place, in its nested dictionaries, of the dictionary that holds them.

    Raises:
        InputError: it holds none, is damaged, or holds code, which is never executed.
    """
    try:
        with open(file, "rb") as opened:
            start = opened.read(9)
        if start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
            return {(): safetensors.torch.load_file(file)}
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds code ({found[1]})" if found else "is no file of weights"
        advice = "nothing of it was executed; save its tensors alone: torch.save(model.state_dict(), FILE)"
        raise InputError(f"{shown(file)}: {what}; {advice}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, safetensors.SafetensorError) as error:
        kind = "is a TorchScript program" if is_program(file) else "is no file of weights, or damaged"
        raise InputError(f"{shown(file)}: {kind}; give a .safetensors or .pth file of tensors") from error
    found = dict(_dictionaries(content))
    if not found:
        raise InputError(f"{shown(file)}: holds no tensors by name, but a {type(content).__name__}")
    return found


def is_program(file: Path) -> bool:
    """Return whether a file holds a TorchScript program, whatever it is called."""
    try:
        with zipfile.ZipFile(file) as opened:
            return any(name.endswith("constants.pkl") for name in opened.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _dictionaries(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or len(place) > 4:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor) and isinstance(name, str)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        yield from _dictionaries(value, (*place, str(name)))


_TIMMS = {
    r"encoder\.layers\.encoder_layer_(\d+)\.": r"blocks.\1.",
    r"(blocks\.\d+\.)ln_(\d)\.": r"\1norm\2.",
    r"self_attention\.in_proj_": "attn.qkv.",
    r"self_attention\.out_proj\.": "attn.proj.",
    r"(blocks\.\d+\.mlp\.)(?:0|linear_1)\.": r"\1fc1.",
    r"(blocks\.\d+\.mlp\.)(?:3|linear_2)\.": r"\1fc2.",
    r"encoder\.pos_embedding$": "pos_embed",
    r"class_token$": "cls_token",
    r"conv_proj\.": "patch_embed.proj.",
    r"encoder\.ln\.": "norm.",
}
"""Names of torchvision's transformers, and timm's for the same; timm itself converts those of other publishers."""


def _named_as_timms(tensors: State) -> dict[str, Tensor]:
    """Return the tensors of a transformer of torchvision under timm's names; others as they are."""
    names = {name: name for name in tensors}
    if any("encoder_layer_" in name for name in tensors):
        for pattern, timms in _TIMMS.items():
            names = {name: re.sub(pattern, timms, new) for name, new in names.items()}
    return {new: tensors[name] for name, new in names.items()}


_LESS = ("target", "momentum", "student", "encoder_k", "key")
"""What the other one of two networks is called in a file: the one that is followed, or that follows worse."""
_MORE = ("teacher", "ema")


def part_for(found: Mapping[tuple[str, ...], State], wanted: set[str]) -> tuple[str, dict[str, Tensor]]:
    """Return the part of a file that has most of the wanted names behind one prefix, and its tensors without it.

    Of two that have as many, such as the two networks of BYOL or DINO, the one that their authors evaluate.
    """
    counts: Counter[tuple[tuple[str, ...], str]] = Counter()
    for place, tensors in found.items():
        counts[place, ""] += 0
        for name in tensors:
            pieces = name.split(".")
            for start in range(len(pieces)):
                if ".".join(pieces[start:]) in wanted:
                    counts[place, "".join(f"{piece}." for piece in pieces[:start])] += 1

    def rank(part: tuple[tuple[str, ...], str]) -> tuple[int, int, int]:
        words = ".".join([*part[0], part[1]]).lower()
        liked = sum(word in words for word in _MORE) - sum(word in words for word in _LESS)
        return counts[part], liked, -len(words)

    place, prefix = max(counts, key=rank)
    kept = {name.removeprefix(prefix): value for name, value in found[place].items() if name.startswith(prefix)}
    return ".".join([*place, prefix]).strip("."), kept


@torch.no_grad()
def weights_digest(encoder: nn.Module, size: int) -> str:
    """Return the SHA-256, in hexadecimal digits, of the names, types, shapes and bytes of an encoder's tensors.

    A program that keeps its weights to itself, as ONNX's do, is known by what it gives of one picture of `size` pixels.
    """
    tensors = encoder.state_dict() or {"answer": encoder(torch.linspace(-1, 1, 3 * size**2).view(1, 3, size, size))}
    hasher = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


_CLASSIFIERS = {"fc", "head", "heads", "head_dist", "classifier", "last_linear"}


def load(encoder: Any, name: str, source: Source) -> str:
    """Give an encoder these weights; return, in words, which part of the file they were and what was changed in them.

    A transformer's positions are interpolated to the encoder's grid of patches. A classifier in the file is left out.

    Args:
        encoder: whose weights they become.
        name: of its architecture.
        source: of `find`.

    Raises:
        InputError: some are missing, of another shape, or more than those of the encoder and a classifier.
    """
    wanted = encoder.state_dict()
    part, kept = part_for({at: _named_as_timms(found) for at, found in read(source.file).items()}, set(wanted))
    state = _converted(kept, encoder, name, source)
    classifier = getattr(encoder, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = _CLASSIFIERS | {classifier} if isinstance(classifier, str) else _CLASSIFIERS | {*classifier}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    strange = [key for key in state if key not in wanted and key.partition(".")[0] not in classifiers]
    shaped = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or strange or shaped:
        raise InputError(_misfit(name, source, missing, strange, shaped, state, wanted))
    _require_numbers(source, state := {key: value for key, value in state.items() if key in wanted})
    encoder.load_state_dict(state, strict=False)
    changes = [f"its part {said(part)}"] if part else []
    if (before := kept.get("pos_embed")) is not None and before.shape != (now := encoder.pos_embed).shape:
        sides = [math.isqrt(grid.shape[1]) for grid in (before, now)]
        changes.append("positions interpolated from {0} x {0} patches to {1} x {1}".format(*sides))
    return f"weights of {shown(source.text)}" + (f" ({', '.join(changes)})" if changes else "")


def _converted(state: dict[str, Tensor], encoder: nn.Module, name: str, source: Source) -> dict[str, Tensor]:
    """Return tensors under timm's names, from the publisher's, with positions for the encoder's grid of patches."""
    if not timm.is_model(name):
        return state
    convert = getattr(sys.modules[timm.model_entrypoint(name).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with redirect_stdout(io.StringIO()):  # of DINOv3's it prints each bias that is none
            return convert(dict(state), encoder)
    except Exception as error:  # each of timm's conversions fails in its own way on what it is not for
        raise InputError(f"{shown(source.text)}: does not fit {name}: {type(error).__name__}: {error}") from error


def _require_numbers(source: Source, state: State) -> None:
    for what, are_such in (
        ("no plain real tensors", lambda t: t.layout != torch.strided or t.is_complex() or t.is_quantized or t.is_meta),
        ("not finite", lambda t: not t.float().isfinite().all()),
    ):
        if keys := [shown(key) for key, value in state.items() if are_such(value)]:
            raise InputError(f"{shown(source.text)}: {len(keys)} are {what} ({listed(keys)}); give other weights")


def _misfit(
    name: str,
    source: Source,
    missing: list[str],
    strange: list[str],
    shaped: list[str],
    state: State,
    wanted: State,
) -> str:
    shapes = [f"{key} {[*state[key].shape]}, not {[*wanted[key].shape]}" for key in shaped]
    groups = {"missing": missing, "unexpected": strange, "of another shape": shapes}
    said_of = "; ".join(f"{len(keys)} {what} ({listed([*map(shown, keys)])})" for what, keys in groups.items() if keys)
    other = f"they are of {source.encoder.name}" if source.encoder and source.encoder.name != name else ""
    return f"{shown(source.text)} does not fit {name}: {said_of}; {other or 'name its --encoder'}"
