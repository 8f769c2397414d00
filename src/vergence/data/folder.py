"""A folder of pictures, labelled by subfolder or not at all."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence import register
from vergence.config import Folder
from vergence.data import index
from vergence.data.cache import default_cache_dir
from vergence.data.content import WHOLE_RANGE
from vergence.data.images import Images
from vergence.data.index import Pictures
from vergence.data.scan import LIKE_PICTURES, Scan, by_suffix, suffix_of, unread
from vergence.data.sources import source_of
from vergence.data.splits import Split
from vergence.data.tally import FAINT, Read, Task
from vergence.errors import InputError
from vergence.files.names import listed, shown
from vergence.files.run_folder import places_of

WORTH_SAYING = 0.01
"""The share of pictures above which it is said that they are of one colour, repeat another, or hold more pages."""


@register.data(Folder)
def load(config: Folder, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Images:
    """A split of a folder; see `docs/data.md` for what makes a split or a class.

    Raises:
        InputError: no folder, no pictures, an arrangement that can be read in two ways, or bad pictures: any of them,
            or more than `MOST_BAD` of all if they are to be skipped.
    """
    pictures = _pictures(config, places_of(config, data_dir), cache_dir or default_cache_dir())
    for remark in remarks_on(pictures.facts):  # what a user would want to mend, at every start
        warnings.warn(f"{pictures.where}: {remark}", stacklevel=3)
    return replace(split_of(pictures, split), facts=pictures.facts)


def read_again(config: Folder, data_dir: Path | None, cache_dir: Path | None) -> tuple[Task, Read, Pictures]:
    """Return what lies in the places now, all but the bad pictures, however many; other errors as of `load`."""
    roots = places_of(config, data_dir)
    task = Task(config, roots, source_of(config, roots), cache_dir or default_cache_dir(), strict=False)
    read = _read(task)
    return task, read, _found(task, read)


def _pictures(config: Folder, roots: Sequence[Path], cache_dir: Path) -> Pictures:
    """Return the pictures that lie in the places, read where they have not been."""
    if config.crops == "whole" and (found := index.opened(config, roots, cache_dir)):
        return found
    started = index.clock()
    task = Task(config, roots, source_of(config, roots), cache_dir)
    read = _read(task)
    found = _found(task, read)
    index.keep(found, read, task, started)
    return found


def _read(task: Task) -> Read:
    from vergence.data.squares import read_squares
    from vergence.data.whole import read_whole

    return (read_whole if task.config.crops == "whole" else read_squares)(task)


def _found(task: Task, read: Read) -> Pictures:
    return Pictures(
        where=task.source.where,
        images=read.images,
        names=tuple(read.notes["names"]),
        counts={part: read.notes["counts"][part] for part in ("train", "unlabelled", "test")},
        classes=task.arranged.classes,
        shared=task.arranged.shared,
        scored=bool(task.arranged.test),
        facts=facts_of(task, read),
    )


def split_of(pictures: Pictures, split: Split) -> Images:
    """Return a split of pictures that were read, without their facts.

    Raises:
        InputError: none of its test pictures could be read.
    """
    counts, names, every = pictures.counts, pictures.names, slice(None)
    if pictures.shared:
        return replace(pictures.images(every), names=names)
    if split == "test" and not counts["test"]:
        if pictures.scored:
            raise InputError(f"{pictures.where}: none of the test pictures can be used; mend them")
        return replace(pictures.images(every), labels=None, names=names)  # nothing to be scored on
    pretrained = counts["train"] + counts["unlabelled"]
    parts = {"pretrain": slice(pretrained), "train": slice(counts["train"]), "test": slice(pretrained, None)}
    return replace(pictures.images(parts[split]), classes=pictures.classes, names=names[parts[split]])


def facts_of(task: Task, read: Read) -> dict[str, Any]:
    """Return the facts of a folder's pictures, as `docs/data.md` lists them."""
    scanned, arranged, notes = task.scanned, task.arranged, read.notes
    counts = notes["counts"]
    every = len(notes["names"])
    pictures = {"pretrain": counts["train"] + counts["unlabelled"], "train": counts["train"], "test": counts["test"]}
    like_pictures = [path for path in scanned.others if suffix_of(path) in LIKE_PICTURES]
    others = [path for path in scanned.others if suffix_of(path) not in LIKE_PICTURES]
    return {
        "pictures": dict.fromkeys(pictures, every) if arranged.shared else pictures,
        "classes": len(arranged.classes),
        "test": arranged.test_from,
        "side": notes["side"],
        "kept": task.config.size if task.config.crops == "square" else task.config.kept,
        "crops": task.config.crops,
        "left_out": dict(Counter(bad["reason"] for bad in notes["bad"]).most_common()),
        "unread": by_suffix(like_pictures),
        "others": dict(list(by_suffix(others).items())[:5]),
        "unused": dict(arranged.unused),
        "doubles": scanned.doubles,
        **{name: counts[name] for name in ("repeated", "constant", "test_in_train", "faint", "darkest", "brightest")},
        "scaled": notes["scaled"] | _stated(task),
        "dropped": counts["dropped"],
        "pages": {"files": counts["paged"], "most": counts["pages_most"], "unused": counts["pages_unused"]}
        | _used_pages(scanned),
        "cache": shown(read.folder),
    }


def _stated(task: Task) -> dict[str, float]:
    """The values that become 0 and 255, where the settings say them."""
    return {} if task.config.span is None else dict(zip(("low", "top"), task.config.span, strict=True))


def _used_pages(scanned: Scan) -> dict[str, int]:
    """How many pictures are pages of a file, where there are any."""
    used = sum(found.page > 0 for found in scanned.found)
    return {"used": used} if used else {}


def remarks_on(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a user would want to mend of a folder's pictures, a sentence each."""
    every = facts["pictures"]["pretrain"] + (0 if facts["test"] is None else facts["pictures"]["test"])
    few = WORTH_SAYING * every
    if facts["test"] is None and facts["classes"]:
        few_each = "no class has three pictures, so that none can be held out to score on"
        yield f"{few_each}: all {every} are trained on, and nothing is scored; add a folder test/ to score"
    if left_out := sum(facts["left_out"].values()):
        reasons = listed([f"{count} ({reason})" for reason, count in facts["left_out"].items()])
        yield f"{left_out} pictures that cannot be used were left out: {reasons}; {facts['cache']}/bad.json"
    if lines := unread(facts["unread"]):
        yield f"not read, though they look like pictures: {'; '.join(lines)}"
    if unused := facts["unused"]:
        where = listed([f"{count} pictures in {folder}" for folder, count in unused.items()])
        published = str(facts["test"]).startswith("split ") or str(facts["test"]).endswith("/")
        scored = f"scored on {facts['test']}; " if published else ""
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
        yield f"{most}: only the first is used; --data.pages all makes each a picture"
    if used := pages.get("used"):
        held_out = facts["test"] is not None and not facts["test"].endswith("/")
        beside = "; pages of one file may be trained on and scored on" if held_out else ""
        yield f"{used} of {every} pictures are pages of files, such as stack.tif#3, each a picture of its own{beside}"
    if dropped := facts["dropped"]:
        yield f"{dropped} pictures have bands besides colour and transparency, which are dropped"
    if (scaled := facts["scaled"])["highest"] is not None and "low" in scaled:
        if scaled["highest"] > scaled["top"]:
            yield f"values up to {scaled['highest']:,} are above {scaled['top']:,.10g} of --data.range: they become 255"
    elif scaled["highest"] is not None and scaled["top"] < WHOLE_RANGE:
        goes = f"no value that is read with 16 bits is above {scaled['highest']:,}"
        another = "--data.range full, or LOW,HIGH, has another range scaled"
        yield f"{goes}: 0 to {scaled['top']:,} is scaled to 0 to 255, not 0 to 65,535; {another}"
    differing = every - facts["constant"]
    if facts["faint"] > differing / 2 or (differing and facts["brightest"] - facts["darkest"] <= 2 * FAINT):
        uses = f"{facts['faint']} of {every} pictures use an eighth or less of the range from 0 to 255"
        values = f"all values lie between {facts['darkest']} and {facts['brightest']}"
        yield f"{uses}, and {values}; scale them to the full range if that is not meant"
