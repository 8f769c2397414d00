"""The page of `vergence similar`: pairs, clusters, a map and neighbours, with the pictures where they are there."""

from collections.abc import Sequence

import torch

from vergence.data.copies import KINDS
from vergence.files.names import shown
from vergence.report.content import Cloud, Facts, Figure, Gallery, Item, Page, Section, Thumbnail
from vergence.report.inspection import encoded
from vergence.runs.similar import Similar

MOST_PAIRS, MOST_CLUSTERS, OF_CLUSTER, MOST_QUERIES, OF_QUERY, MOST_POINTS = 40, 40, 8, 20, 10, 1500
"""What a page shows at most; the tables have all."""


def describe(found: Similar) -> list[tuple[str, str]]:
    """Return what was found in lines: labels and texts."""
    embeddings = found.embeddings
    n, width = embeddings.values.shape
    by = f", by {embeddings.model}" if embeddings.model else ""
    rows = {
        "embeddings": f"{n:,} pictures, {width:,} numbers each{by}",
        "pairs": _pairs_in_words(found),
        "clusters": f"{len(found.representatives):,}, the largest of {int((found.cluster == 0).sum()):,} pictures",
        "neighbours": f"{found.neighbours.shape[1]} of {len(found.queries):,} pictures each, by cosine",
    }
    return [*rows.items(), *(("remark", remark) for remark in found.remarks)]


def _pairs_in_words(found: Similar) -> str:
    count = len(found.pairs.first)
    if not found.by_pixels:
        return f"{count:,} alike, only by cosine: no picture was looked at; name them after the embeddings"
    kinds = torch.bincount(found.pairs.kind, minlength=len(KINDS)).tolist()
    parts = [f"{kinds[0]:,} of equal pixels", f"{kinds[1]:,} of copies", f"{sum(kinds[2:]):,} of a part of the other"]
    return f"{count:,} near repetitions: {', '.join(parts)}" if count else "no near repetitions"


def similar_page(found: Similar, command: str = "") -> Page:
    """Return the page of what was found."""
    sections = [Section("What was found", items=(Facts("found", tuple(describe(found))),))]
    if len(found.pairs.first):
        sections.append(Section("Pictures that repeat each other", items=(_pairs(found),)))
    sections.append(Section("Clusters", items=(_clusters(found),)))
    if found.map is not None:
        sections.append(Section("Map", items=(_map(found),)))
    sections.append(Section("Neighbours", items=(_neighbours(found),)))
    title = f"Similar pictures, by {found.embeddings.model}" if found.embeddings.model else "Similar pictures"
    return Page(title=title, lead=(), sections=tuple(sections), command=command)


def _pairs(found: Similar) -> Item:
    pairs = found.pairs
    by = pairs.agreement if found.by_pixels else found.pair_cosine
    order = by.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    groups = []
    for index in order:
        cosine = f"cosine {found.pair_cosine[index]:.3f}"
        said = cosine
        if found.by_pixels:
            said = f"{KINDS[int(pairs.kind[index])]}, agreement {pairs.agreement[index]:.3f}, {cosine}"
        groups.append((said, (int(pairs.first[index]), int(pairs.second[index]))))
    left = f"The first {len(order):,} of {len(pairs.first):,} pairs." if len(order) < len(pairs.first) else ""
    about = "Agreement is the correlation of both in fine detail, at the place where one shows the other."
    return _gallery(found, "pairs", " ".join(filter(None, (left, about if found.by_pixels else ""))), groups)


def _clusters(found: Similar) -> Item:
    groups = []
    for number, representative in enumerate(found.representatives.tolist()[:MOST_CLUSTERS]):
        members = (found.cluster == number).nonzero().flatten()
        near = members[found.distance[members].argsort(stable=True)]
        # the one nearest the centre, then others from near to far, in equal steps
        steps = torch.linspace(0, len(near) - 1, min(len(near), OF_CLUSTER)).long()
        chosen = [representative, *(index for index in near[steps].tolist() if index != representative)]
        groups.append((f"cluster {number}: {len(members):,} pictures", chosen[:OF_CLUSTER]))
    about = "Spherical k-means. The first picture is nearest the centre; the others go from near to far in equal steps."
    return _gallery(found, "clusters", about, groups)


def _neighbours(found: Similar) -> Item:
    paths = found.embeddings.paths
    groups = [
        (f"nearest to {shown(paths[query])}", [query, *indices[:OF_QUERY]])
        for query, indices in list(zip(found.queries.tolist(), found.neighbours.tolist(), strict=True))[:MOST_QUERIES]
    ]
    return _gallery(found, "neighbours", "The first picture is the one asked for.", groups)


def _map(found: Similar) -> Figure:
    assert found.map is not None
    n = len(found.map)
    kept = torch.linspace(0, n - 1, min(n, MOST_POINTS)).long().unique()
    labels = [found.embeddings.labels[index] or "no label" for index in kept.tolist()]
    clusters = [f"cluster {number}" for number in found.cluster[kept].tolist()]
    by_label = 1 < len({*labels}) <= MOST_CLUSTERS
    names = labels if by_label else clusters
    order = (
        sorted({*labels}) if by_label else list(dict.fromkeys(f"cluster {c}" for c in sorted(found.cluster.tolist())))
    )
    clouds: dict[str, list[tuple[float, float]]] = {name: [] for name in order}
    for name, (x, y) in zip(names, found.map[kept].tolist(), strict=True):
        clouds[name].append((x, y))
    what = "label" if by_label else "cluster"
    which = f"{len(kept):,} of {n:,} pictures, in equal steps" if len(kept) < n else f"All {n:,} pictures"
    caption = f"{which}; a point's colour and shape are its {what}'s. What is near is alike; the axes have no meaning."
    return Figure("map", "The embeddings in a plane", caption, Cloud(clouds))


def _gallery(found: Similar, slug: str, about: str, groups: Sequence[tuple[str, Sequence[int]]]) -> Item:
    """Return pictures in groups; only their names where there are no pictures."""
    if not found.pictures:
        paths = found.embeddings.paths
        return Facts(slug, tuple((head, ", ".join(shown(paths[index]) for index in group)) for head, group in groups))
    drawn = []
    for head, group in groups:
        pixels = [(index, found.pixels(index)) for index in group]
        small = [Thumbnail(encoded(p), shown(found.embeddings.paths[index])) for index, p in pixels if p is not None]
        drawn.append((head, tuple(small)))
    return Gallery(slug, about, tuple(drawn))
