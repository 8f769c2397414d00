"""What `vergence data` found: lines for the terminal, and a page with the pictures that they speak of."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from PIL import Image

from vergence.augment.ragged import shapes_of
from vergence.data import Inspection
from vergence.data.scan import told, unread
from vergence.files.names import listed, shown
from vergence.report.content import Bars, Facts, Figure, Gallery, Page, Section, Thumbnail

Block = list[tuple[str, str]]
"""Labels and what stands beside them, in the order in which they are read."""

IMBALANCE = 2.0
"""How many times the pictures of the smallest class the largest must have for it to be said."""

MOST_CLASSES, OF_CLASS, MOST_GROUPS, OF_GROUP, MOST_NAMED = 40, 8, 40, 6, 200
"""What a page shows at most: classes, pictures of each, groups of like pictures, pictures of each, bad pictures."""

_THUMBNAIL = 96
_BINS = 12


# --- in words ---------------------------------------------------------------------------------------------------------


def describe(found: Inspection) -> Block:
    """Return what was found in lines, as a run says it before its first step: labels and texts."""
    survey = found.survey
    rows = {
        "pictures": _pictures(found),
        "classes": _classes(found),
        "sizes": _sizes(found),
        "files": told(survey.suffixes),
        "not read": _not_read(survey.facts),
        "bad": _several([f"{bad.name} ({bad.reason})" for bad in survey.bad]),
        "one colour": _several([found.name(index) for index in found.one_colour]),
        "repeated": _groups(found, found.repeated, "pixel by pixel", " = "),
        "alike": _groups(found, found.near, "nearly", " ~ "),
        "leakage": _leakage(found),
        "compared": "; ".join(found.limits),
        "a run": _outcome(found),
    }
    block = [(label, text) for label, text in rows.items() if text]
    return block + [("remark", remark) for remark in survey.remarks]


def _pictures(found: Inspection) -> str:
    survey = found.survey
    parts = [f"{len(survey.pretrain):,} to train on"]
    if survey.test is not None:
        how = survey.facts.get("test") or survey.test.split_name
        parts.append(f"{len(survey.test):,} held out ({how})")
    return f"{' and '.join(parts)}, of {survey.where}"


def class_counts(found: Inspection) -> dict[str, int]:
    """Return how many labelled training pictures each class has, the most frequent first."""
    train = found.survey.train
    if train.labels is None:
        return {}
    counts = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    return dict(sorted(zip(train.classes, counts, strict=True), key=lambda item: -item[1]))


def _classes(found: Inspection) -> str:
    counts = class_counts(found)
    if not counts:
        return "none: these pictures have no labels"
    (largest, most), (smallest, least) = next(iter(counts.items())), [*counts.items()][-1]
    if least == most:
        return f"{len(counts):,}, each of {most:,} training pictures: {listed([*counts], 10)}"
    ends = f"{len(counts):,}, the largest {largest} ({most:,} training pictures), the smallest {smallest} ({least:,})"
    uneven = least * IMBALANCE <= most
    return f"{ends}: {most / max(1, least):.3g} times as many" if uneven else ends


def _sizes(found: Inspection) -> str:
    survey = found.survey
    shapes = torch.cat([shapes_of(images.pixels) for images in (survey.pretrain, survey.test) if images is not None])
    sides = shapes.amin(1)
    kept = {"smallest": int(sides.min()), "median": int(sides.median()), "largest": int(sides.max())}
    side = survey.facts.get("side") or kept
    if side["smallest"] == side["largest"]:
        said = f"every shorter side has {side['median']:,} px"
    else:
        said = f"shorter sides of {side['smallest']:,} to {side['largest']:,} px, median {side['median']:,}"
    if survey.facts.get("crops") == "square":
        return f"{said}; the middle square is used"
    ratio = shapes[:, 1].double() / shapes[:, 0]
    least, middle, most = float(ratio.min()), float(ratio.median()), float(ratio.max())
    if most - least < 0.005:
        return f"{said}; {'square' if abs(middle - 1) < 0.005 else f'{middle:.2f} times as wide as high'}"
    return f"{said}; width by height {least:.2f} to {most:.2f}, median {middle:.2f}"


def _not_read(facts: Mapping) -> str:
    others = facts.get("others") or {}
    parts = unread(facts.get("unread") or {})
    parts += [f"{told(others)} (no pictures by their suffix)"] if others else []
    parts += [f"{n:,} in {folder} (of no split that is used)" for folder, n in (facts.get("unused") or {}).items()]
    return "; ".join(parts)


def _several(names: Sequence[str]) -> str:
    return f"{len(names):,}: {listed([*map(shown, names)])}" if names else ""


def _groups(found: Inspection, groups: Sequence[Sequence[int]], what: str, sign: str) -> str:
    if not groups:
        return ""
    count = sum(len(group) - 1 for group in groups)
    named = listed([sign.join(map(shown, map(found.name, group[:2]))) for group in groups])
    repeat = "picture repeats another" if count == 1 else "pictures repeat another"
    return f"{count:,} {repeat}, {what}, in {len(groups):,} group{'' if len(groups) == 1 else 's'}: {named}"


def _leakage(found: Inspection) -> str:
    test = found.survey.test
    if test is None:
        return ""
    if not found.leaks:
        return f"none of the {len(test):,} test pictures repeats a training picture"
    exact = sum(leak.exact for leak in found.leaks)
    how = ", ".join(
        f"{n:,} {words}" for n, words in ((exact, "pixel by pixel"), (len(found.leaks) - exact, "nearly")) if n
    )
    signs = {True: "=", False: "~"}
    pairs = [f"{shown(found.name(k.test))} {signs[k.exact]} {shown(found.name(k.train))}" for k in found.leaks]
    repeat = "repeats" if len(pairs) == 1 else "repeat"
    return f"{len(pairs):,} of {len(test):,} test pictures {repeat} a training picture ({how}): {listed(pairs)}"


def _outcome(found: Inspection) -> str:
    survey = found.survey
    if survey.refused is not None:
        return f"would end before its first step: {survey.refused}"
    trains = f"would train on {len(survey.pretrain):,} pictures"
    if survey.unscored is not None or survey.test is None:
        return f"{trains}; it would not be scored, since {survey.unscored}"
    return f"{trains}, fit probes on {len(survey.train):,} and score them on {len(survey.test):,}"


# --- as a page --------------------------------------------------------------------------------------------------------


def inspection_page(found: Inspection, command: str = "") -> Page:
    """Return the page: the lines, how sizes and classes are distributed, and pictures of whatever was found."""
    block = describe(found)
    return Page(
        title=f"Pictures of {found.survey.where}",
        lead=tuple(f"A run {text}." for label, text in block if label == "a run"),
        sections=tuple(_sections(found, [row for row in block if row[0] != "a run"])),
        command=command,
    )


def _sections(found: Inspection, block: Block) -> Iterator[Section]:
    yield Section("What was found", items=(Facts("found", tuple(block)),))
    if figures := [*_distributions(found)]:
        yield Section("Sizes and classes", items=tuple(figures))
    yield Section("Samples", items=(_samples(found),))
    if bad := found.survey.bad:
        more = (f"The first {MOST_NAMED:,} of {len(bad):,}.",) if len(bad) > MOST_NAMED else ()
        rows = tuple((one.name, one.reason) for one in bad[:MOST_NAMED])
        yield Section("Bad pictures", more, (Facts("bad", rows),))
    if found.leaks:
        order = {True: "pixel by pixel", False: "nearly"}
        groups = [(f"{found.name(k.test)} repeats, {order[k.exact]}", (k.test, k.train)) for k in found.leaks]
        about = "The first of each pair is held out, the second is trained on."
        yield Section("Test pictures that are trained on", items=(_gallery(found, "leakage", about, groups),))
    for title, slug, groups in (
        ("Pictures that are equal, pixel by pixel", "repeated", found.repeated),
        ("Pictures that nearly repeat each other", "alike", found.near),
    ):
        if groups:
            headed = [(f"{len(group):,} pictures", group) for group in groups]
            about = "Pictures are joined if each repeats another one of its group."
            yield Section(title, items=(_gallery(found, slug, about, headed),))
    if found.one_colour:
        groups = [(f"{len(found.one_colour):,} pictures", found.one_colour)]
        yield Section("Pictures of one colour", items=(_gallery(found, "one-colour", "", groups),))


def _distributions(found: Inspection) -> Iterator[Figure]:
    if len(sides := found.survey.sides) > 1:
        bins = _binned(sides)
        caption = "How many pictures there are by the shorter side of their files; empty ranges are left out."
        bars = Bars(y="pictures", groups=tuple(bins), series={"pictures": tuple(bins.values())}, digits=0)
        yield Figure("sizes", "Shorter sides in pixels", caption, bars)
    if counts := class_counts(found):
        chosen = dict([*counts.items()][:MOST_CLASSES])
        which = (
            f"The {len(chosen):,} largest of {len(counts):,} classes" if len(chosen) < len(counts) else "All classes"
        )
        caption = f"{which}, by their labelled training pictures."
        bars = Bars(y="training pictures", groups=tuple(chosen), series={"all": tuple(chosen.values())}, digits=0)
        yield Figure("classes", "Classes", caption, bars)


def _binned(sides: Mapping[int, int]) -> dict[str, int]:
    """Return counts by ranges of sides whose bounds grow by a factor; by the sides themselves where there are few."""
    if len(sides) <= _BINS:
        return {f"{side:,}": sides[side] for side in sorted(sides)}
    low, high = min(sides), max(sides) + 1
    edges = sorted({round(low * (high / low) ** (i / _BINS)) for i in range(_BINS + 1)})
    bins = {}
    for start, end in pairwise(edges):
        if count := sum(n for side, n in sides.items() if start <= side < end):
            bins[f"{start:,} to {end - 1:,}" if end - 1 > start else f"{start:,}"] = count
    return bins


def _samples(found: Inspection) -> Gallery:
    """Return some pictures of each class, spread over its pictures; of pictures without labels, some of all."""
    survey = found.survey
    if survey.train.labels is None:
        count = len(survey.pretrain)
        chosen = torch.linspace(0, count - 1, min(count, 4 * OF_CLASS)).long().tolist()
        group = tuple(_thumbnail(found, index) for index in chosen)
        return Gallery("samples", "Pictures from the first to the last, in equal steps.", (("", group),))
    groups = []
    for name in [*class_counts(found)][:MOST_CLASSES]:
        members = (survey.train.labels == survey.train.classes.index(name)).nonzero().flatten()
        steps = torch.linspace(0, len(members) - 1, min(len(members), OF_CLASS)).long()
        named = survey.train.names
        pictures = [
            Thumbnail(encoded(survey.train.pixels[index]), f"{index:,}" if named is None else shown(named[index]))
            for index in map(int, members[steps])
        ]
        groups.append((f"{name} ({len(members):,})", tuple(pictures)))
    return Gallery("samples", "Training pictures of each class, in equal steps.", tuple(groups))


def _gallery(found: Inspection, slug: str, about: str, groups: Sequence[tuple[str, Iterable[int]]]) -> Gallery:
    shown_groups = tuple(
        (head, tuple(_thumbnail(found, index) for index in [*group][:OF_GROUP])) for head, group in groups[:MOST_GROUPS]
    )
    more = f"The first {MOST_GROUPS:,} of {len(groups):,} are shown." if len(groups) > MOST_GROUPS else ""
    return Gallery(slug, " ".join(filter(None, (about, more))), shown_groups)


def _thumbnail(found: Inspection, index: int) -> Thumbnail:
    return Thumbnail(encoded(found.pixels(index)), shown(found.name(index)))


def encoded(pixels: torch.Tensor) -> bytes:
    """Return a picture [3 h w] as a small WebP file, without loss where it has few pixels."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((2 * _THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=max(image.size) <= 32, quality=80)
    return buffer.getvalue()
