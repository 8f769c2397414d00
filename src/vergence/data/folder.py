"""A folder of pictures, labelled by subfolder or not at all."""

import hashlib
import os
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vergence import register
from vergence.config import Folder
from vergence.data.arrange import Arranged, Pairs, arrange
from vergence.data.cache import Decoded, Writer, cached, default_cache_dir, files_digest
from vergence.data.images import Images
from vergence.data.scan import LIKE_PICTURES, Bad, Found, Scan, by_suffix, scan, suffix_of, told
from vergence.data.splits import Split
from vergence.errors import InputError
from vergence.files.names import listed, shown
from vergence.files.run_folder import root_of

if TYPE_CHECKING:
    from vergence.data.picture import Picture

MOST_BAD = 0.1
"""With `bad_images="skip"`, the share of pictures that may be left out."""

WORTH_SAYING = 0.01
"""The share of pictures above which it is said that they are of one colour, repeat another, or hold more pages."""

FAINT = 32
"""A picture whose values span no more than this, of 255, hardly uses its range."""

_BLOCK = 256


@register.data(Folder)
def load(config: Folder, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Images:
    """A split of a folder; see `docs/data.md` for what makes a split or a class.

    Raises:
        InputError: no folder, no pictures, an arrangement that can be read in two ways, or bad pictures: any of them,
            or more than `MOST_BAD` of all if they are to be skipped.
    """
    import PIL

    from vergence.data.picture import RULES

    root, cache_dir = root_of(config, data_dir), cache_dir or default_cache_dir()
    scanned = scan(root)
    arranged = arrange(scanned, root)
    pairs = arranged.pairs
    labels = repr([label for _, label in pairs])
    identity = {
        "root": str(root.resolve()),
        "files": files_digest((file.path, file.size, file.changed) for file, _ in pairs),
        "arranged": [len(arranged.train), len(arranged.unlabelled), hashlib.sha256(labels.encode()).hexdigest()],
        "bad": [f"{bad.name}: {bad.reason}" for bad in scanned.bad],
        "size": config.size,
        "bad_images": config.bad_images,
        "rules": RULES,
        "pillow": PIL.__version__,
    }
    decoded = cached(
        cache_dir,
        "folder",
        identity,
        config.size,
        config.size,
        lambda writer: _decode(config, root, scanned, arranged, writer),
    )
    facts = _facts(config, scanned, arranged, decoded)
    _warn(root, facts)
    return replace(_split(config, split, arranged, decoded, root), facts=facts)


def _split(config: Folder, split: Split, arranged: Arranged, decoded: Decoded, root: Path) -> Images:
    counts, names = decoded.notes["counts"], decoded.notes["names"]
    if arranged.shared:
        return replace(decoded.images((), config.size), names=tuple(names))
    if split == "test" and not counts["test"]:
        if arranged.test:
            raise InputError(f"{shown(root)}: none of the test pictures can be used; mend them")
        return replace(decoded.images((), config.size), labels=None, names=tuple(names))  # nothing to be scored on
    pretrained = counts["train"] + counts["unlabelled"]
    parts = {"pretrain": slice(pretrained), "train": slice(counts["train"]), "test": slice(pretrained, None)}
    return replace(decoded.images(arranged.classes, config.size, parts[split]), names=tuple(names[parts[split]]))


@dataclass
class _Tally:
    """A tally of the pictures of a folder, kept while they are decoded."""

    bad: list[Bad]
    counts: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    trained: set[int] = field(default_factory=set)  # classes of the training pictures
    first: dict[bytes, str] = field(default_factory=dict)  # the part in which pixels were first seen
    darkest: int = 255
    brightest: int = 0
    most_pages: int = 1
    highest: int | None = None

    def add(self, part: str, picture: "Picture", found: Found, label: int) -> None:
        self.names.append(found.path)
        self.sides.append(picture.side)
        if part == "train":
            self.trained.add(label)
        pixels = picture.pixels
        digest = hashlib.blake2b(pixels.data, digest_size=16).digest()
        darkest, brightest = int(pixels.min()), int(pixels.max())
        constant = bool((pixels == pixels[:, :1, :1]).all())
        self.counts[part] += 1
        self.counts["repeated"] += digest in self.first
        self.counts["test_in_train"] += part == "test" and self.first.get(digest, part) != part
        self.counts["constant"] += constant
        self.counts["faint"] += brightest - darkest <= FAINT and not constant
        self.counts["dropped"] += picture.dropped > 0
        self.counts["paged"] += picture.pages > 1
        self.counts["pages_unused"] += picture.pages - 1
        self.first.setdefault(digest, part)
        self.darkest, self.brightest = min(self.darkest, darkest), max(self.brightest, brightest)
        self.most_pages = max(self.most_pages, picture.pages)
        if picture.highest is not None:
            self.highest = max(self.highest or 0, picture.highest)


def _decode(config: Folder, root: Path, scanned: Scan, arranged: Arranged, writer: Writer) -> dict[str, Any]:
    """Decode every picture into the cache; notes what was left out, and what is worth knowing of the others."""
    from vergence.data.picture import WHOLE_RANGE

    top = WHOLE_RANGE
    tally = _decode_all(config, root, scanned, arranged, writer, top)
    if tally.highest is not None and tally.highest <= WHOLE_RANGE // 4:
        # as of a camera of 12 bits: known only when all have been seen, and so they are decoded once more
        top = (1 << max(8, tally.highest.bit_length())) - 1
        writer.restart()
        tally = _decode_all(config, root, scanned, arranged, writer, top)
    sides = tally.sides
    side = {"smallest": min(sides), "median": statistics.median_low(sides), "largest": max(sides)}
    counts = {part: tally.counts[part] for part in ("train", "unlabelled", "test")} | dict(tally.counts)
    values = {"darkest": tally.darkest, "brightest": tally.brightest, "pages_most": tally.most_pages}
    listing = [{"name": b.name, "reason": b.reason} for b in tally.bad]
    scaled = {"highest": tally.highest, "top": top}
    return {"counts": counts | values, "bad": listing, "names": tally.names, "side": side, "scaled": scaled}


def _decode_all(config: Folder, root: Path, scanned: Scan, arranged: Arranged, writer: Writer, top: int) -> _Tally:
    from vergence.data.picture import strict_pillow

    tally = _Tally(list(scanned.bad))
    parts = {"train": arranged.train, "unlabelled": arranged.unlabelled, "test": arranged.test}
    # each thread holds a whole picture; more than 16 would cost memory before they gain time
    with strict_pillow(), ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for part, pairs in parts.items():
            for good in _blocks(root, config.size, pairs, pool, tally.bad, top):
                pixels = np.stack([picture.pixels for picture, _, _ in good])
                writer.add(pixels, np.asarray([label for _, _, label in good], np.int64))
                for picture, found, label in good:
                    tally.add(part, picture, found, label)
    _judge(config, root, tally.bad, len(arranged.pairs) + len(scanned.bad))
    if lost := [name for number, name in enumerate(arranged.classes) if number not in tally.trained]:
        raise InputError(f"{shown(root)}: classes of which no training picture can be read: {listed(lost)}")
    return tally


def _blocks(
    root: Path, size: int, pairs: Pairs, pool: ThreadPoolExecutor, bad: list[Bad], top: int
) -> Iterator[list[tuple["Picture", Found, int]]]:
    """Pictures, their files and labels, some hundreds at a time; those that cannot be decoded go to `bad`."""
    from vergence.data.picture import BadPicture, Picture, decode

    def attempt(pair: tuple[Found, int]) -> Picture | Bad:
        try:
            return decode(root, pair[0], size, top)
        except BadPicture as error:
            return Bad(shown(pair[0].path), str(error))

    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        results = list(pool.map(attempt, block))
        bad.extend(result for result in results if isinstance(result, Bad))
        good = [(r, *pair) for r, pair in zip(results, block, strict=True) if not isinstance(r, Bad)]
        if good:
            yield good


def _judge(config: Folder, root: Path, bad: list[Bad], count: int) -> None:
    """Refuse what cannot be used."""
    named = listed([f"{b.name} ({b.reason})" for b in bad])
    if len(bad) == count:
        raise InputError(f"{shown(root)}: none of the {count} pictures can be used: {named}")
    if bad and config.bad_images == "fail":
        raise InputError(
            f"{shown(root)}: {len(bad)} of {count} pictures cannot be used: {named}; mend or remove them, "
            "or leave them out with --data.bad-images skip"
        )
    if len(bad) > MOST_BAD * count:
        most = f"more than the {MOST_BAD:.0%} that may be skipped"
        raise InputError(f"{shown(root)}: {len(bad)} of {count} pictures cannot be used, {most}: {named}")


def _facts(config: Folder, scanned: Scan, arranged: Arranged, decoded: Decoded) -> dict[str, Any]:
    """Return the facts of a folder's pictures, as `docs/data.md` lists them."""
    counts = decoded.notes["counts"]
    every = len(decoded.labels)
    pictures = {"pretrain": counts["train"] + counts["unlabelled"], "train": counts["train"], "test": counts["test"]}
    unread = [path for path in scanned.others if suffix_of(path) in LIKE_PICTURES]
    others = [path for path in scanned.others if suffix_of(path) not in LIKE_PICTURES]
    return {
        "pictures": dict.fromkeys(pictures, every) if arranged.shared else pictures,
        "classes": len(arranged.classes),
        "test": arranged.test_from,
        "side": decoded.notes["side"],
        "kept": config.size,
        "left_out": dict(Counter(bad["reason"] for bad in decoded.notes["bad"]).most_common()),
        "unread": by_suffix(unread),
        "others": dict(list(by_suffix(others).items())[:5]),
        "unused": dict(arranged.unused),
        "doubles": scanned.doubles,
        **{name: counts[name] for name in ("repeated", "constant", "test_in_train", "faint", "darkest", "brightest")},
        "scaled": decoded.notes["scaled"],
        "dropped": counts["dropped"],
        "pages": {"files": counts["paged"], "most": counts["pages_most"], "unused": counts["pages_unused"]},
        "cache": shown(decoded.folder),
    }


def _warn(root: Path, facts: Mapping[str, Any]) -> None:
    """Say at every start what of this a user would want to mend."""
    for remark in _remarks(facts):
        warnings.warn(f"{shown(root)}: {remark}", stacklevel=4)


def _remarks(facts: Mapping[str, Any]) -> Iterator[str]:
    every = facts["pictures"]["pretrain"] + (0 if facts["test"] is None else facts["pictures"]["test"])
    few = WORTH_SAYING * every
    if facts["test"] is None and facts["classes"]:
        few_each = "no class has three pictures, so that none can be held out to score on"
        yield f"{few_each}: all {every} are trained on, and nothing is scored; add a folder test/ to score"
    if left_out := sum(facts["left_out"].values()):
        yield f"{left_out} pictures that cannot be used were left out: {facts['cache']}/bad.json"
    if unread := facts["unread"]:
        yield f"not read, though they look like pictures: {told(unread)}; convert them to PNG or JPEG, or remove them"
    if unused := facts["unused"]:
        where = listed([f"{count} pictures in {folder}" for folder, count in unused.items()])
        scored = f"scored on {facts['test']}; " if str(facts["test"]).endswith("/") else ""
        yield f"{scored}not used: {where}; to train on them, move them to the training pictures or into unlabelled/"
    if twice := facts["doubles"]:
        yield f"{twice} files and folders are reached twice, by links; each is used once"
    if double := facts["test_in_train"]:
        yield f"{double} test pictures are among the training pictures too"
    if facts["constant"] > few or facts["repeated"] > few:
        said = {"are of one colour": facts["constant"], "repeat another pixel by pixel": facts["repeated"]}
        counted = "; ".join(f"{count} of {every} pictures {what}" for what, count in said.items() if count)
        yield f"{counted}; remove what is not meant"
    if (pages := facts["pages"])["unused"] > few:
        most = f"{pages['files']} files have more than one page or frame, {pages['most']} at most"
        yield f"{most}: only the first is used; save each page as a file of its own to use it"
    if dropped := facts["dropped"]:
        yield f"{dropped} pictures have bands besides colour and transparency, which are dropped"
    if (scaled := facts["scaled"])["highest"] is not None and scaled["top"] < 65_535:
        goes = f"no value of the gray pictures of 16 bits is above {scaled['highest']:,}"
        yield f"{goes}: 0 to {scaled['top']:,} is scaled to 0 to 255, not 0 to 65,535"
    differing = every - facts["constant"]
    if facts["faint"] > differing / 2 or (differing and facts["brightest"] - facts["darkest"] <= 2 * FAINT):
        uses = f"{facts['faint']} of {every} pictures use an eighth or less of the range from 0 to 255"
        values = f"all values lie between {facts['darkest']} and {facts['brightest']}"
        yield f"{uses}, and {values}; scale them to the full range if that is not meant"
