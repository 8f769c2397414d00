"""Between a loss and the update: parts of a batch, clipping, frozen encoders, float16's loss scale."""

import json
from dataclasses import replace

import pytest
import torch

from small_runs import VARIANTS, pictures, run_of, stepper_of, views_of
from step_faults import Fault
from vergence import config as c
from vergence import methods
from vergence.engine.gradients import LossScale, merged
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.errors import Diverged, InputError
from vergence.files import durable, series
from vergence.machine.processes import Group
from vergence.methods.base import Outputs
from vergence.metrics.table import TIMING

CPU = torch.device("cpu")
BYOL = VARIANTS["byol"]
PERIODS = Periods(log_every=1, save_every=1)


def trained(run, folder, **others):
    folder.mkdir(exist_ok=True)
    return train(run, pictures(), folder, reporter=Reporter(), periods=PERIODS, **others)


def learned(run, steps=1, dtype=torch.float32):
    """A stepper after some steps on the same views, and what the last left to be looked at."""
    stepper = stepper_of(run, dtype)
    labels = torch.arange(8) % 4 if run.method.kind == "supervised" else None
    for step in range(1, steps + 1):
        stepper._set(step)
        seen = stepper.learn((views_of().to(dtype),), step, 0.1, labels, with_layer_stats=True)
    return stepper, seen


def weights(stepper):
    return [p.detach().clone() for p in stepper.method.parameters() if p.requires_grad]


# --- clipping ---------------------------------------------------------------------------------------------------------

PLAIN = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_the_norm_of_the_whole_gradient_is_clipped(share):
    before = weights(stepper_of(run_of(BYOL)))
    whole, seen = learned(run_of(BYOL, optimizer=c.SGD(**PLAIN)))
    moved = torch._foreach_sub(before, weights(whole))
    norm = torch.stack(torch._foreach_norm(moved)).norm().item() / 0.5
    clipped, of_clipped = learned(run_of(BYOL, optimizer=c.SGD(**PLAIN, clip=share * norm)))
    less = torch._foreach_sub(before, weights(clipped))
    for one, other in zip(less, moved, strict=True):
        torch.testing.assert_close(one, min(share, 1.0) * other, rtol=1e-3, atol=1e-6)
    assert torch.equal(of_clipped.layers[0], seen.layers[0]), "the log has norms of before clipping"


# --- parts of a batch -------------------------------------------------------------------------------------------------

NO_BATCH_NORM = {
    "projector": c.Projector(hidden=64, out=8, norm="layer"),
    "predictor": c.MLPPredictor(hidden=64, norm="none"),
}


def normless(name):
    method = VARIANTS[name]
    return replace(method, **{k: v for k, v in NO_BATCH_NORM.items() if hasattr(method, k)})


MEANS = ["moco", "contrastive", "byol", "byol-prime", "raft", "supervised", "simsiam", "directpred"]


@pytest.mark.parametrize("name", MEANS)
def test_parts_give_the_gradient_of_the_whole_where_a_loss_is_a_mean_over_pictures(name):
    run = run_of(normless(name), encoder=c.Encoder(name="test_resnet", norm="group"), optimizer=c.SGD(lr=0.01))
    assert run.method.averages_pictures
    whole, seen = learned(run, 2, torch.float64)
    parted, of_parts = learned(replace(run, accumulate=4), 2, torch.float64)
    for one, other in zip(weights(parted), weights(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    for field in ("loss", "y", "z", "p", "z_target"):
        value = getattr(seen.outputs, field)
        if value is not None:
            torch.testing.assert_close(getattr(of_parts.outputs, field), value.detach(), rtol=1e-6, atol=1e-8)
    for key, value in whole.method.state_dict().items():  # targets and queues too
        torch.testing.assert_close(parted.method.state_dict()[key], value, rtol=1e-6, atol=1e-8)


def test_simclr_has_the_negatives_of_a_part_only():
    run = run_of(normless("simclr"), encoder=c.Encoder(name="test_resnet", norm="group"))
    assert not run.method.averages_pictures
    losses = [learned(replace(run, accumulate=n))[1].outputs.loss.item() for n in (1, 4)]
    assert losses[1] < losses[0] - 0.5, "two pictures are told apart more easily than eight"


def test_outputs_of_parts_are_put_back_in_the_order_of_the_batch():
    y, z = torch.rand(2, 8, 3), torch.rand(1, 8, 4, requires_grad=True)
    parts = [Outputs(torch.tensor(float(i)), {"term": torch.tensor(2.0 * i)}, y[:, i::4], z[:, i::4]) for i in range(4)]
    whole = merged(parts)
    assert torch.equal(whole.y, y)
    assert torch.equal(whole.z, z)
    assert not whole.z.requires_grad
    assert (whole.p, whole.z_target) == (None, None)
    assert (whole.loss, whole.terms) == (1.5, {"term": 3.0})
    assert merged(parts[:1]) is parts[0]


def test_local_crops_are_cut_into_parts_too():
    run = run_of(BYOL, views=c.Views(size=16, local=c.Local(count=3)), accumulate=2)
    seen = stepper_of(run)(1, torch.arange(8), with_layer_stats=True)
    assert seen.outputs.z.shape[:2] == (2, 8)
    assert seen.views.shape == (2, 8, 3, 16, 16)


@pytest.mark.parametrize(("batch", "parts"), [(8, 3), (8, 8), (6, 4)])
def test_parts_must_be_equal_and_of_two_pictures(batch, parts):
    with pytest.raises(ValueError, match=f"--accumulate: a batch of {batch} is not cut into {parts} equal parts of 2"):
        run_of(BYOL, batch_size=batch, accumulate=parts)


def test_parts_that_processes_cannot_share_are_refused(tmp_path):
    group = Group()
    group.size = 4
    with pytest.raises(InputError, match="--accumulate: parts of 2 pictures cannot be shared evenly by 4 processes"):
        trained(run_of(BYOL, accumulate=4), tmp_path, where=Where(group=group))


# --- a frozen encoder -------------------------------------------------------------------------------------------------


def changed(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("config", [c.SGD, c.Adam, c.AdamW, c.LARS], ids=lambda cls: cls.kind)
def test_a_frozen_encoder_has_no_update_no_decay_and_no_momentum(config):
    run = run_of(VARIANTS["simclr"], optimizer=config(weight_decay=0.1, frozen_epochs=2 / 3))
    stepper = stepper_of(run)
    encoder = dict(stepper.method.encoder.named_parameters())
    first = {name: p.detach().clone() for name, p in encoder.items()}
    statistics = stepper.method.encoder.bn1.running_mean.clone()
    for step in (1, 2):
        seen = stepper(step, torch.arange(8), with_layer_stats=True)
        assert seen.layers[1](seen.layers[0]).keys() == {"projector"}
    assert all(torch.equal(first[name], p) for name, p in encoder.items())
    assert not {id(p) for p in encoder.values()} & {id(p) for p in stepper.optimizer.state}
    assert not torch.equal(stepper.method.encoder.bn1.running_mean, statistics), "batch norm goes on following"
    seen = stepper(3, torch.arange(8), with_layer_stats=True)
    assert "encoder.conv1" in seen.layers[1](seen.layers[0])
    assert not any(torch.equal(first[name], p) for name, p in encoder.items() if p.ndim > 1)


def test_a_run_that_never_thaws_gives_back_an_encoder_that_can_be_trained(tmp_path):
    run = run_of(BYOL, optimizer=c.SGD(frozen_epochs=9.0))
    method = trained(run, tmp_path)
    fresh = dict(methods.build(run).encoder.named_parameters())
    assert all(torch.equal(p, fresh[name]) for name, p in method.encoder.named_parameters())
    assert all(p.requires_grad for p in method.encoder.parameters())


# --- float16 ----------------------------------------------------------------------------------------------------------

HALF = run_of(BYOL, precision="float16")


def lines(folder):
    return durable.read_lines(folder / "metrics.jsonl")


def overflow(method, when, seen):
    """An infinite gradient in the first weight, once."""
    if when == "before":
        weight = next(method.encoder.parameters())
        handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * float("inf"))[1])


@pytest.fixture
def low(monkeypatch):
    """A scale at which nothing overflows by itself."""
    monkeypatch.setattr(LossScale, "FIRST", 256.0)


def test_gradients_in_float16_are_near_those_in_float32(low):
    run = run_of(BYOL, encoder=c.Encoder(name="test_vit2"), optimizer=c.SGD(**PLAIN))
    before = weights(stepper_of(run))
    moved = []
    for precision in ("float32", "float16"):
        after = weights(learned(replace(run, precision=precision))[0])
        moved.append(torch.cat([change.flatten() for change in torch._foreach_sub(after, before)]))
    assert not torch.equal(*moved)
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[0].norm()


def test_the_scale_begins_high_and_comes_down(tmp_path):
    trained(HALF, tmp_path / "half")
    first, *_, last = lines(tmp_path / "half")
    assert (first["loss_scale"], first["skipped"]) == (2.0**15, 1)
    assert last["loss_scale"] == 2.0 ** (16 - last["skipped"]) < 2.0**15
    trained(run_of(BYOL), tmp_path / "plain")
    assert "loss_scale" not in lines(tmp_path / "plain")[0]


@pytest.mark.parametrize("optimizer", [c.SGD(), c.AdamW(clip=1.0), c.LARS()], ids=lambda config: config.kind)
def test_a_step_whose_gradient_overflows_is_skipped_and_counted(optimizer, low, tmp_path, monkeypatch):
    """Weights stay as they were, the scale halves, and the log says so; it is no divergence."""
    fault = Fault(monkeypatch, overflow, 3)
    trained(replace(HALF, optimizer=optimizer), tmp_path)
    assert fault.done == [3]
    found = lines(tmp_path)
    assert [(line["loss_scale"], line["skipped"]) for line in found] == [(256.0, 0)] * 2 + [(128.0, 1)] * 4
    assert [bool(line["layers"]) for line in found] == [True, True, False, True, True, True]


def test_what_is_skipped_changes_no_weight(low):
    stepper = stepper_of(HALF)
    before = weights(stepper)
    overflow(stepper.method, "before", None)
    seen = stepper(1, torch.arange(8), with_layer_stats=True)
    assert seen.layers is None
    assert all(torch.equal(one, other) for one, other in zip(before, weights(stepper), strict=True))
    assert not stepper.optimizer.state, "nor does it leave a momentum"
    stepper(2, torch.arange(8), with_layer_stats=True)
    assert not all(torch.equal(one, other) for one, other in zip(before, weights(stepper), strict=True))


def test_a_scale_below_its_floor_is_a_divergence(low, tmp_path, monkeypatch):
    monkeypatch.setattr(LossScale, "FLOOR", 129.0)
    Fault(monkeypatch, overflow, 4)
    with pytest.raises(Diverged, match="the gradient is not finite at step 4; what was saved before is whole"):
        trained(HALF, tmp_path)
    assert json.loads((tmp_path / "diverged.json").read_text())["step"] == 4


def test_a_loss_that_is_none_is_a_divergence_in_float16_too(low, tmp_path, monkeypatch):
    Fault(
        monkeypatch, lambda m, when, seen: seen._replace(loss=seen.loss * float("nan")) if when == "after" else None, 2
    )
    with pytest.raises(Diverged, match="the loss is not finite at step 2"):
        trained(HALF, tmp_path)


class KilledError(Exception):
    pass


EVERYTHING = c.AdamW(
    weight_decay=0.1,
    weight_decay_end=0.4,
    decay="matrices",
    clip=0.5,
    encoder_rate=0.5,
    layer_decay=0.8,
    frozen_epochs=0.5,
)
VIT = c.Encoder(name="test_vit2", pool="mean", drop_path=0.3)
RESUMED = {
    "float16": HALF,
    "everything": run_of(VARIANTS["moco"], encoder=VIT, optimizer=EVERYTHING, accumulate=2),
}


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("name", RESUMED)
def test_a_run_that_goes_on_ends_with_the_same_bits(name, epoch, low, tmp_path, monkeypatch):
    """In float16 after a step that was skipped, so that scale and count are not those of a first step. The encoder is
    frozen at the first checkpoint that is gone on from, and not at the second.
    """
    run, fault = RESUMED[name], Fault(monkeypatch, overflow if name == "float16" else lambda *_: None, 2)

    def go(folder, dies):
        def observe(method, views, at):
            if dies and at == epoch:
                raise KilledError
            return {}

        trained(run, tmp_path / folder, observe=observe)

    go("whole", dies=False)
    with pytest.raises(KilledError):
        go("cut", dies=True)
    fault.lifted = True  # its step is done, and is not among those of the process that goes on
    go("cut", dies=False)
    (one, files, _), (other, expected, _) = (series.newest(tmp_path / f / "checkpoints") for f in ("cut", "whole"))
    assert one.name == other.name == "step-000000006"
    assert files == expected
    own, theirs = (
        [{k: v for k, v in x.items() if k not in TIMING} for x in lines(tmp_path / f)] for f in ("cut", "whole")
    )
    assert own == theirs
    assert [line["skipped"] for line in own if "skipped" in line] == ([0, 1, 1, 1, 1, 1] if name == "float16" else [])


def test_drop_path_is_drawn_by_the_step(tmp_path):
    """Two runs are the same bits whatever torch's own generator holds; without drop path they are others."""
    run = run_of(BYOL, encoder=VIT)
    ends = []
    for seed, changes in enumerate(({}, {}, {"encoder": replace(VIT, drop_path=0.0)})):
        torch.manual_seed(seed)
        method = trained(replace(run, **changes), tmp_path / str(seed))
        ends.append(torch.cat([p.detach().flatten() for p in method.encoder.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
