"""W-MSE: whitening and the loss against slow definitions and lightly's, both views' gradients, slices, singularity."""

import json
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

import references
from small_runs import VARIANTS, pictures, run_of, views_of
from vergence import config as c
from vergence import losses, methods, presets
from vergence.engine.reporter import Reporter
from vergence.engine.train import train
from vergence.errors import Diverged


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ORDERS = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(s)) for s in range(3)])


@pytest.mark.parametrize(("whitening", "epsilon"), [("cholesky", 0.0), ("cholesky", 0.1), ("standardize", 0.0)])
@pytest.mark.parametrize("size", [4, 6, 12])
def test_losses_are_their_definitions(whitening, epsilon, size):
    z1, z2 = numbers(12, 3), numbers(12, 3, seed=1) @ numbers(3, 3, seed=2) + 5
    white = losses.whiten(z2, whitening, epsilon)
    expected = torch.tensor(references.whiten(z2, whitening, epsilon), dtype=torch.float64)
    torch.testing.assert_close(white, expected, rtol=1e-9, atol=1e-9)
    value = losses.w_mse(z1, z2, ORDERS, size, whitening=whitening, epsilon=epsilon)
    slow = references.w_mse(z1, z2, ORDERS.tolist(), size, whitening, epsilon)
    assert value.item() == pytest.approx(slow, rel=1e-9)
    as_they_stand = losses.w_mse(z1, z2, size=size, whitening=whitening, epsilon=epsilon)
    slow = references.w_mse(z1, z2, [list(range(12))], size, whitening, epsilon)
    assert as_they_stand.item() == pytest.approx(slow, rel=1e-9)


def test_the_loss_is_lightlys():
    """With the whole batch as its slice, where lightly's own shuffle does not matter."""
    pytest.importorskip("lightly", reason="LIGHTLY IS MISSING: the comparison did not run")
    from lightly.loss.wmse_loss import WMSELoss

    z1, z2 = numbers(16, 4).float(), numbers(16, 4, seed=1).float()
    theirs = WMSELoss(embedding_dim=4, w_size=16, track_running_stats=False)(torch.cat([z1, z2]))
    torch.testing.assert_close(losses.w_mse(z1, z2), theirs, rtol=1e-4, atol=1e-5)


def test_whitened_embeddings_have_the_identity_as_covariance():
    z = numbers(40, 5) @ numbers(5, 5, seed=1) * 30 - 7
    white = losses.whiten(z)
    torch.testing.assert_close(white.T.cov(), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert white.mean(0).abs().max() < 1e-12
    standard = losses.whiten(z, "standardize").T.cov()
    torch.testing.assert_close(standard.diagonal(), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (standard - torch.eye(5)).abs().max() > 0.1, "the directions stay as correlated as they were"


def test_gradients_are_those_of_finite_differences():
    z1, z2 = numbers(8, 2).requires_grad_(), numbers(8, 2, seed=1).requires_grad_()
    orders = ORDERS.argsort(1)[:2, :8].argsort(1)
    for options in ({}, {"epsilon": 0.2}, {"whitening": "standardize"}):
        assert gradcheck(lambda a, b, options=options: losses.w_mse(a, b, orders, 4, **options), (z1, z2))


def test_both_views_receive_the_same_gradient():
    """One library detaches the second view, which is half of the paper's gradient."""
    z1, z2 = numbers(12, 3).requires_grad_(), numbers(12, 3, seed=1).requires_grad_()
    one, other = torch.autograd.grad(losses.w_mse(z1, z2, ORDERS, 6), (z1, z2))
    swapped = torch.autograd.grad(losses.w_mse(z2, z1, ORDERS, 6), (z1, z2))
    assert one.norm() > 0.01
    assert other.norm() > 0.01
    torch.testing.assert_close((one, other), swapped)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1e-4, 1.0, 6e4])
def test_half_precision_is_whitened_in_float32(dtype, size):
    zs = [(losses.normalize(numbers(64, 8, seed=s)) * size).to(dtype).requires_grad_() for s in (0, 1)]
    value = losses.w_mse(*zs, size=32)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), losses.w_mse(*(z.double() for z in zs), size=32), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(value, zs[0])
    assert gradient.isfinite().all()


def test_a_singular_covariance_raises_nothing_and_gives_no_number():
    flat = numbers(8, 1) @ numbers(1, 3, seed=1)
    for z in (torch.ones(8, 3), flat.float().round(), numbers(3, 3)):
        assert losses.whiten(z).isnan().all()
        assert losses.w_mse(z, z).isnan()
        assert losses.w_mse(z, z, epsilon=0.1).isfinite()
        assert losses.w_mse(z, z, whitening="standardize").isfinite()


def test_a_run_whose_projections_collapse_ends_with_one_line_that_says_so(tmp_path, monkeypatch):
    run = run_of(VARIANTS["w-mse"])
    build = methods.build

    def collapsed(run):
        method = build(run)
        torch.nn.init.zeros_(method.online.projector[-1].weight)
        return method

    monkeypatch.setattr(methods, "build", collapsed)
    with pytest.raises(Diverged) as caught:
        train(run, pictures(), tmp_path, reporter=Reporter())
    (line,) = str(caught.value).splitlines()
    assert "the loss is not finite at step 1" in line
    assert "w-mse ends so where projections collapse to fewer dimensions than they have: try a lower --opt" in line
    assert json.loads((tmp_path / "diverged.json").read_text())["not_finite"] == "loss"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"slice": 3}, "--slice: 8 pictures are not cut into slices of 3; give a divisor, or none"),
        ({"slice": 16}, "--slice: 8 pictures are not cut into slices of 16; give a divisor, or none"),
        (
            {"slice": 4, "projector": c.Projector(out=6)},
            "--slice: 4 pictures cannot whiten 6 dimensions; make --projector.out at most 2, or slices",
        ),
        ({"projector": c.Projector(out=8)}, "--slice: 8 pictures cannot whiten 8 dimensions; make --projector.out at"),
    ],
)
def test_slices_that_cannot_be_are_refused_where_a_run_is_made(changes, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        run_of(replace(VARIANTS["w-mse"], **changes))
    assert run_of(replace(VARIANTS["w-mse"], projector=c.Projector(out=8), epsilon=0.01))
    assert run_of(replace(VARIANTS["w-mse"], projector=c.Projector(out=8), whitening="standardize"))
    with pytest.raises(ValueError, match=r"^--slice: 4 pictures are not cut into slices of 8"):
        run_of(replace(VARIANTS["w-mse"], slice=8), accumulate=2)


def outputs(**changes):
    method = methods.build(run_of(replace(VARIANTS["w-mse"], **changes)))
    return method, method(views_of())


def test_the_method_is_its_equation():
    _, o = outputs()
    assert torch.equal(o.loss, losses.w_mse(*o.z))
    method, o = outputs(slice=4, shuffles=2)
    assert torch.equal(o.loss, losses.w_mse(*o.z, method.draws.permutations(2, 8), 4))
    _, o = outputs(whitening="standardize", epsilon=0.5)
    assert torch.equal(o.loss, losses.w_mse(*o.z, whitening="standardize"))


def test_slices_are_cut_anew_at_each_step_and_depend_on_the_order_of_the_batch():
    """With the whole batch as its slice, no order matters: `test_order_within_a_batch_changes_nothing`."""
    method, o = outputs(slice=4)
    again = method(views_of()).loss
    method.after_step(o)
    assert torch.equal(again, o.loss), "batch norm takes the batch's statistics, and the step is the same"
    assert method(views_of()).loss != o.loss
    _, o = outputs(slice=4)
    method, _ = outputs(slice=4)
    assert method(views_of().flip(1)).loss != o.loss


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("changes", [{}, {"slice": 4, "shuffles": 2}, {"whitening": "standardize"}], ids=str)
def test_compiled_equals_eager(changes):
    _, eager = outputs(**changes)
    method = methods.build(run_of(replace(VARIANTS["w-mse"], **changes)))
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views_of())
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)


def test_presets_whiten_twice_as_many_pictures_as_dimensions():
    for data in (c.Digits(), c.CIFAR10(), c.Folder(root="photos")):
        run = presets.preset("default", "w-mse", data)
        assert run.batch_size >= 2 * run.method.projector.out
    paper = presets.preset("w-mse-paper", "w-mse", c.CIFAR10())
    assert (paper.method.slice, paper.method.projector.out, paper.batch_size, paper.epochs) == (128, 64, 512, 1000)
