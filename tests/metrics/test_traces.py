"""What is looked at inside a method, and that looking changes nothing."""

import json
import math

import pytest
import torch

from marks import slow
from small_runs import VARIANTS, pictures, run_of, small, views_of
from vergence import config as c
from vergence import losses, methods
from vergence.config import RAFT, BYOLPrime
from vergence.engine.observe import look_inside, observer
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.metrics import traces
from vergence.metrics.table import TIMING
from vergence.optim import build_optimizer, layers, set_rate


def split_of(method):
    built = methods.build(run_of(small(method)))
    return traces.gradient_split(built(views_of()), list(built.online.parameters()))


class TestGradientSplit:
    def test_what_is_made_of_both_is_explained_by_both(self):
        for method in (BYOLPrime(alpha=0.3, beta=2.0), RAFT(alpha=2.0, beta=0.7)):
            assert split_of(method)["explained"] == pytest.approx(1, abs=1e-5)
        assert split_of(c.BYOL())["explained"] < 0.9

    def test_alignment_alone_is_the_alignment(self):
        split = split_of(BYOLPrime(alpha=1.0, beta=0.0))
        assert split["loss"] == pytest.approx(split["alignment"], rel=1e-5)
        assert split["loss_with_alignment"] == pytest.approx(1, abs=1e-5)

    def test_raft_goes_against_the_cross_model_distance(self):
        assert split_of(RAFT(alpha=0.0, beta=1.0))["loss_with_cross_model"] == pytest.approx(-1, abs=1e-5)

    def test_norms_are_those_of_autograd(self):
        built = methods.build(run_of(VARIANTS["byol"]))
        outputs = built(views_of())
        split = traces.gradient_split(outputs, list(built.online.parameters()))
        losses.cross_model(*outputs.p, *outputs.z_target).backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in built.online.parameters()))
        assert split["cross_model"] == pytest.approx(norm, rel=1e-5)

    def test_a_gradient_that_is_zero(self):
        z = torch.nn.Parameter(torch.randn(4, 3))
        fixed = torch.randn(2, 4, 3)
        split = traces.gradient_split(methods.Outputs(z.sum(), {}, fixed, fixed, fixed + 0 * z, fixed), [z])
        assert split["alignment"] == split["alignment_with_cross_model"] == split["explained"] == 0


class TestPredictorTrace:
    def test_identity(self):
        trace = traces.predictor_trace(torch.nn.Identity(), torch.randn(50, 6))
        assert trace["singular"] == [1.0] * 6
        assert trace["from_identity"] == trace["commutator"] == 0
        assert trace["eigen_alignment"] == pytest.approx(1)

    def test_a_matrix_is_its_own_jacobian(self):
        matrix = torch.nn.Linear(5, 5, bias=False)
        trace = traces.predictor_trace(matrix, torch.randn(9, 5))
        expected = torch.linalg.svdvals(matrix.weight.double()).tolist()
        assert trace["singular"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert trace["from_identity"] == pytest.approx((matrix.weight - torch.eye(5)).norm().item() / 5**0.5, rel=1e-5)

    def test_shared_eigenspaces_commute(self):
        z = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 2.0, 1.0, 0.5])
        vectors = torch.linalg.eigh((z.T @ z).double()).eigenvectors.float()
        matrix = torch.nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            matrix.weight.copy_(vectors @ torch.diag(torch.tensor([0.1, 0.2, 0.7, 1.3])) @ vectors.T)
        trace = traces.predictor_trace(matrix, z)
        assert trace["eigen_alignment"] == pytest.approx(1, abs=1e-5)
        assert trace["commutator"] < 1e-5
        with torch.no_grad():  # a quarter turn moves every direction to a right angle
            matrix.weight.copy_(
                vectors @ torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]) @ vectors.T
            )
        turned = traces.predictor_trace(matrix, z)
        assert turned["eigen_alignment"] < 1e-5
        assert turned["commutator"] > 0.1

    def test_mean_jacobian_of_a_perceptron(self):
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(inplace=True), torch.nn.Linear(8, 3)
        )
        z = torch.randn(7, 3)
        trace = traces.predictor_trace(net, z)
        slow = sum(torch.autograd.functional.jacobian(lambda x: net(x[None])[0], row) for row in z) / len(z)
        assert trace["singular"] == pytest.approx(torch.linalg.svdvals(slow.double()).tolist(), rel=1e-4, abs=1e-6)


class TestCircle:
    def test_shares_sum_to_one_and_pairs_are_angles(self):
        g = torch.Generator().manual_seed(0)
        points = torch.randn(500, 6, generator=g)
        seen = traces.circle(points, points[:5], points[5:10])
        assert len(seen["density"]) == traces.ARCS
        assert sum(seen["density"]) == pytest.approx(1, abs=1e-4)
        assert all(-math.pi <= a <= math.pi for pair in seen["pairs"] for a in pair)
        assert max(seen["density"]) < 0.1

    def test_collapse_is_one_spike_about_the_origin(self):
        g = torch.Generator().manual_seed(0)
        points = torch.tensor([3.0, 1, 0, 0]) + 1e-3 * torch.randn(300, 4, generator=g)
        assert max(traces.circle(points, points[:2], points[2:4], centred=False)["density"]) == pytest.approx(1)
        assert max(traces.circle(points, points[:2], points[2:4])["density"]) < 0.2

    def test_two_clusters_lie_opposite(self):
        points = torch.tensor([[1.0, 0.1, 0], [-1.0, 0.1, 0]]).repeat(20, 1)
        a, b = traces.circle(points, points[:1], points[1:2])["pairs"][0]
        assert abs(abs(a - b) - math.pi) < 1e-3


class TestLayers:
    def trace(self, optimizer):
        method = methods.build(run_of(VARIANTS["byol"], optimizer=optimizer))
        method(views_of()).loss.backward()
        built = build_optimizer(optimizer, method)
        set_rate(built, optimizer.lr)
        numbers, readable = layers(method, built)
        return method, readable(numbers)

    def test_norms(self):
        method, seen = self.trace(c.SGD(lr=0.1))
        assert set(seen) == {"encoder." + n for n in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")} | {
            "projector",
            "predictor",
        }
        weights = math.sqrt(sum(p.double().square().sum().item() for p in method.predictor.parameters()))
        assert seen["predictor"]["weight"] == pytest.approx(weights, rel=1e-5)
        gradient = math.sqrt(sum(p.grad.double().square().sum().item() for p in method.encoder.layer1.parameters()))
        assert seen["encoder.layer1"]["gradient"] == pytest.approx(gradient, rel=1e-5)
        assert all(layer["rate"] == pytest.approx(0.1) for layer in seen.values())

    def test_rate_under_lars_has_the_local_factor_where_it_applies(self):
        lars = c.LARS(lr=0.5, weight_decay=1e-2, layers=("predictor",))
        method, seen = self.trace(lars)
        matrices = [p for p in method.predictor.parameters() if p.ndim > 1]
        local = [lars.trust_coefficient * w.norm() / (w.grad.norm() + 1e-2 * w.norm()) for w in matrices]
        assert seen["predictor"]["rate"] == pytest.approx(0.5 * sum(local).item() / 2, rel=1e-5)
        assert seen["projector"]["rate"] == pytest.approx(0.5)

    def test_rate_of_chosen_layers_under_sgd(self):
        _, seen = self.trace(c.SGD(lr=0.1, factor=10, layers=("encoder.layer1",)))
        assert seen["encoder.layer1"]["rate"] == pytest.approx(1.0)
        assert seen["encoder.layer2"]["rate"] == pytest.approx(0.1)


def watched(folder, trace_every, method="byol, layer norm"):
    folder.mkdir()
    run, images = run_of(VARIANTS[method], subset=None), pictures()
    periods = Periods(online=("knn",), trace_every=trace_every)
    look = observer(run, images, (pictures(12), pictures(12)), Where(device=torch.device("cpu")), periods)
    train(
        run,
        images,
        folder,
        where=Where(device=torch.device("cpu")),
        reporter=Reporter(),
        periods=Periods(log_every=2),
        observe=look if trace_every else None,
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    looks = ("online", "split", "predictor", "spectrum", "circle", *TIMING)
    return lines, [{name: value for name, value in line.items() if name not in looks} for line in lines]


@pytest.mark.parametrize(
    "method",
    ["byol, layer norm", *map(slow, ["moco", "supervised", "BYOL-NP", "byol, independent, running, before"])],
)
def test_looking_changes_nothing(tmp_path, method):
    lines, seen = watched(tmp_path / "a", 1, method)
    _, unseen = watched(tmp_path / "b", 0, method)
    assert seen == unseen
    assert "circle" in lines[-1]
    assert sum(lines[-1]["spectrum"]["z"]) == pytest.approx(1, abs=1e-3)
    assert ("split" in lines[-1]) == (method not in ("moco", "supervised"))


def test_a_method_is_left_as_it_was():
    run = run_of(VARIANTS["byol"])
    method = methods.build(run).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    look_inside(method, views_of(), pictures(), run.views)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert method.training
