"""What a run would find in its pictures: how many there are, which are bad, and which repeat others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.augment.ragged import shapes_of
from vergence.config import Folder
from vergence.data import alike
from vergence.data.folder import read_again, remarks_on, split_of
from vergence.data.images import Images, unscored
from vergence.data.scan import Bad, by_suffix, suffix_of
from vergence.data.tally import refusal
from vergence.errors import InputError
from vergence.machine.randomness import generator

MOST_COMPARED = 100_000
"""The most pictures that are compared with each other: where there are more, the first of a fixed permutation."""


@dataclass(frozen=True)
class Survey:
    """What was read.

    Attributes:
        where: the pictures' name for people.
        pretrain: what views are cut from.
        train: what probes are fitted on.
        test: what is held out; None where nothing is.
        facts: as of `Images`.
        bad: what cannot be used.
        refused: why a run would end at its start; None where it would not.
        unscored: why a run would not score its probes; None where it would.
        remarks: what a run would warn of.
        suffixes: how many pictures there are by the suffix of their files; empty where they have no files.
        sides: how many pictures there are by the shorter side of their files in pixels; empty where it is not known.
    """

    where: str
    pretrain: Images
    train: Images
    test: Images | None
    facts: Mapping[str, Any]
    bad: tuple[Bad, ...] = ()
    refused: str | None = None
    unscored: str | None = None
    remarks: tuple[str, ...] = ()
    suffixes: Mapping[str, int] = field(default_factory=dict)
    sides: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Leak:
    """A test picture that repeats one that is trained on, by their indices; `exact`: pixel by pixel."""

    test: int
    train: int
    exact: bool


@dataclass(frozen=True)
class Inspection:
    """Pictures, looked at. An index is one of those that are trained on, then of those that are held out.

    Attributes:
        survey: what was read.
        one_colour: pictures of one colour.
        repeated: groups of pictures that are equal pixel by pixel.
        near: groups of pictures joined by near repetition; of those that are equal only the first is there.
        leaks: one for each test picture that repeats a training picture.
        limits: what the search left out, in sentences.
    """

    survey: Survey
    one_colour: tuple[int, ...]
    repeated: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    leaks: tuple[Leak, ...]
    limits: tuple[str, ...]

    def place(self, index: int) -> tuple[Images, int]:
        """Return the pictures that hold the one of an index, and its index among them."""
        count = len(self.survey.pretrain)
        if index < count or self.survey.test is None:
            return self.survey.pretrain, index
        return self.survey.test, index - count

    def name(self, index: int) -> str:
        """Return the name of a picture: its file's, or its number in its split."""
        images, own = self.place(index)
        if images.names is not None:
            return images.names[own]
        return f"{'training' if images is self.survey.pretrain else 'test'} picture {own:,}"

    def pixels(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """Return the pixels of a picture, as they are kept."""
        images, own = self.place(index)
        return images.pixels[own]


def survey_places(config: Folder, data_dir: Path | None, cache_dir: Path | None) -> Survey:
    """Return what a run would find in places; bad pictures are named and do not end it, if there are any others.

    Raises:
        InputError: no pictures, none that can be read, an arrangement that can be read in two ways.
    """
    task, read, pictures = read_again(config, data_dir, cache_dir)
    facts, bad = pictures.facts, tuple(Bad(**one) for one in read.notes["bad"])
    pretrain, train = split_of(pictures, "pretrain"), replace(split_of(pictures, "train"), facts=facts)
    refused = refusal(task, bad, set() if train.labels is None else {*train.labels.tolist()})
    test = why = None
    try:
        scored = split_of(pictures, "test")
        why = unscored(train, scored)
        test = scored if pictures.counts["test"] else None
    except InputError as error:
        refused = why = refused or str(error)
    names = [name for name in pictures.names if suffix_of(name)]
    return Survey(
        task.source.where,
        pretrain,
        train,
        test,
        facts,
        bad,
        refused,
        why,
        tuple(remarks_on(facts if refused is None else {**facts, "left_out": {}})),
        by_suffix(names),
        {int(side): count for side, count in read.notes.get("sides", {}).items()},
    )


def survey_splits(where: str, pretrain: Images, train: Images, test: Images) -> Survey:
    """Return what a run would find in the splits of a data set."""
    why = unscored(train, test)
    held_out = None if test.labels is None else test
    return Survey(where, pretrain, train, held_out, pretrain.facts, unscored=why)


def look_at(survey: Survey) -> Inspection:
    """Compare the pictures of a survey with each other.

    All are compared pixel by pixel; by their hashes and thumbnails at most `MOST_COMPARED`.
    """
    parts = [survey.pretrain] if survey.test is None else [survey.pretrain, survey.test]
    count, limits = sum(map(len, parts)), []
    repeated = alike.equal_groups([key for images in parts for key in images.keys])
    compared = torch.arange(count)
    if count > MOST_COMPARED:
        limits.append(f"{MOST_COMPARED:,} of the {count:,} pictures, chosen at random, were compared with each other")
        compared = torch.randperm(count, generator=generator(0, "inspect"))[:MOST_COMPARED].sort().values
    small, sides = _small(parts, compared)
    one_colour = _of_one_colour(parts, compared, small)
    if tiny := int((sides < alike.LEAST).sum()):
        limits.append(f"{tiny:,} pictures with a side of less than {alike.LEAST} px were compared pixel by pixel only")
    again = torch.tensor([index for group in repeated for index in group[1:]], dtype=torch.int64)
    first = ~torch.isin(compared, again)
    found = alike.near_pairs(small[first], sides[first])
    if not found.complete:
        limits.append(f"the search ended after {alike.MOST_PAIRS:,} pairs of like pictures")
    own = compared[first]
    near = [*zip(own[found.first].tolist(), own[found.second].tolist(), strict=True)]
    return Inspection(
        survey,
        tuple(one_colour),
        tuple(map(tuple, repeated)),
        tuple(map(tuple, alike.groups_of(near))),
        tuple(_leaks(len(survey.pretrain), repeated, near)),
        tuple(limits),
    )


def _within(parts: Sequence[Images], indices: Int64[Tensor, " k"]) -> Iterator[tuple[Images, Int64[Tensor, " j"]]]:
    """Yield each part with the sorted indices that are in it, as its own."""
    start = 0
    for images in parts:
        yield images, indices[(indices >= start) & (indices < start + len(images))] - start
        start += len(images)


def _small(
    parts: Sequence[Images], indices: Int64[Tensor, " k"]
) -> tuple[UInt8[Tensor, "k 3 32 32"], Int64[Tensor, " k"]]:
    """Return thumbnails and shorter sides of some pictures, by their sorted indices."""
    small, sides = [], []
    for images, own in _within(parts, indices):
        pixels = images.pixels if len(own) == len(images) else images.pixels[own]
        small.append(alike.thumbnails(pixels))
        sides.append(shapes_of(pixels).amin(1))
    return torch.cat(small), torch.cat(sides)


def _of_one_colour(
    parts: Sequence[Images], indices: Int64[Tensor, " k"], small: UInt8[Tensor, "k 3 32 32"]
) -> list[int]:
    maybe = indices[(small == small[:, :, :1, :1]).flatten(1).all(1)]
    found, start = [], 0
    for images, own in _within(parts, maybe):
        for index in own.tolist():
            pixels = images.pixels[index]
            if (pixels == pixels[:, :1, :1]).all():
                found.append(start + index)
        start += len(images)
    return found


def _leaks(trained: int, repeated: Sequence[Sequence[int]], near: Sequence[tuple[int, int]]) -> list[Leak]:
    """Return one leak for each test picture that repeats a training picture, exactly if there is one such.

    Args:
        trained: how many pictures are trained on: an index from there on is a test picture's.
        repeated: groups of equal pictures.
        near: pairs, each of the first pictures of such groups or of pictures that equal no other.
    """
    equal = {group[0]: group for group in repeated}
    leaks: dict[int, Leak] = {}

    def add(tests: Sequence[int], trains: Sequence[int], exact: bool) -> None:
        if (train := min(trains)) < trained:
            for test in tests:
                if test >= trained:
                    leaks.setdefault(test, Leak(test, train, exact))

    for group in repeated:
        add(group, group, exact=True)
    for one, other in near:
        both = equal.get(one, (one,)), equal.get(other, (other,))
        add(*both, exact=False)
        add(*reversed(both), exact=False)
    return [leaks[test] for test in sorted(leaks)]
