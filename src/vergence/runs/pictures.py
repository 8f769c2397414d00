"""The pictures of a run: which they are, where they lie now, and whether those at hand are still the same.

For published data sets the key says it. A folder's pictures are not in the key: `run.json` has their digests, and
`pictures.json` a hash of each of them, so that it can be said which have changed.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import torch

from vergence.augment import Ragged
from vergence.config import Data, Folder, Run, instead
from vergence.config.schema import said
from vergence.data import Images, load
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.names import listed, shown
from vergence.files.run_folder import MOST, PICTURES, RUN, found_again, places_of, read_json, read_listing, read_run
from vergence.machine.randomness import generator

MOST_LISTED = 200_000
"""Pictures of a run that are listed one by one; of more, only their number is known later."""

Facts = dict[str, Any]


class Gone(InputError):
    """The pictures of a run are no more where it was begun on them, and were not found again."""


def subset(images: Images, count: int | None) -> Images:
    """Return `count` of the pictures by a fixed permutation, the same in every run; all where None."""
    if count is None or count == len(images):
        return images
    if count > len(images):
        raise InputError(f"--subset: {count} is more than the {len(images)} pictures there are")
    return images.take(torch.randperm(len(images), generator=generator(0, "subset"))[:count])


def settled(run: Run, folder: Path, data_dir: Path | None) -> Run:
    """Return the run with its pictures where they lie now, if it names them where the run in `folder` was begun.

    Raises:
        Gone: they are not there any more, nor in `data_dir` (`runfile.found_again`).
    """
    gone = _gone(run.data, data_dir)
    begun = read_run(folder / RUN).data if gone and os.path.exists(folder / RUN) else None
    if not isinstance(run.data, Folder) or not isinstance(begun, Folder) or begun.places != run.data.places:
        return run
    found = found_again(run.data, folder, data_dir)
    if still := _gone(found, data_dir):
        where = shown(gone[0])
        there = f"not in {where} any more" if data_dir is None else f"neither in {where} nor in {data_dir}"
        advice = f"--data ./{shown(still[0].name) if run.data.more else 'pictures'}"
        raise Gone(f"{folder}: its pictures are {there}; say where they lie now, as in {advice}")
    return replace(run, data=found)


def _gone(data: Data, data_dir: Path | None) -> list[Path]:
    """Return the places of a folder's pictures where nothing is."""
    return [place for place in places_of(data, data_dir) if not place.exists()] if isinstance(data, Folder) else []


def facts(run: Run, whole: Images, test: Images) -> Facts:
    """Return what `run.json` says of the pictures: their digest and number, and of a folder those of the test pictures.

    Args:
        run: is trained on `run.subset` of them.
        whole: all that it may be trained on.
        test: what its encoder is scored on.
    """
    count = None if run.subset is not None and run.subset > len(whole) else run.subset
    images = subset(whole, count)
    found: Facts = {"data": images.digest(), "pictures": len(images)}
    if isinstance(run.data, Folder) and test.labels is not None:
        found |= {"test": test.digest(), "test_pictures": len(test)}
    return found


def note(run: Run, folder: Path, *parts: Images) -> None:
    """List the pictures of a folder, of all parts, in the run's folder; nothing where their names are not known."""
    listing = _listing(parts) if isinstance(run.data, Folder) else None
    if listing is None:
        return
    value = {"decoder": _decoder(), "names": list(listing), "hashes": list(listing.values())}
    text = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    if len(text) <= MOST:
        durable.write_file(folder / PICTURES, text)


def are_same(there: Mapping[str, Any], here: Facts) -> bool:
    """Return whether a `run.json` is of the pictures with these facts; an old one says nothing of test pictures."""
    return there.get("data") == here["data"] and there.get("test") in (None, here.get("test"))


def changes(folder: Path, there: Mapping[str, Any], here: Facts, *parts: Images) -> str:
    """Return how pictures differ from those that the run in `folder` was begun on; empty where they are the same.

    Args:
        folder: of the run.
        there: what its `run.json` says.
        here: the facts of those at hand.
        parts: those at hand.
    """
    if are_same(there, here):
        return ""
    before, now = read_listing(folder), _listing(parts)
    if before is None or now is None:
        begun, count = said(there.get("pictures")), str(here["pictures"])
        return f"as many, {count}, but not the same" if begun == count else f"{count}, not {begun}"
    old, decoder = before
    both = old.keys() & now.keys()
    kinds = {
        "added": now.keys() - old.keys(),
        "gone": old.keys() - now.keys(),
        "changed": {name for name in both if old[name] != now[name]},
    }
    found = [f"{len(names):,} {kind} ({listed(_first(names))})" for kind, names in kinds.items() if names]
    if kinds["changed"] and decoder != _decoder():
        found.append(f"decoded by {_decoder()}, then by {said(decoder)[1:-1]}")
    return ", ".join(found) or "the same, in other classes or with others held out"


def strangers(run: Run, folder: Path, data_dir: Path | None) -> str:
    """Return how the pictures of `run` differ from those that the run in `folder` was begun on; empty if they do not.

    Raises:
        InputError: they are not at hand, or cannot be read.
    """
    if not isinstance(run.data, Folder):
        return ""
    whole, test = (load(run.data, split, data_dir=data_dir) for split in ("pretrain", "test"))
    return changes(folder, read_json(folder / RUN), facts(run, whole, test), whole, test)


def at_hand(run: Run, data_dir: Path | None) -> Facts | None:
    """Return the facts of the pictures that `run` would be on; None where they cannot be read."""
    try:
        return facts(run, *(load(run.data, split, data_dir=data_dir) for split in ("pretrain", "test")))
    except InputError:
        return None


def unlike(run: Run, folder: Path, data_dir: Path | None) -> str:
    """Return what `strangers` does of the pictures where they lie now; empty too where there are none to compare.

    Raises:
        InputError: they cannot be read, or are named in a place where there are none and where the run was not begun.
    """
    try:
        return strangers(settled(run, folder, data_dir), folder, data_dir)
    except Gone:
        return ""


def kept_in(run: Run, runs: Path, data_dir: Path | None) -> Path:
    """Return where in `runs` a run is kept: in the folder of its name, or where this run on the same pictures is.

    They may have been in a folder of another name, or the run's folder be named as earlier versions did.
    """
    own = runs / run.name
    if not isinstance(run.data, Folder) or os.path.exists(own / RUN):
        return own
    kind = run.method.kind
    named = {*runs.glob(f"{kind}-*-{run.key}/{RUN}"), *runs.glob(f"{kind}-{run.data.kind}-*/{RUN}")}
    for path in sorted(named):
        try:
            if read_run(path).key == run.key and not unlike(run, path.parent, data_dir):
                return path.parent
        except InputError:  # no run, or pictures that cannot be read
            continue
    return own


def to_score(run: Run, folder: Path, data: Data | None, data_dir: Path | None) -> tuple[Run, bool]:
    """Return the run on the pictures that its encoder is to be scored on, and whether they are its own.

    Args:
        run: in `folder`.
        folder: of the run.
        data: the pictures, which take size and options of the run's; None: the run's own, wherever they lie now.
        data_dir: where to look for them.

    Raises:
        InputError: its own are asked for, and are gone or have changed.
    """
    if data is None:
        run = settled(run, folder, data_dir)
        if how := strangers(run, folder, data_dir):
            advice = "put them back, or score on these on purpose with --data"
            raise InputError(f"{folder}: the pictures are not those of the run: {how}; {advice}")
        return run, True
    other = replace(run, data=instead(data, run.data))
    if type(other.data) is type(run.data) and not strangers(other, folder, data_dir):
        return other, True
    return replace(other, subset=None), False


def digest_of(parts: tuple[Images, ...]) -> str:
    """Return one digest of several sets of pictures."""
    return hashlib.sha256("".join(images.digest() for images in parts).encode()).hexdigest()[:16]


def _listing(parts: tuple[Images, ...]) -> dict[str, str] | None:
    """Return a hash of each picture's pixels by its name; None where names are unknown or too many."""
    listing: dict[str, str] = {}
    if sum(map(len, parts)) > MOST_LISTED:
        return None
    for images in parts:
        if images.names is None:
            return None
        listing |= zip(images.names, _hashes(images), strict=True)
    return listing


def _hashes(images: Images) -> Iterator[str]:
    if isinstance(images.pixels, Ragged):
        return (key[:4].hex() for key in images.keys)
    blocks = (block.contiguous().numpy() for block in images.pixels.split(256))
    return (hashlib.blake2b(picture.data, digest_size=4).hexdigest() for block in blocks for picture in block)


def _decoder() -> str:
    return f"Pillow {PIL.__version__}"


def _first(names: set[str]) -> list[str]:
    return [shown(name)[:100] for name in sorted(names)]


def labelled(run: Run, data_dir: Path | None) -> tuple[Images, Images]:
    """Return the pictures that probes are fitted on, `run.subset` of them, and those they are scored on."""
    train_images = load(run.data, "train", data_dir=data_dir)
    return subset(train_images, run.subset), load(run.data, "test", data_dir=data_dir)
