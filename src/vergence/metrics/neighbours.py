"""Nearest rows by cosine, exactly, by blocks: memory does not grow with the number of pairs."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vergence.errors import InputError

Search = Literal["exact", "faiss"]

_BLOCK, _TILE = 1024, 65_536


def nearest(
    queries: Float[Tensor, "q d"],
    bank: Float[Tensor, "n d"],
    k: int,
    *,
    among_themselves: bool = False,
    tile: int = _TILE,
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Return the products of each query with its k nearest rows of a bank, the greatest first, and their places.

    Args:
        queries: rows of length 1, for products that are cosines in [-1, 1].
        bank: likewise.
        k: at most n, or n - 1 among themselves.
        among_themselves: the queries are the bank; no row is its own neighbour.
        tile: rows of the bank that are looked at together.

    >>> nearest(torch.eye(3), torch.eye(3), 1)[1].flatten().tolist()
    [0, 1, 2]
    """
    best = queries.new_full((len(queries), k), -torch.inf)
    places = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
    for first in range(0, len(bank), tile):
        columns = bank[first : first + tile].T.contiguous()
        for start in range(0, len(queries), _BLOCK):
            rows = slice(start, start + _BLOCK)
            product = queries[rows] @ columns
            if among_themselves:
                own = torch.arange(start, start + len(product), device=queries.device)
                here = (own >= first) & (own < first + columns.shape[1])
                product[here.nonzero().flatten(), own[here] - first] = -torch.inf
            values, found = product.topk(min(k, columns.shape[1]), dim=1)
            values, found = torch.cat([best[rows], values], 1), torch.cat([places[rows], found + first], 1)
            best[rows], order = values.topk(k, dim=1)
            places[rows] = found.gather(1, order)
    return best, places


def nearest_by(
    search: Search, queries: Float[Tensor, "q d"], bank: Float[Tensor, "n d"], k: int
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Return what `nearest` does, exactly or as FAISS finds it: by cells, of which it looks into some.

    Raises:
        InputError: faiss is not installed.
    """
    if search == "exact":
        return nearest(queries, bank, k)
    try:
        import faiss  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("--search faiss: faiss is not installed: pip install 'vergence[faiss]'") from error
    cells = max(1, min(round(4 * len(bank) ** 0.5), len(bank) // 39))  # FAISS asks for 39 rows a cell
    coarse = faiss.IndexFlatIP(bank.shape[1])
    index = faiss.IndexIVFFlat(coarse, bank.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    rows = bank.numpy()
    index.train(rows)
    index.add(rows)
    index.nprobe = max(1, min(cells, 32))
    cosine, places = index.search(queries.numpy(), k)
    return torch.from_numpy(cosine), torch.from_numpy(places)
