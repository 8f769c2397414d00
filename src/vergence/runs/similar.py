"""Pictures that are alike by their embeddings: neighbours, near repetitions, clusters and a map; and their tables."""

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vergence.augment import Ragged
from vergence.config import Data
from vergence.config.spelling import closest
from vergence.data import Images, load
from vergence.data.copies import AGREEING, KINDS, Copies, copies
from vergence.data.crops import MOST_SEARCHED
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.embeddings import Embeddings
from vergence.files.names import shown
from vergence.machine.filters import own_filters
from vergence.machine.randomness import generator
from vergence.metrics.neighbours import Search, nearest, nearest_by

Map = Literal["pca", "umap", "none"]

BY_COSINE = 0.99
"""The cosine from which on pictures are called alike where there are no pixels to look at."""

MOST_FITTED = 50_000
"""Pictures that centres of clusters are fitted on at most, chosen at random; all are then assigned."""

REPRESENTATIVES = 8
"""Pictures whose neighbours are shown if none are asked for: the representatives of the largest clusters."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of embeddings.

    Attributes:
        of: paths of pictures whose neighbours are wanted; none: a few representatives.
        neighbours: of each, at most n - 1.
        clusters: how many; None: the square root of n/2, at most 40.
        map: how the plane is found.
        threshold: of pairs; None: `AGREEING` for agreement in pixels, `BY_COSINE` without pictures.
        seed: of the clusters and of UMAP.
        search: exact, or by FAISS.
    """

    of: tuple[str, ...] = ()
    neighbours: int = 10
    clusters: int | None = None
    map: Map = "pca"
    threshold: float | None = None
    seed: int = 0
    search: Search = "exact"


@dataclass(frozen=True, kw_only=True)
class Similar:
    """What was found; pictures are told by their indices in the order of paths.

    Attributes:
        embeddings: what was compared.
        pictures: of which there are pixels, by index: the split and the place in it.
        images: the splits.
        queries: whose neighbours follow, [q].
        neighbours: of each, the nearest first, [q k].
        cosine: of each with its neighbours, [q k].
        pairs: of near repetitions.
        pair_cosine: of each pair, [m].
        by_pixels: whether pairs were confirmed on pixels; otherwise only by cosine.
        cluster: of each picture, [n]; the largest is 0.
        distance: of each from the centre of its cluster, 1 less the cosine, [n].
        representatives: of each cluster the picture nearest its centre, [c].
        map: points, [n 2]; None where none was wanted.
        remarks: what was left out, a sentence each.
    """

    embeddings: Embeddings
    pictures: Mapping[int, tuple[int, int]]
    images: Sequence[Images]
    queries: Int64[Tensor, " q"]
    neighbours: Int64[Tensor, "q k"]
    cosine: Float[Tensor, "q k"]
    pairs: Copies
    pair_cosine: Float[Tensor, " m"]
    by_pixels: bool
    cluster: Int64[Tensor, " n"]
    distance: Float[Tensor, " n"]
    representatives: Int64[Tensor, " c"]
    map: Float[Tensor, "n 2"] | None
    remarks: tuple[str, ...] = field(default=())

    def pixels(self, index: int) -> UInt8[Tensor, "3 h w"] | None:
        """Return a picture; None where there is none."""
        if index not in self.pictures:
            return None
        split, own = self.pictures[index]
        return self.images[split].pixels[own]


def similar(
    embeddings: Embeddings, asked: Asked = Asked(), *, data: Data | None = None, data_dir: Path | str | None = None
) -> Similar:
    """Return neighbours, near repetitions, clusters and a map of pictures.

    Args:
        embeddings: of the pictures.
        asked: how many of what.
        data: the pictures, for their pixels; None: everything goes by cosine.
        data_dir: as of `vergence.data.load`.

    Raises:
        InputError: a path is not among them, more clusters are asked for than there are pictures, none of the paths is
            a picture of `data`, or a package is missing.
    """
    n, place = len(embeddings.paths), {path: index for index, path in enumerate(embeddings.paths)}
    for path in asked.of:
        if path not in place:
            near = closest(path, place)
            meant = f"did you mean '{shown(near)}'?" if near else f"paths are such as {shown(embeddings.paths[0])}"
            raise InputError(f"--of: {shown(path)}: the embeddings have no such path; {meant}")
    count = asked.clusters or max(1, min(40, round((n / 2) ** 0.5)))
    if count > n:
        raise InputError(f"--clusters: {count:,} are more than the {n:,} pictures")
    images, pictures, remarks = ([], {}, []) if data is None else _pictures(data, data_dir, place)
    unit = F.normalize(torch.from_numpy(embeddings.values), dim=1)
    k = min(asked.neighbours, n - 1)
    everyone, cosine = _neighbours(unit, k, asked.search)
    pairs, pair_cosine = _pairs(unit, everyone, cosine, asked.threshold, images, pictures, remarks)
    cluster, distance, representatives = _clusters(unit, count, asked.seed)
    queries = torch.tensor([place[path] for path in asked.of], dtype=torch.int64)
    queries = queries if asked.of else representatives[:REPRESENTATIVES]
    return Similar(
        embeddings=embeddings,
        pictures=pictures,
        images=images,
        queries=queries,
        neighbours=everyone[queries],
        cosine=cosine[queries],
        pairs=pairs,
        pair_cosine=pair_cosine,
        by_pixels=data is not None,
        cluster=cluster,
        distance=distance,
        representatives=representatives,
        map=_map(unit, asked.map, asked.seed),
        remarks=tuple(remarks),
    )


def _pictures(
    data: Data, data_dir: Path | str | None, place: Mapping[str, int]
) -> tuple[list[Images], dict[int, tuple[int, int]], list[str]]:
    """Return the splits of the pictures, and where in them each embedding's picture is."""
    images = [load(data, split, data_dir=data_dir) for split in ("pretrain", "test")]
    found: dict[int, tuple[int, int]] = {}
    for split, some in enumerate(images):
        for own, name in enumerate(some.names or ()):
            if (index := place.get(name)) is not None:
                found.setdefault(index, (split, own))
    if not found:
        there = next((some.names[0] for some in images if some.names), None)
        advice = "no picture there has a path" if there is None else f"there is {shown(there)}"
        raise InputError(f"none of the embeddings' paths is there: {shown(next(iter(place)))}; {advice}")
    lacking = len(place) - len(found)
    remarks = [f"{lacking:,} of the {len(place):,} embeddings have no picture there"] if lacking else []
    return images, found, remarks


def _neighbours(unit: Float[Tensor, "n d"], k: int, search: Search) -> tuple[Int64[Tensor, "n k"], Tensor]:
    """Return the neighbours of every picture and their cosines."""
    if search == "exact":
        cosine, found = nearest(unit, unit, k, among_themselves=True)
        return found, cosine
    cosine, found = nearest_by(search, unit, unit, k + 1)
    cosine[found == torch.arange(len(unit))[:, None]] = -torch.inf
    cosine, order = cosine.topk(k, dim=1)
    return found.gather(1, order), cosine


def _pairs(
    unit: Float[Tensor, "n d"],
    neighbours: Int64[Tensor, "n k"],
    cosine: Float[Tensor, "n k"],
    threshold: float | None,
    images: Sequence[Images],
    pictures: Mapping[int, tuple[int, int]],
    remarks: list[str],
) -> tuple[Copies, Float[Tensor, " m"]]:
    if not images:
        close = cosine >= (BY_COSINE if threshold is None else threshold)
        row, rank = close.nonzero().unbind(1)
        both = torch.stack([row, neighbours[row, rank]], 1).sort(1).values.unique(dim=0)
        empty = torch.full((len(both),), -1)
        found = Copies(both[:, 0], both[:, 1], empty, empty.float(), empty)
    else:
        own = torch.tensor(sorted(pictures))
        where = torch.full((len(unit),), -1)
        where[own] = torch.arange(len(own))
        candidates = torch.stack([where[:, None].expand_as(neighbours), where[neighbours]], 2).flatten(0, 1)
        candidates = candidates[(candidates >= 0).all(1)]
        pixels, keys = _joined(images, [pictures[index] for index in own.tolist()])
        if len(own) > MOST_SEARCHED:
            remarks.append(f"of more than {MOST_SEARCHED:,} pictures parts of others are sought among neighbours only")
        found = copies(pixels, keys, candidates, AGREEING if threshold is None else threshold)
        found = found._replace(first=own[found.first], second=own[found.second])
    return found, (unit[found.first] * unit[found.second]).sum(1)


def _joined(images: Sequence[Images], places: Sequence[tuple[int, int]]) -> tuple[Tensor | Ragged, list[bytes]]:
    """Return pictures of several splits together, in the order of their places, and a key for the pixels of each."""
    keys = [images[split].keys[own] for split, own in places]
    tensors = [some.pixels for some in images if isinstance(some.pixels, Tensor)]
    if len(tensors) == len(images):
        return torch.stack([tensors[split][own] for split, own in places]), keys
    parts = [some.pixels for some in images if isinstance(some.pixels, Ragged)]
    shapes = torch.stack([parts[split].shapes[own] for split, own in places])

    def decode(index: int, factor: int) -> UInt8[Tensor, "3 h w"]:
        split, own = places[index]
        return parts[split].decode(int(parts[split].indices[own]), factor)

    return Ragged(decode, shapes), keys


def _clusters(
    unit: Float[Tensor, "n d"], count: int, seed: int
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"], Int64[Tensor, " c"]]:
    """Return the cluster of each picture, its distance from the centre, and the picture nearest each centre."""
    from sklearn.cluster import KMeans

    some = unit
    if len(unit) > MOST_FITTED:
        some = unit[torch.randperm(len(unit), generator=generator(seed, "clusters"))[:MOST_FITTED]]
    with own_filters():
        warnings.simplefilter("ignore")  # of fewer different pictures than clusters: the others stay empty
        fitted = KMeans(count, random_state=seed).fit(some.numpy())
    centres = F.normalize(torch.from_numpy(fitted.cluster_centers_).to(unit.dtype), dim=1)
    cosine, cluster = (found[:, 0] for found in nearest(unit, centres, 1))
    sizes = torch.bincount(cluster, minlength=count)
    order = sizes.argsort(descending=True, stable=True)[: int((sizes > 0).sum())]
    cluster = torch.empty_like(order.new_empty(count)).scatter_(0, order, torch.arange(len(order)))[cluster]
    nearest_rows = [int(torch.where(cluster == number, cosine, -2.0).argmax()) for number in range(len(order))]
    return cluster, (1 - cosine).clamp_min(0), torch.tensor(nearest_rows)


def _map(unit: Float[Tensor, "n d"], how: Map, seed: int) -> Float[Tensor, "n 2"] | None:
    if how == "none":
        return None
    if how == "umap":
        return _umap(unit, seed)
    centre = unit.double().mean(0)
    square = sum(
        ((part.double() - centre).T @ (part.double() - centre) for part in unit.split(65_536)), torch.zeros(())
    )
    axes = torch.linalg.eigh(square).eigenvectors[:, -2:].flip(1)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # an eigenvector has no sign of its own
    points = (unit - centre.float()) @ axes.float()
    return F.pad(points, (0, 2 - points.shape[1]))


def _umap(unit: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n 2"]:
    if len(unit) < 5:
        raise InputError(f"--map umap: needs five pictures or more, not {len(unit)}; take --map pca")
    with own_filters():
        warnings.simplefilter("ignore")  # of packages that it could use, and of threads that a seed forbids
        try:
            import umap  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError("--map umap: umap-learn is not installed: pip install 'vergence[umap]'") from error
        near = min(15, len(unit) - 1)
        start = "spectral" if len(unit) > 50 else "random"
        reduce = umap.UMAP(n_neighbors=near, metric="cosine", random_state=seed, n_jobs=1, init=start)
        return torch.from_numpy(np.asarray(reduce.fit_transform(unit.numpy()), np.float32))


# --- tables -----------------------------------------------------------------------------------------------------------


def write_tables(found: Similar, folder: Path) -> None:
    """Write `neighbours.csv`, `pairs.csv`, `clusters.csv` and, where there is a map, `map.csv` into a folder."""
    for name, rows in tables(found).items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        durable.write_file(folder / f"{name}.csv", text.getvalue().encode("utf-8", "surrogateescape"))


def tables(found: Similar) -> dict[str, list[tuple[Any, ...]]]:
    """Return the tables by their names, each with its head."""
    paths, pairs = found.embeddings.paths, found.pairs
    per_query = zip(found.queries.tolist(), found.neighbours.tolist(), found.cosine.tolist(), strict=True)
    central = {*found.representatives.tolist()}
    pixels = zip(pairs.hash_distance.tolist(), pairs.agreement.tolist(), pairs.kind.tolist(), strict=True)
    told = [
        (distance, f"{agreement:.4f}", KINDS[kind]) if kind >= 0 else ("", "", "")
        for distance, agreement, kind in pixels
    ]
    rows: dict[str, list[tuple[Any, ...]]] = {
        "neighbours": [
            ("path", "rank", "neighbour", "cosine"),
            *(
                (paths[query], rank, paths[index], f"{cosine:.6f}")
                for query, indices, cosines in per_query
                for rank, (index, cosine) in enumerate(zip(indices, cosines, strict=True), 1)
            ),
        ],
        "pairs": [
            ("first", "second", "cosine", "hash_distance", "agreement", "kind"),
            *(
                (paths[first], paths[second], f"{cosine:.6f}", *about)
                for first, second, cosine, about in zip(
                    pairs.first.tolist(), pairs.second.tolist(), found.pair_cosine.tolist(), told, strict=True
                )
            ),
        ],
        "clusters": [
            ("path", "cluster", "distance", "representative"),
            *(
                (path, number, f"{distance:.6f}", "yes" if index in central else "no")
                for index, (path, number, distance) in enumerate(
                    zip(paths, found.cluster.tolist(), found.distance.tolist(), strict=True)
                )
            ),
        ],
    }
    if found.map is not None:
        points = zip(paths, found.map.tolist(), strict=True)
        rows["map"] = [("path", "x", "y"), *((path, f"{x:.6f}", f"{y:.6f}") for path, (x, y) in points)]
    return rows
