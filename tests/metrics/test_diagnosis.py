"""The numbers by which encoders are compared: published reference values, limits, and what each of them misses."""

import numpy as np
import pytest
import torch

from encoder_sets import COLUMNS, SETS, D, N, measured, written
from repository import ROOT
from vergence.metrics import diagnosis as d

REFERENCE = {
    "isotropic": (62.89, 56.50, 35.74, 0.563, 0.561, 59.43, 0.167, -3.875),
    "8 directions": (35.46, 9.10, 7.42, 0.573, 0.755, 8.42, 0.201, -3.219),
    "power law": (56.23, 16.93, 5.65, 0.976, 0.638, 28.81, 0.258, -3.646),
    "common direction": (29.77, 56.64, 36.10, 0.557, 0.561, 59.66, 0.010, -0.250),
    "collapsed": (1.11, 56.45, 34.97, 0.561, 0.561, 59.86, 0.000, 0.000),
}
"""Computed by others' code on the same draws; alpha fitted from the eleventh to the last eigenvalue."""


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name: str) -> None:
    found = measured(SETS[name])
    for column, expected in zip(COLUMNS, REFERENCE[name], strict=True):
        rounding = 0.0051 if abs(expected) >= 1 and column != "uniformity" else 0.00051
        assert found[column] == pytest.approx(expected, rel=1e-3, abs=rounding), column


def test_no_centred_number_tells_a_collapsed_encoder_from_a_healthy_one() -> None:
    healthy, collapsed = SETS["isotropic"][:, 0], SETS["collapsed"][:, 0]
    for centred in (d.participation_ratio, d.nesum, d.explained_variance_auc):
        assert float(centred(collapsed)) == pytest.approx(float(centred(healthy)), rel=0.05)
    for plain, at_most in ((d.rankme, 1.2), (d.stable_rank, 1.01)):
        assert float(plain(collapsed)) < at_most < 20 < float(plain(healthy))
    assert float(d.mean_cosine(collapsed)) > 0.999
    assert abs(float(d.mean_cosine(healthy))) < 0.01


def test_lidar_alone_sees_through_the_noise_of_views() -> None:
    views = SETS["8 directions"]
    assert float(d.rankme(views[:, 0])) > 30
    assert float(d.lidar(views)) == pytest.approx(8, abs=0.5)


def test_lidar_with_a_relative_delta_does_not_depend_on_the_scale() -> None:
    falling = torch.arange(1, D + 1, dtype=torch.float64) ** -0.5
    views = SETS["isotropic"] * falling  # pictures and the noise of their views alike
    one, other = (float(d.lidar(views * scale, 1e-4, relative=True)) for scale in (1, 1e-4))
    assert one == pytest.approx(other, rel=1e-6)
    assert float(d.lidar(views)) > 55
    assert float(d.lidar(views * 1e-4)) < 40, "an absolute delta hides what views differ in"


ORTHOGONAL = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
TURNED = (
    "rankme",
    "participation_ratio",
    "nesum",
    "stable_rank",
    "explained_variance_auc",
    "mean_cosine",
    "norm_spread",
)


@pytest.mark.parametrize("name", TURNED)
def test_a_rotation_and_a_scale_change_nothing(name: str) -> None:
    y = SETS["8 directions"][:200, 0, :16]
    function = getattr(d, name)
    assert float(function(y @ ORTHOGONAL * 7)) == pytest.approx(float(function(y)), rel=1e-9)


def test_alpha_of_an_exact_power_law() -> None:
    basis = torch.linalg.qr(torch.randn(300, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0]  # of columns whose mean is 0
    y = basis * torch.arange(1, 201, dtype=torch.float64) ** -0.6
    found = d.alpha_req(y)
    assert found.alpha == pytest.approx(1.2, abs=1e-6)
    assert found.r2 == pytest.approx(1)


def test_few_eigenvalues_have_no_slope() -> None:
    with pytest.raises(ValueError, match="alpha_req needs two eigenvalues from number 11 on; there are 0"):
        d.alpha_req(torch.randn(50, 8))


@pytest.mark.parametrize("shape", [(1, 5, 4), (5, 1, 4)])
def test_lidar_needs_pictures_and_views(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="lidar needs two pictures and two views or more"):
        d.lidar(torch.randn(shape))


def test_invariance_is_nothing_at_collapse() -> None:
    y = SETS["isotropic"][:, 0]
    assert float(d.invariance(y, y)) == pytest.approx(1, abs=0.01)
    assert float(d.invariance(y, SETS["isotropic"][:, 1])) == pytest.approx(0.917, abs=0.01)
    assert abs(float(d.invariance(y, y.flip(0)))) < 0.1
    point = torch.ones(50, 8)
    assert float(d.invariance(point, point)) == pytest.approx(0, abs=1e-9)


def test_neighbour_agreement() -> None:
    y, other = SETS["8 directions"][:, 0], SETS["8 directions"][:, 1]
    assert float(d.neighbour_agreement(y, y)) == 1
    random = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    assert float(d.neighbour_agreement(y, random)) == pytest.approx(10 / (N - 1), abs=0.01)
    assert 0.3 < float(d.neighbour_agreement(y, other)) < 1
    with pytest.raises(ValueError, match="neighbour_agreement of 10 neighbours needs more than 10 pictures, not 9"):
        d.neighbour_agreement(y[:9], other[:9])


def test_neighbour_agreement_is_what_a_loop_over_pictures_finds() -> None:
    y, other = (SETS["8 directions"][:60, view] for view in (0, 1))
    shares = []
    for place in range(60):
        near = []
        for z in (y, other):
            cosine = torch.nn.functional.cosine_similarity(z, z[place : place + 1])
            order = [int(found) for found in cosine.argsort(descending=True) if int(found) != place]
            near.append({*order[:5]})
        shares.append(len(near[0] & near[1]) / 5)
    assert float(d.neighbour_agreement(y, other, k=5)) == pytest.approx(np.mean(shares))


def test_dead_dimensions_and_norms() -> None:
    y = torch.randn(100, 10)
    y[:, 3:] *= 1e-9
    assert float(d.dead_dimensions(y)) == pytest.approx(0.7)
    assert float(d.dead_dimensions(torch.ones(5, 4))) == 1
    assert float(d.norm_spread(torch.tensor([[3.0, 4], [0, 15]]))) == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_taken(dtype: torch.dtype) -> None:
    y = SETS["isotropic"][:, 0]
    assert float(d.rankme(y.to(dtype))) == pytest.approx(float(d.rankme(y)), rel=1e-2)


def test_the_page_has_the_values_that_are_computed_here():
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert written() in page, "run: python tests/support/encoder_sets.py docs/metrics.md"
