import math

import pytest
import torch

import references
from vergence.metrics import collapse
from vergence.metrics.verdict import FIRST, Judge


def embeddings(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 3), (9, 4), (5, 12)])
def test_against_the_definitions(shape):
    z, t = embeddings(*shape), embeddings(*shape, seed=1)
    for value, expected in zip(
        collapse.positive_negative_cosine(z, t), references.positive_negative_cosine(z, t), strict=True
    ):
        assert value.item() == pytest.approx(expected, abs=1e-12)
    assert collapse.feature_std(z).item() == pytest.approx(references.feature_std(z), abs=1e-12)
    assert collapse.effective_rank(z).item() == pytest.approx(references.effective_rank(z), rel=1e-6)
    values = torch.linalg.svdvals(torch.nn.functional.normalize(z, dim=1))
    torch.testing.assert_close(collapse.spectrum(z), values / values.sum(), rtol=1e-6, atol=1e-7)


def test_at_collapse():
    z = torch.randn(1, 16).expand(32, 16) * torch.rand(32, 1)
    positive, negative = collapse.positive_negative_cosine(z, z)
    assert positive.item() == pytest.approx(1, abs=1e-6)
    assert negative.item() == pytest.approx(1, abs=1e-6)
    assert collapse.feature_std(z).item() == pytest.approx(0, abs=1e-3)
    assert collapse.effective_rank(z).item() == pytest.approx(1, abs=1e-3)


def test_spread_over_the_sphere():
    z = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert collapse.feature_std(z).item() == pytest.approx(1, abs=0.01)
    assert collapse.effective_rank(z).item() == pytest.approx(16, rel=0.01)
    assert collapse.positive_negative_cosine(z[:500], z[500:1000])[1].item() == pytest.approx(0, abs=0.02)


def test_a_plane_has_two_directions():
    angle = torch.linspace(0, 2 * math.pi, 101)[:-1]
    z = torch.zeros(100, 10)
    z[:, 3], z[:, 7] = angle.cos(), angle.sin()
    assert collapse.effective_rank(z).item() == pytest.approx(2, abs=1e-4)


def test_a_single_picture_has_no_negatives():
    z = torch.randn(1, 4)
    assert math.isnan(collapse.positive_negative_cosine(z, z)[1])


# --- the verdict, on constructed embeddings ---------------------------------------------------------------------------


def line_of(z1, z2):
    positive, negative = collapse.positive_negative_cosine(z1, z2)
    return {
        "pos_cos": positive.item(),
        "neg_cos": negative.item(),
        "z_std": collapse.feature_std(z1).item(),
        "effective_rank": collapse.effective_rank(z1).item(),
    }


def views(spread, noise=0.1, n=64, d=128, rank=None, seed=0):
    """Two views of n points: `spread` of their own around a common direction, in at most `rank` dimensions."""
    g = torch.Generator().manual_seed(seed)
    own = torch.randn(n, d, generator=g)
    if rank is not None:
        own[:, rank:] = 0
    common = torch.zeros(d)
    common[0] = math.sqrt(d) if rank is None else 0
    base = common + spread * own
    jitter = torch.randn(2, n, d, generator=g)
    if rank is not None:
        jitter[:, :, rank:] = 0
    return [base + noise * spread * j for j in jitter]


def judged(*spreads, **kwargs):
    judge = Judge(directions=64)
    return [judge.hear(line_of(*views(s, seed=i, **kwargs))).state for i, s in enumerate(spreads)]


def test_says_nothing_at_first():
    assert set(judged(*[2.0] * (FIRST - 1))) == {"undecided"}


def test_healthy():
    assert judged(*[2.0] * 8)[-1] == "healthy"


def test_complete_collapse():
    assert judged(*[0.01] * 8)[-1] == "complete collapse"


def test_dimensional_collapse():
    assert judged(*[2.0] * 8, rank=2)[-1] == "dimensional collapse"


def test_random_directions_without_agreement_are_undecided():
    assert judged(*[2.0] * 8, noise=30.0)[-1] == "undecided"


def test_recovers():
    course = judged(*[2.0] * 4, *[0.005] * 8, *[0.04] * 3, *[0.2] * 8, *[2.0] * 8)
    states = [state for i, state in enumerate(course) if i == 0 or state != course[i - 1]]
    assert states == ["undecided", "healthy", "complete collapse", "recovering", "healthy"]


def test_collapse_is_not_called_recovery_for_noise():
    g = torch.Generator().manual_seed(1)
    wobble = [0.005 * (1 + 0.2 * float(torch.rand((), generator=g))) for _ in range(40)]
    assert set(judged(*wobble)[FIRST:]) == {"complete collapse"}


def test_names_the_rule_and_the_numbers():
    judge = Judge(directions=64)
    for _ in range(5):
        verdict = judge.hear(line_of(*views(0.01)))
    assert "neg_cos >= 0.97" in verdict.rule
    assert verdict.numbers["neg_cos"] > 0.97


def test_depends_on_the_lines_alone():
    """A resumed run replays its log and must come to the same words."""
    lines = [line_of(*views(s, seed=i)) for i, s in enumerate([2.0, 1.0, 0.01, 0.005, 0.005, 0.02, 0.1, 0.5])]
    one, other = Judge(64), Judge(64)
    first = [one.hear(line) for line in lines]
    assert first == [other.hear(line) for line in lines]
