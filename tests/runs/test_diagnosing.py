"""Any encoder diagnosed: constructed and trained ones, what is said where little is known, the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from commands import vergence, words_of
from data_files import photo
from encoder_sets import NOISY, SETS, numbers_of
from vergence.data import Images
from vergence.errors import InputError
from vergence.metrics.examination import KINDS, MEASURES, examine
from vergence.metrics.verdict import FEWEST, judge_encoder
from vergence.runs import diagnose, open_model
from vergence.runs.diagnosing import TRANSFORMS

SIZE = 16


# --- the verdict on representations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state"),
    {
        "isotropic": "healthy",
        "8 directions": "dimensional collapse",
        "power law": "healthy",
        "common direction": "healthy",
        "collapsed": "complete collapse",
    }.items(),
)
def test_the_verdict_is_right_on_every_set_of_the_table(name, state):
    verdict = judge_encoder(numbers_of(SETS[name]), numbers_of(NOISY), 500, 64)
    assert verdict.state == state, verdict


def test_an_encoder_like_the_untrained_one_is_untrained():
    again = SETS["isotropic"][:, :1] + torch.randn(500, 10, 64, generator=torch.Generator().manual_seed(4))
    assert judge_encoder(numbers_of(again), numbers_of(NOISY), 500, 64).state == "untrained"


@pytest.mark.parametrize(
    ("name", "state"),
    [("collapsed", "complete collapse"), ("isotropic", "undecided"), ("8 directions", "undecided")],
)
def test_without_an_untrained_network_only_what_is_absolute_is_judged(name, state):
    verdict = judge_encoder(numbers_of(SETS[name]), None, 500, 64)
    assert verdict.state == state
    if state == "undecided":
        assert "there is no untrained encoder to compare with" in verdict.rule


def test_a_line_is_a_dimensional_collapse_whatever_it_is_compared_with():
    line = SETS["isotropic"][:, :, :1] * torch.ones(64, dtype=torch.float64)
    for untrained in (None, numbers_of(NOISY)):
        assert judge_encoder(numbers_of(line), untrained, 500, 64).state == "dimensional collapse"


def test_few_pictures_decide_nothing_but_a_point():
    few = {name: numbers_of(SETS[name][:20]) for name in ("isotropic", "collapsed")}
    untrained = numbers_of(NOISY[:20])
    assert judge_encoder(few["isotropic"], untrained, 20, 64).rule.startswith(f"fewer than {FEWEST} pictures")
    assert judge_encoder(few["collapsed"], untrained, 20, 64).state == "complete collapse"


def test_what_cannot_be_measured_on_few_pictures_is_none():
    numbers = numbers_of(SETS["isotropic"][:5])
    assert {name for name, value in numbers.items() if value is None} == {"alpha", "alpha_r2", "neighbour_agreement"}
    assert numbers.keys() == MEASURES.keys()


def test_every_group_has_a_number_and_every_number_a_group():
    assert {measure.kind for measure in MEASURES.values()} == KINDS.keys()


def test_numbers_that_are_none_are_undecided():
    y = torch.full((5, 3), torch.nan)
    assert examine(y, y[:, None].expand(5, 2, 3), y, {}) is None
    assert judge_encoder(None, None, 5, 3).rule == "representations are not finite numbers"


# --- encoders ---------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Pictures to 64 numbers each by a matrix."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * SIZE * SIZE, 64)

    def forward(self, pictures):
        return self.layer(pictures.flatten(1))


def linear(change=lambda layer: None):
    module = Linear()
    with torch.no_grad():
        change(module.layer)
    return open_model(module, size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def noise():
    """Pictures whose linear representations fill as many directions as there are."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 3, SIZE, SIZE), np.uint8)
    return Images(torch.from_numpy(pixels), None, (), None)


def to_a_point(layer):
    layer.weight *= 1e-3
    layer.bias.fill_(1)


def to_a_line(layer):
    layer.weight[:] = layer.weight[:1] * torch.linspace(1, 2, 64)[:, None]


@pytest.mark.parametrize(
    ("change", "state"),
    [(to_a_point, "complete collapse"), (to_a_line, "dimensional collapse"), (lambda layer: None, "untrained")],
)
def test_a_constructed_encoder_is_called_what_it_is(change, state, noise):
    found = diagnose(linear(change), noise)
    assert found.verdict.state == state, found.verdict
    assert found.found is not None
    assert found.found.invariance.keys() == TRANSFORMS.keys()
    assert (found.n, found.m, found.q, found.d) == (300, 300, 10, 64)
    assert "no kNN and no linear score: pictures of a program are not divided" in found.remarks
    assert json.loads(json.dumps(found.to_dict()))["found"]["eigenvalues"] == found.found.eigenvalues


def test_the_same_bits_every_time_and_no_change_of_the_model(noise):
    model = linear()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    one, other = diagnose(model, noise, most=60), diagnose(model, noise, most=60)
    assert one.to_dict() == other.to_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert one.protocol.startswith("60 of 300 pictures, chosen with seed 0, 64 dimensions")


def test_invariances_are_of_the_transforms(noise):
    """The mean of all pixels does not see a mirror image, and gray pictures have no colour to lose."""

    class Mean(nn.Module):
        def forward(self, pictures):
            return torch.nn.functional.adaptive_avg_pool2d(pictures, (4, 1)).flatten(1)

    gray = replace(noise, pixels=noise.pixels[:, :1].expand(-1, 3, -1, -1).contiguous())
    found = diagnose(open_model(Mean(), size=SIZE), gray)
    assert found.untrained is None
    assert any("nothing to compare with" in remark for remark in found.remarks)
    numbers = found.found.invariance
    most = 1 - found.found.numbers["mean_cosine"]
    assert numbers["flip"] == pytest.approx(most, abs=1e-4)
    assert numbers["gray"] == pytest.approx(most, abs=1e-2)
    assert numbers["crop"] < most - 0.05


def test_one_picture_and_no_pictures_are_told(noise):
    with pytest.raises(InputError, match="a diagnosis needs two"):
        diagnose(linear(), noise.take(torch.tensor([0])))
    with pytest.raises(InputError, match="Linear: which pictures\\? Only a run has its own"):
        diagnose(linear())


def test_two_pictures_are_enough_for_an_honest_answer(noise):
    found = diagnose(linear(), noise.take(torch.arange(2)))
    assert found.verdict.rule.startswith(f"fewer than {FEWEST} pictures")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that learns in seconds: SimCLR on digits."""
    out = tmp_path_factory.mktemp("diagnosed") / "run"
    options = {"encoder": "test_resnet", "size": SIZE, "subset": 800, "batch-size": 64, "epochs": 6, "device": "cpu"}
    answer = vergence("train", "simclr", "--out", out, *words_of(options))
    assert answer.code == 0, answer.err
    return out


def test_a_trained_run_is_healthy_on_its_own_pictures(trained, tmp_path):
    answer = vergence(
        "diagnose",
        trained,
        "--most",
        300,
        "--json",
        tmp_path / "a.json",
        "--out",
        tmp_path / "a.html",
        "--device",
        "cpu",
    )
    assert answer.code == 0, answer.err
    assert "verdict   healthy" in answer.out
    assert "LiDAR, relative delta" in answer.out
    (one,) = json.loads((tmp_path / "a.json").read_text())["diagnoses"]
    assert one["verdict"]["state"] == "healthy"
    assert one["scores"]["knn"]["baselines"].keys() == {"untrained", "no picture"}
    assert len(one["found"]["singular_values"]) == one["d"]
    page = (tmp_path / "a.html").read_text()
    for words in ("Net of noise", "Singular values, not centred", "Invariance to each transform", "healthy"):
        assert words in page
    assert page.index('class="cards"') < page.index("<table")


@pytest.mark.filterwarnings("ignore:.*cannot be used were left out:UserWarning")
def test_options_say_how_the_pictures_of_a_run_on_others_are_read(whole, tmp_path):
    photo(1, 40, 40).save(tmp_path / "1.png")
    photo(2, 40, 40).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_text("no picture")
    words = ("diagnose", whole, tmp_path, "--device", "cpu")
    answer = vergence(*words)
    assert answer.code == 2
    assert "1 of 3 pictures cannot be used: 3.png" in answer.errors[0]
    assert "leave them out with --data.bad-images skip" in answer.errors[0]
    answer = vergence(*words, "--data.bad-images", "skip")
    assert "more than the 10% that may be skipped" in answer.errors[0]
    for number in range(4, 14):
        photo(number, 40, 40).save(tmp_path / f"{number}.png")
    answer = vergence(*words, "--data.bad-images", "skip")
    assert answer.code == 0, answer.err
    assert "12 pictures" in answer.out


def test_an_exported_program_is_judged_by_what_is_absolute(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    assert vergence("export", trained, "--out", tmp_path / "net.onnx").code == 0
    answer = vergence("diagnose", tmp_path / "net.onnx", "digits", "--most", 120, "--device", "cpu")
    assert answer.code == 0, answer.err
    assert "there is no untrained encoder to compare with" in answer.out
    assert "nothing to compare with: the network untrained has no layer" in answer.out


def test_two_encoders_stand_side_by_side(trained, tmp_path):
    answer = vergence(
        "diagnose", trained, "--beside", trained, "--most", 120, "--out", tmp_path / "a.html", "--device", "cpu"
    )
    assert answer.code == 0, answer.err
    page = (tmp_path / "a.html").read_text()
    assert page.count('<li class="card">') == 2
    assert "run (step 72) (2)" in page
