"""Nearest rows are those of the whole table of products, whatever the blocks."""

import sys

import pytest
import torch
import torch.nn.functional as F

from vergence.errors import InputError
from vergence.metrics import neighbours
from vergence.metrics.neighbours import nearest, nearest_by


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("tile", [7, 64, 1000])
def test_blocks_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 13)
    queries, bank = rows(40), rows(100, 1)
    cosine, places = nearest(queries, bank, 9, tile=tile)
    expected = (queries @ bank.T).topk(9)
    torch.testing.assert_close(cosine, expected.values)
    assert torch.equal(places, expected.indices)


@pytest.mark.parametrize("tile", [7, 1000])
def test_no_row_is_its_own_neighbour(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 13)
    bank = rows(50)
    product = bank @ bank.T
    product.fill_diagonal_(-torch.inf)
    cosine, places = nearest(bank, bank, 49, among_themselves=True, tile=tile)
    assert torch.equal(places, product.topk(49).indices)
    assert cosine.isfinite().all()


def test_faiss_finds_nearly_all_that_is_there() -> None:
    pytest.importorskip("faiss")
    bank = rows(3000)
    exact, found = (nearest_by(search, bank[:200], bank, 10)[1] for search in ("exact", "faiss"))
    same = (exact[:, :, None] == found[:, None, :]).any(2).double().mean()
    assert same > 0.9
    assert torch.equal(found[:, 0], torch.arange(200))


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'vergence\[faiss\]'"):
        nearest_by("faiss", rows(4), rows(4), 1)
