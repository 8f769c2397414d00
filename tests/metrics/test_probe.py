"""Probes against slow definitions, and what an evaluation must leave as it was."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch.nn.modules.batchnorm import _BatchNorm

from marks import slow
from small_runs import TINY, pictures
from vergence import config as c
from vergence.data import Images
from vergence.engine.evaluate import beside, evaluate, features, look_at_representation
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.metrics import probe, softmax_regression
from vergence.metrics.probe import Features
from vergence.metrics.softmax_regression import SoftmaxRegression
from vergence.metrics.verdict import REPRESENTATION
from vergence.networks.encoders import build_encoder

CPU = torch.device("cpu")
HERE = Where(device=CPU)
VIEWS = c.Views(size=16)


def clouds(n, classes=4, dim=6, spread=0.4, seed=0):
    """Points around a corner of their own for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Features(torch.eye(classes, dim)[labels] + spread * torch.randn(n, dim, generator=generator), labels)


def noise(n, classes=4, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(n, dim, generator=generator), torch.randint(0, classes, (n,), generator=generator))


# --- nearest neighbours -----------------------------------------------------------------------------------------------


def slow_knn(train, test, k, temperature):
    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    correct = 0
    for query, truth in zip(test.y.tolist(), test.labels.tolist(), strict=True):
        pairs = zip(train.y.tolist(), train.labels.tolist(), strict=True)
        nearest = sorted(((cosine(query, y), label) for y, label in pairs), reverse=True)[:k]
        votes = {}
        for similarity, label in nearest:
            votes[label] = votes.get(label, 0) + math.exp(similarity / temperature)
        correct += max(votes, key=votes.get) == truth
    return round(100 * correct / len(test), 2)


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("spread", [0.4, 0.9])
def test_knn_is_its_definition(k, temperature, spread):
    train, test = clouds(60, spread=spread), clouds(50, spread=spread, seed=1)
    assert probe.knn(train, test, k, temperature)["accuracy"] == slow_knn(train, test, k, temperature)


def test_temperature_weighs_the_near_above_the_many():
    """Two near neighbours of one class against three further ones of another."""
    angles = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.8])
    train = Features(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([0, 0, 1, 1, 1]))
    test = Features(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert probe.knn(train, test, 5, 0.07)["accuracy"] == 100
    assert probe.knn(train, test, 5, 10.0)["accuracy"] == 0


def test_knn_with_a_low_temperature_is_the_nearest():
    """exp(cosine / temperature) would overflow float32 from a temperature of 0.011 downwards."""
    train, test = clouds(60, spread=0.9), clouds(50, spread=0.9, seed=1)
    nearest = probe.knn(train, test, 1, 0.07)["accuracy"]
    assert probe.knn(train, test, 20, 1e-4)["accuracy"] == nearest < 100


def test_k_is_lowered_to_the_pictures_there_are():
    train, test = clouds(7), clouds(50, seed=1)
    result = probe.knn(train, test, 20)
    assert result["accuracy"] == slow_knn(train, test, 7, 0.07)
    assert result["protocol"].startswith("7 nearest of 7 training pictures")
    assert result["protocol"].endswith("50 test pictures")


def test_knn_in_blocks_is_knn():
    train, test = clouds(60), clouds(2500, seed=1)
    parts = [Features(y, labels) for y, labels in zip(test.y.split(500), test.labels.split(500), strict=True)]
    mean = sum(probe.knn(train, part)["accuracy"] for part in parts) / 5
    assert probe.knn(train, test)["accuracy"] == pytest.approx(mean, abs=0.01)


def test_scale_is_nothing_to_knn():
    train, test = clouds(60), clouds(50, seed=1)
    stretched = Features(train.y * torch.rand(60, 1).add(0.1), train.labels)
    assert probe.knn(stretched, test) == probe.knn(train, test)


def test_a_class_that_only_one_split_has():
    train, test = clouds(60, classes=3), clouds(50, classes=5, seed=1)
    for score in (
        probe.knn(train, test),
        probe.linear(train, test),
        probe.linear_raft(train, test, epochs=1),
        probe.linear(test, train),
    ):
        assert 0 <= score["accuracy"] <= 100


# --- linear -----------------------------------------------------------------------------------------------------------


def stretched(n, classes=5, dim=24, seed=0):
    """Classes that lie along narrow directions beside wide ones that say nothing, as trained features have them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    widths = torch.logspace(1.5, -1.5, dim)
    return Features((centres[labels] + torch.randn(n, dim, generator=generator)) * widths + 30, labels)


@pytest.mark.parametrize("n", [60, slow(400), slow(2500)])
def test_linear_is_as_good_as_scikit_learns_best(n):
    """Beside its classifier with each C of a grid: the strength is chosen without the test set and loses little."""
    train, test = stretched(n), stretched(4000, seed=1)
    centred = (train.y - train.y.mean(0)).numpy(), (test.y - train.y.mean(0)).numpy()
    best = max(
        LogisticRegression(C=10.0**e, max_iter=20_000, tol=1e-3)
        .fit(centred[0], train.labels.numpy())
        .score(centred[1], test.labels.numpy())
        for e in range(-4, 3)
    )
    score = probe.linear(train, test)
    assert score["converged"]
    assert score["accuracy"] > 100 * best - (3 if n == 60 else 1)


@pytest.mark.parametrize("penalty", [slow(1e-2), slow(1.0), 100.0])
def test_softmax_regression_minimizes_what_scikit_learn_does(penalty):
    train = stretched(300)
    fitted = SoftmaxRegression(train.y, train.labels, 5).fit(penalty)
    y = (train.y - train.y.mean(0)).double().numpy()
    theirs = LogisticRegression(C=1 / penalty, max_iter=100_000, tol=1e-10).fit(y, train.labels.numpy())
    probabilities = torch.from_numpy(theirs.predict_proba(y))
    torch.testing.assert_close(fitted.logits(train.y).softmax(1), probabilities, atol=5e-3, rtol=0)


def test_softmax_regression_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(softmax_regression, "MOST_ITERATIONS", 2)
    train = stretched(300)
    assert not SoftmaxRegression(train.y, train.labels, 5).fit(0.1).converged
    score = probe.linear(train, train)
    assert score["converged"] is False
    assert score["protocol"].endswith("; not converged")


def test_the_penalty_is_chosen_on_pictures_that_are_not_fitted():
    """Random labels: any weight only fits noise, so the strongest penalty is the best that can be chosen."""
    train = noise(300, dim=40)
    share = 1 / float(probe.linear(train, noise(20, dim=40))["protocol"].split("C = ")[1].split()[0])
    curvature = SoftmaxRegression(train.y, train.labels, 4).curvature
    assert share == pytest.approx(curvature * softmax_regression.PENALTIES[0], rel=0.1)


def test_linear_finds_what_is_linearly_separable():
    result = probe.linear(clouds(400, spread=0.05), clouds(200, spread=0.05, seed=1))
    assert result["accuracy"] > 99
    assert "chosen by 5-fold cross-validation; fitted on 400 training, scored on 200 test" in result["protocol"]


def test_linear_of_many_pictures_holds_a_tenth_of_some_out(monkeypatch):
    monkeypatch.setattr(probe, "FEW", 100)
    monkeypatch.setattr(probe, "MOST_CHOSEN_ON", 200)
    fits = []
    monkeypatch.setattr(probe, "choose_penalty", lambda y, labels, k, penalties, folds: fits.extend(folds) or 1.0)
    score = probe.linear(clouds(600), clouds(100, seed=1))
    ((fitted, scored),) = fits
    assert (int(fitted.sum()), int(scored.sum())) == (180, 20)
    assert not (fitted & scored).any()
    assert "C = 1 chosen on 20 held-out training pictures; fitted on 600" in score["protocol"]


def test_a_picture_that_is_alone_in_its_class_chooses_nothing():
    """Held out, its class would have no picture in the fit and its cross-entropy would be infinite."""
    train = clouds(41, classes=3)
    alone = Features(train.y, torch.cat([train.labels[:-1], torch.tensor([3])]))
    score = probe.linear(alone, clouds(50, classes=3, seed=1))
    assert score["accuracy"] > 90
    assert score["converged"]


def test_linear_finds_nothing_in_random_labels():
    assert probe.linear(noise(400), noise(2000, seed=1))["accuracy"] == pytest.approx(25, abs=5)


def test_linear_beats_no_feature_by_its_bias_only():
    """Features that say nothing: the most frequent class is all there is to learn."""
    labels = torch.tensor([0] * 60 + [1] * 40)
    blank = Features(torch.zeros(100, 4), labels)
    score = probe.linear(blank, blank)
    assert (score["accuracy"], score["baselines"], score["balanced_accuracy"]) == (60, {"no picture": 60}, 50)


# --- linear, as the RAFT paper has it ---------------------------------------------------------------------------------


def test_linear_raft_depends_on_its_seed_alone():
    train, test = noise(300), noise(300, seed=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = probe.linear_raft(train, test, epochs=3, lr=0.05)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)
    assert probe.linear_raft(train, test, epochs=3, lr=0.05) == one
    others = {probe.linear_raft(train, test, epochs=3, lr=0.05, seed=seed)["accuracy"] for seed in range(1, 5)}
    assert others != {one["accuracy"]}


def test_linear_raft_follows_the_papers_protocol(monkeypatch):
    """100 epochs of Adam at 5e-4: every update, and nothing more."""
    steps, made = [], []

    class Counting(torch.optim.Adam):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(options["lr"])

        def step(self, *arguments):
            steps.append(1)
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Counting)
    probe.linear_raft(noise(300), noise(10))
    assert made == [5e-4]
    assert len(steps) == 100 * 2


def test_linear_raft_starts_as_a_layer_of_torch(monkeypatch):
    """Its first weights are those of `torch.nn.Linear` after `manual_seed(0)`, drawn without the global generator."""
    started = []

    def look(layer, train):
        started.append((layer.weight.detach().clone(), layer.bias.detach().clone()))
        return 1.0

    monkeypatch.setattr(probe, "_steepness", look)
    probe.linear_raft(noise(30), noise(10), epochs=1)
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4)
    assert torch.equal(started[0][0], layer.weight)
    assert torch.equal(started[0][1], layer.bias)


def test_linear_raft_says_when_its_steps_were_too_few():
    few, many = clouds(60, spread=0.1), clouds(60, spread=0.1, seed=1)
    score = probe.linear_raft(few, many)
    assert score["converged"] is False
    assert score["protocol"].endswith("scored on 60 test pictures; not converged after its 100 steps")
    enough = probe.linear_raft(few, many, lr=0.5)
    assert enough["converged"] is True
    assert "converged" not in enough["protocol"]


# --- logistic ---------------------------------------------------------------------------------------------------------


def test_logistic_of_a_published_order_fits_the_first_half_and_scores_the_second():
    """Random labels in the second half: what fits there can have been learned there only."""
    test = replace(clouds(401, spread=0.1), published_order=True)
    labels = test.labels.clone()
    labels[200:] = torch.randint(0, 4, (201,), generator=torch.Generator().manual_seed(1))
    assert probe.logistic(test)["accuracy"] > 99
    spoilt = probe.logistic(replace(test, labels=labels))
    assert spoilt["accuracy"] == pytest.approx(25, abs=8)
    assert "fitted on the first 200, scored on the other 201 test pictures" in spoilt["protocol"]


def test_logistic_of_a_published_order_is_the_posts_code():
    test = replace(clouds(200, spread=0.9), published_order=True)
    y, labels = test.y.double().numpy(), test.labels.numpy()
    reference = OneVsRestClassifier(LogisticRegression(solver="liblinear", max_iter=100, random_state=0))
    accuracy = reference.fit(y[:100], labels[:100]).score(y[100:], labels[100:])
    assert probe.logistic(test)["accuracy"] == round(100 * accuracy, 2)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_of_pictures_sorted_by_class_halves_each_class(classes):
    test = clouds(200, classes=classes, spread=0.1)
    order = test.labels.argsort()
    score = probe.logistic(Features(test.y[order], test.labels[order]))
    assert score["accuracy"] > 99
    assert "fitted on 100, half of each class, scored on the other 100 test pictures" in score["protocol"]


def test_logistic_with_one_class_to_fit_says_so():
    one = Features(torch.randn(10, 3), torch.tensor([0] * 5 + [1] * 5), published_order=True)
    result = probe.logistic(one)
    assert result["accuracy"] is None
    assert "two classes" in result["protocol"]


def test_logistic_that_does_not_converge_says_nothing():
    """100 iterations are the protocol; the suite turns warnings into errors."""
    hard = noise(200, dim=50)
    score = probe.logistic(Features(hard.y * 1e4, hard.labels))
    assert score["accuracy"] is not None
    assert score["converged"] is False
    assert score["protocol"].endswith("; not converged after its 100 iterations")


# --- what every score says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(0, 10, 0.0, 27.75), (5, 10, 23.66, 76.34), (10, 10, 72.25, 100.0), (90, 359, 20.87, 29.81)],
)
def test_intervals_are_wilsons(correct, n, low, high):
    """Beside values of R's `prop.test(..., correct = FALSE)`."""
    assert probe.interval(correct, n) == pytest.approx((low, high), abs=0.01)


def test_balanced_accuracy_counts_classes_and_not_pictures():
    """Nine of ten pictures are of one class, and the answer is always that class."""
    blank = Features(torch.zeros(100, 3), torch.tensor([0] * 90 + [1] * 10))
    score = probe.knn(blank, blank)
    assert (score["accuracy"], score["balanced_accuracy"], score["baselines"]["no picture"]) == (90, 50, 90)
    assert score["interval"] == [82.56, 94.48]


def test_who_sees_no_picture_says_the_class_most_frequent_in_training():
    """Not in the test set, of which such a classifier knows as little as any other."""
    train = Features(torch.randn(10, 3), torch.tensor([0] * 6 + [1] * 4))
    test = Features(torch.randn(10, 3), torch.tensor([0] * 2 + [1] * 8))
    assert probe.linear(train, test)["baselines"] == {"no picture": 20}


@pytest.mark.slow
def test_no_score_depends_on_the_order_of_the_pictures(encoder):
    train, test = pictures(60, classes=4), pictures(60, classes=4, seed=1)
    shuffled = [images.take(torch.randperm(60, generator=torch.Generator().manual_seed(3))) for images in (train, test)]
    by_class = [images.take(images.labels.argsort()) for images in (train, test)]
    scores = [evaluate(encoder, *both, VIEWS, where=HERE) for both in ((train, test), shuffled, by_class)]
    assert scores[0] == scores[1] == scores[2]
    published = [replace(images, published_order=True) for images in (train, test)]
    own = evaluate(encoder, *published, VIEWS, where=HERE)
    assert "the first 30" in own["logistic"]["protocol"]  # the order is part of this protocol, and of no other
    assert own["knn"] == scores[0]["knn"]


def test_scores_stand_beside_those_of_baselines(encoder):
    train, test = pictures(60), pictures(60, seed=1)
    scores = evaluate(encoder, train, test, VIEWS, where=HERE, probing=Probing(probes=("knn",)))
    blind = evaluate(Blind(), train, test, VIEWS, where=HERE)
    scores = beside(scores, "untrained", blind)
    assert scores["knn"]["baselines"]["untrained"] == blind["knn"]["accuracy"]
    assert list(scores["knn"]["baselines"]) == ["untrained", "no picture"]


class Blind(torch.nn.Module):
    """Gives every picture the same representation, or one that is no number."""

    def __init__(self, value=1.0):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, pictures):
        return self.value.expand(len(pictures), 4)


def test_representations_that_are_no_numbers_are_not_scored():
    scores = evaluate(Blind(math.nan), pictures(20), pictures(20, seed=1), VIEWS, where=HERE)
    assert {score["accuracy"] for score in scores.values()} == {None}
    assert "not finite" in scores["linear"]["protocol"]


# --- an encoder and pictures ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = build_encoder(TINY, 16)
    with torch.no_grad():
        for _ in range(5):
            encoder(torch.randn(8, 3, 16, 16))  # running statistics of their own
    return encoder


def test_features_do_not_depend_on_the_batch(encoder):
    images = pictures(28)
    whole = features(encoder, images, VIEWS, device=CPU)
    assert whole.shape == (28, encoder.dim)
    for batch_size in (1, 5, 27, 28):
        parts = features(encoder, images, VIEWS, device=CPU, batch_size=batch_size)
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


def test_features_are_those_of_evaluation_mode(encoder):
    images = pictures(8)
    x = images.pixels.float() / 255
    x = (x - torch.tensor(VIEWS.mean).view(3, 1, 1)) / torch.tensor(VIEWS.std).view(3, 1, 1)
    with torch.no_grad():
        expected = copy.deepcopy(encoder).eval()(x)
    torch.testing.assert_close(features(encoder, images, VIEWS, device=CPU), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_encoder_as_it_was(encoder, training):
    encoder.train(training)
    before = copy.deepcopy(encoder.state_dict())
    modes = [part.training for part in encoder.modules()]
    layouts = [p.stride() for p in encoder.parameters()]
    evaluate(encoder, pictures(20), pictures(20, seed=1), VIEWS, where=HERE)
    assert [part.training for part in encoder.modules()] == modes
    assert [p.stride() for p in encoder.parameters()] == layouts
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert any(isinstance(part, _BatchNorm) for part in encoder.modules())
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())


def test_evaluate_gives_each_probe_its_protocol(encoder):
    train, test = pictures(40), pictures(30, seed=1)
    scores = evaluate(encoder, train, test, VIEWS, where=HERE, probing=Probing(k=3, temperature=0.2))
    assert list(scores) == ["knn", "linear", "logistic", "linear-raft"]
    assert scores["knn"]["protocol"].startswith(
        "3 nearest of 40 training pictures by cosine, weighted by exp(cos / 0.2)"
    )
    assert scores["knn"]["accuracy"] > 90
    assert "fitted on 15, half of each class" in scores["logistic"]["protocol"]


def test_each_protocol_says_what_it_was_scored_on(encoder):
    train, test = pictures(40), pictures(30, seed=1)
    published = evaluate(encoder, train, test, VIEWS, where=HERE)
    tuned = evaluate(encoder, train, replace(test, split_name="held-out training"), VIEWS, where=HERE)
    for name, count in (("knn", 30), ("linear", 30), ("logistic", 15)):
        assert f"{count} test pictures" in published[name]["protocol"]
        assert f"{count} held-out training pictures" in tuned[name]["protocol"]
        assert tuned[name]["accuracy"] == published[name]["accuracy"]
    assert replace(test, split_name="held-out training").take(torch.arange(3)).split_name == "held-out training"


@pytest.mark.parametrize("probes", [(), ("knn",), ("linear",), ("logistic",), ("knn", "logistic")])
def test_evaluate_does_what_is_asked(encoder, probes):
    scores = evaluate(encoder, pictures(20), pictures(20, seed=1), VIEWS, where=HERE, probing=Probing(probes=probes))
    assert tuple(scores) == probes


def without_labels(images):
    return Images(images.pixels, None, (), images.size)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (without_labels(pictures(8)), without_labels(pictures(8))),
        (without_labels(pictures(8)), pictures(8)),
        (pictures(8), without_labels(pictures(8))),
        (pictures(8, classes=1), pictures(8, classes=1)),
        (pictures(8), pictures(1)),
    ],
    ids=["no labels", "none to fit", "none to score", "one class", "one picture"],
)
def test_evaluate_without_labels_gives_nothing(encoder, train, test):
    assert evaluate(encoder, train, test, VIEWS, where=HERE) == {}


def test_a_representation_that_is_no_number_is_looked_at_without_a_fault():
    numbers = look_at_representation(Blind(math.nan), pictures(20), VIEWS, device="cpu")
    assert set(numbers) == set(REPRESENTATION)
    assert all(map(math.isnan, numbers.values()))


def test_a_representation_is_looked_at_alike_each_time(encoder):
    first, second = (look_at_representation(encoder, pictures(20), VIEWS, device="cpu") for _ in range(2))
    assert first == second
    assert -1 <= first["y_agreement"] <= 1 <= first["y_rank"]
