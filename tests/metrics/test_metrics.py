import math
import re

import pytest
import torch

import references
from vergence import config as c
from vergence.config.schema import to_dict
from vergence.metrics import collapse, verdict
from vergence.metrics.verdict import FIRST, Judge, RepresentationJudge, judge_representation


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
        said = judge.hear(line_of(*views(0.01)))
    assert "neg_cos >= 0.97" in said.rule
    assert said.numbers["neg_cos"] > 0.97
    assert said.advice.startswith("--projector.norm batch")


def test_depends_on_the_lines_alone():
    """A resumed run replays its log and must come to the same words."""
    lines = [line_of(*views(s, seed=i)) for i, s in enumerate([2.0, 1.0, 0.01, 0.005, 0.005, 0.02, 0.1, 0.5])]
    one, other = Judge(64), Judge(64)
    first = [one.hear(line) for line in lines]
    assert first == [other.hear(line) for line in lines]


# --- the representation -----------------------------------------------------------------------------------------------


def looks(y1, y2):
    return {
        "y_neg_cos": collapse.positive_negative_cosine(y1, y1)[1].item(),
        "y_rank": collapse.centred_rank(y1).item(),
        "y_agreement": collapse.centred_agreement(y1, y2).item(),
    }


UNTRAINED = looks(*views(0.073, noise=2.0))
"""A cone as an untrained ResNet-18 has it: a mean cosine near 0.976, and views that agree little."""


def of_representation(*spread, **kwargs):
    return judge_representation(looks(*views(*spread, **kwargs)), UNTRAINED, 64).state


def test_an_untrained_cone_is_no_collapse():
    assert UNTRAINED["y_neg_cos"] == pytest.approx(0.976, abs=0.01)
    assert of_representation(0.073, noise=2.0, seed=1) == "undecided"


def test_a_large_common_mean_is_no_collapse():
    """A healthy encoder with group norm has a mean cosine of 0.9995 and views that agree."""
    assert looks(*views(0.02))["y_neg_cos"] > 0.9995
    assert of_representation(0.02) == "healthy"


def test_representations_that_are_one_point_are_a_complete_collapse():
    assert of_representation(0.001) == "complete collapse"


def test_representations_on_a_line_are_a_dimensional_collapse():
    assert of_representation(2.0, rank=1) == "dimensional collapse"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_rank_about_the_mean_is_taken_in_float32(dtype):
    """And is that of what is left of the rows; in half precision a large mean would hide it."""
    z = (views(0.5)[0] + 8).to(dtype)
    left = z.double() - z.double().mean(0)
    assert collapse.centred_rank(z).item() == pytest.approx(collapse.effective_rank(left).item(), rel=1e-3)


@pytest.mark.parametrize("zero", [0.0, 1.0])
def test_a_dead_encoder_is_collapsed(zero):
    dead = torch.full((64, 16), zero)
    assert "collapse" in judge_representation(looks(dead, dead), UNTRAINED, 64).state


@pytest.mark.parametrize(("pictures", "state"), [(8, "undecided"), (512, "healthy")])
def test_few_pictures_need_more_than_chance(pictures, state):
    """Of 8 pictures in 5 directions views agree by 0.2 more or less in every other draw."""
    untrained = {"y_neg_cos": 0.5, "y_rank": 5.0, "y_agreement": 0.1}
    assert judge_representation(untrained | {"y_agreement": 0.3}, untrained, pictures).state == state


def test_what_an_encoder_gains_under_collapsed_projections_is_not_called_healthy():
    """Its views agree more, and nothing that is learned made them: a collapse must never look like success."""
    now = looks(*views(0.15))
    assert judge_representation(now, UNTRAINED, 64).state == "healthy"
    said = judge_representation(now, UNTRAINED, 64, projections_collapsed=True)
    assert (said.state, said.rule.split(":")[0]) == ("undecided", "not collapsed, but projections are one point")


def test_representations_that_are_no_numbers_are_told():
    said = judge_representation(dict.fromkeys(verdict.REPRESENTATION, math.nan), UNTRAINED, 64)
    assert (said.state, said.rule) == ("undecided", "representations are not finite numbers")
    assert all(map(math.isfinite, said.numbers.values()))


def test_lines_are_judged_beside_the_first_step():
    judge = RepresentationJudge(64)
    assert judge.hear({"step": 1, **UNTRAINED}).state == "undecided"
    states = [judge.hear({"step": i, **looks(*views(0.15, seed=i))}).state for i in range(2, 12)]
    assert states[-1] == "healthy"


@pytest.mark.parametrize("missing", [{}, dict.fromkeys(verdict.REPRESENTATION), {**UNTRAINED, "y_agreement": None}])
def test_lines_without_a_representation_decide_nothing(missing):
    """Those of older logs, and of MoCo."""
    judge = RepresentationJudge(64)
    said = [judge.hear({"step": step, **missing}) for step in (1, 2, 3)][-1]
    assert (said.state, said.numbers) == ("undecided", {"lines": 0.0})


def test_agreement_is_its_definition():
    y1, y2 = views(0.5)
    a, b = (y - y.mean(0) for y in (y1, y2))
    cosines = [float(p @ q / (p.norm() * q.norm())) for p, q in zip(a, b, strict=True)]
    assert collapse.centred_agreement(y1, y2).item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)
    assert collapse.centred_agreement(y1 + 100, y2 - 50).item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-4)


@pytest.mark.parametrize("rule", [*verdict.RULES, *verdict.REPRESENTATION_RULES])
def test_whoever_is_not_healthy_gets_advice_that_the_program_takes(rule):
    from vergence.command.options import known
    from vergence.presets import default, methods

    options = {
        f"--{name}"
        for method in methods().values()
        for name in known(to_dict(default(method, c.Digits()), stored=False))
    }
    said = set(re.findall(r"--[a-z.-]+[a-z]", rule.advice))
    assert said <= options | {"--log-every"}
    assert bool(rule.advice) == (rule.state != "healthy" and rule is not verdict.REPRESENTATION_RULES[0])
