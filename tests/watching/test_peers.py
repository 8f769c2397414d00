"""Hooks and the callback of a `Watch` on the modules of other libraries, and on their like."""

import copy
import io
import sys

import pytest
import torch
from torch import nn

import vergence
from vergence.errors import InputError
from vergence.watching import lightning as ours

lightly_loss = pytest.importorskip("lightly.loss")
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead  # noqa: E402
from lightly.models.utils import deactivate_requires_grad, update_momentum  # noqa: E402


def backbone():
    """As lightly's examples have it: a ResNet without its last layer, which returns `[b d 1 1]`."""
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


class SimCLR(nn.Module):
    """As in lightly's documentation."""

    def __init__(self):
        super().__init__()
        self.backbone = backbone()
        self.projection_head = SimCLRProjectionHead(16, 16, 8)

    def forward(self, x):
        return self.projection_head(self.backbone(x).flatten(start_dim=1))


class BYOL(SimCLR):
    """As in lightly's documentation: the target's parts are copies."""

    def __init__(self):
        super().__init__()
        self.projection_head = BYOLProjectionHead(16, 16, 8)
        self.prediction_head = BYOLPredictionHead(8, 16, 8)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x):
        return self.prediction_head(super().forward(x))

    def forward_momentum(self, x):
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


def train_simclr(hook=lambda model: None, steps=12):
    torch.manual_seed(0)
    model, criterion = SimCLR(), lightly_loss.NTXentLoss()
    hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        x = torch.rand(16, 3, 12, 12)
        loss = criterion(model(x), model(x + 0.1 * torch.rand_like(x)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 4 == 3:  # validation, which is no step
            model.eval()
            model(x)
            model.train()
    return model


def train_byol(hook, steps=12):
    torch.manual_seed(0)
    model, criterion = BYOL(), lightly_loss.NegativeCosineSimilarity()
    hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        x0, x1 = torch.rand(2, 16, 3, 12, 12)
        update_momentum(model.backbone, model.backbone_momentum, 0.99)
        update_momentum(model.projection_head, model.projection_head_momentum, 0.99)
        p0, z0 = model(x0), model.forward_momentum(x0)
        p1, z1 = model(x1), model.forward_momentum(x1)
        loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_lightlys_simclr_is_watched_without_a_call_in_its_loop(tmp_path):
    with vergence.Watch(tmp_path, every=1, say=None) as watch:
        watched = train_simclr(watch.hook)
    plain = state(train_simclr())
    assert all(torch.equal(value, plain[name]) for name, value in state(watched).items())
    assert [line["step"] for line in watch.lines] == list(range(1, 13))
    assert watch.lines[0]["y_rank"] > 1
    assert watch.by == "hooks on backbone, projection_head"
    assert not watched.backbone._forward_hooks  # close takes them away


def test_lightlys_byol_is_watched_with_predictor_and_target():
    watch = vergence.Watch(every=1, say=None)
    seen = []
    measured = watch.__class__._measure
    watch._measure = lambda step, given: (seen.append(given), measured(watch, step, given))
    train_byol(lambda model: watch.hook(model, predictor="prediction_head", target="projection_head_momentum"))
    assert len(watch.lines) == 12
    assert watch.lines[0]["cross_model"] is not None
    assert {name: [tuple(view.shape) for view in views] for name, views in seen[0].views.items()} == {
        "z": [(16, 8)] * 2,
        "y": [(16, 16)] * 2,
        "p": [(16, 8)] * 2,
        "z_target": [(16, 8)] * 2,
    }


class Peer(nn.Module):
    """A module whose parts are called as other libraries call theirs."""

    def __init__(self, tokens=False):
        super().__init__()
        self.backbone = nn.Linear(6, 10)
        self.projector = nn.Linear(10, 4)
        self.tokens = tokens

    def forward(self, *crops):
        return [self.projector(self.backbone(x)) for x in crops]


def test_both_views_in_one_batch():
    one, two = vergence.Watch(every=1, say=None), vergence.Watch(every=1, say=None)
    model, x = Peer(), torch.rand(2, 8, 6)
    hooks = one.hook(model, projector="projector", calls=1)
    model(x.flatten(0, 1))
    hooks.remove()
    two.hook(model, projector="projector")
    model(*x)
    assert one.lines[0]["pos_cos"] == pytest.approx(two.lines[0]["pos_cos"], abs=1e-6)
    assert one.lines[0]["y_rank"] == pytest.approx(two.lines[0]["y_rank"], abs=1e-4)


def test_of_many_crops_the_first_two_are_the_views():
    """As in solo-learn, whose large crops come first."""
    watch = vergence.Watch(every=1, say=None)
    model = Peer()
    watch.hook(model, projector="projector", calls=5)
    for _ in range(3):
        model(*torch.rand(2, 8, 6), *torch.rand(3, 8, 6))
    assert [line["step"] for line in watch.lines] == [1, 2, 3]


def test_maps_tokens_and_several_outputs_become_rows():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps, self.tokens, self.tuple, self.dict = (nn.Identity() for _ in range(4))

        def forward(self, x):
            return (
                self.maps(x),
                self.tokens(x.flatten(2).mT),
                self.tuple((x.mean((2, 3)), x)),
                self.dict({"a": x, "b": 1}),
            )

    rows = {}
    for part in ("maps", "tokens", "tuple", "dict"):
        watch, model = vergence.Watch(every=1, say=None), Parts()
        watch.hook(model, part, part)
        for x in torch.rand(2, 8, 5, 2, 2, generator=torch.Generator().manual_seed(0)):
            model(x)
        rows[part] = watch.lines[0]["pos_cos"]
    assert list(rows.values()) == pytest.approx([rows["maps"]] * 4, abs=1e-6)


def test_training_that_goes_on_counts_from_its_last_step():
    watch = vergence.Watch(every=1, say=None)
    model = Peer()
    watch.hook(model, projector="projector", done=100)
    model(*torch.rand(2, 8, 6))
    assert watch.lines[0]["step"] == 101


def test_a_model_with_hooks_can_be_copied_and_saved():
    watch = vergence.Watch(every=1, say=None)
    model = Peer()
    watch.hook(model, projector="projector")
    torch.save(model, io.BytesIO())
    copy.deepcopy(model)(*torch.rand(2, 8, 6))
    assert not watch.lines
    model(*torch.rand(2, 8, 6))
    assert len(watch.lines) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"encoder": "backone"}, "watch: Peer has no part 'backone'; it has backbone, projector"),
        (
            {"projector": "projector", "predicter": "projector"},
            "watch: 'predicter' is no part; did you mean 'predictor'",
        ),
        ({"projector": "projector", "calls": 0}, "watch: calls: expected how often each part is called"),
    ],
)
def test_wrong_parts_are_one_line(how, said):
    with pytest.raises(InputError, match=said):
        vergence.Watch(say=None).hook(Peer(), **how)


@pytest.mark.unshaped
def test_what_has_no_hooks_is_said():
    watch = vergence.Watch(say=None)
    with pytest.raises(InputError, match="expected a torch module, not a str"):
        watch.hook("model")
    compiled = Peer()
    compiled.compile()
    for model in (compiled, torch.compile(Peer())):
        with pytest.raises(InputError, match="a compiled module runs no hooks; call the watch in the loop"):
            watch.hook(model, projector="projector")


def test_a_part_that_is_called_otherwise_ends_the_watching_and_not_the_loop():
    told = []
    watch = vergence.Watch(name="mine", every=1, say=told.append)
    model = Peer()
    watch.hook(model, projector="projector")
    for _ in range(4):
        model.backbone(torch.rand(8, 6))
    said = "a step has 2 calls of each part, but there were y 3 times, z 0 times; see calls="
    assert told == [f"mine: not watched from step 1 on: {said}"]
    odd = vergence.Watch(name="odd", every=1, say=told.append)
    odd.hook(model, projector="projector", calls=1)
    model(torch.rand(7, 6))
    assert "odd: not watched from step 1 on: watch: z is 2 views" in told[-1] or "watch: y is 2 views" in told[-1]
    words = vergence.Watch(name="words", say=told.append)
    words.hook(nn.ModuleDict({"backbone": nn.Identity(), "projection_head": nn.Identity()}))
    words._hooks[0].module["backbone"]("text")
    assert told[-1] == "words: not watched from step 1 on: a part returns a str, not a tensor"


def test_stable_pretrainings_simclr_is_watched():
    """Its parts are called view by view, the encoder for both views first."""
    methods = pytest.importorskip("stable_pretraining.methods.simclr", exc_type=ImportError)

    def trained(watch):
        torch.manual_seed(0)
        model = methods.SimCLR("resnet18", (16, 16, 8), low_resolution=True)
        if watch is not None:
            watch.hook(model, projector="projector")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3):
            x = torch.rand(8, 3, 32, 32)
            model(x, x.flip(3)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return state(model)

    watch = vergence.Watch(every=1, say=None)
    watched, plain = trained(watch), trained(None)
    assert all(torch.equal(value, plain[name]) for name, value in watched.items())
    assert [line["step"] for line in watch.lines] == [1, 2, 3]
    assert watch.lines[0]["y_rank"] > 1


# --- Lightning --------------------------------------------------------------------------------------------------------

LIGHTNING = ["pytorch_lightning", "lightning.pytorch"]


def fit(pl, callbacks, accumulate=1, epochs=2, fails=False):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = SimCLR()
            self.backbone, self.projection_head = self.model.backbone, self.model.projection_head
            self.criterion = lightly_loss.NTXentLoss()

        def training_step(self, batch, index):
            if fails and self.global_step == 3:
                raise ZeroDivisionError
            (x,) = batch
            return self.criterion(self.model(x), self.model(x.flip(3)))

        def validation_step(self, batch, index):
            self.model(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    pictures = torch.utils.data.TensorDataset(torch.rand(64, 3, 12, 12))
    loader, other = (torch.utils.data.DataLoader(pictures, 16) for _ in range(2))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    module = Module()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=callbacks, accumulate_grad_batches=accumulate, **quiet
    )
    trainer.fit(module, loader, other)
    return state(module), trainer


@pytest.fixture(params=LIGHTNING)
def pl(request, monkeypatch):
    module = pytest.importorskip(request.param, exc_type=ImportError)
    for name in LIGHTNING:
        if name != request.param:
            monkeypatch.delitem(sys.modules, name, raising=False)
    return module


@pytest.mark.unshaped
@pytest.mark.filterwarnings("ignore")  # of Lightning: of workers and of intervals
class TestLightning:
    def test_a_trainer_is_watched(self, pl, tmp_path):
        watch = vergence.Watch(tmp_path, every=1, say=None)
        watched, _ = fit(pl, [watch.lightning()])
        plain, _ = fit(pl, [])
        assert all(torch.equal(value, plain[name]) for name, value in watched.items())
        assert [line["step"] for line in watch.lines] == list(range(1, 9))
        assert watch.lines[-1]["epoch"] == 2
        assert all(line["loss"] > 0 for line in watch.lines)
        assert watch.by == "lightning, hooks on backbone, projection_head"
        assert (tmp_path / "summary.json").exists()

    def test_accumulated_gradients_are_one_step(self, pl):
        watch = vergence.Watch(every=1, say=None)
        fit(pl, [watch.lightning()], accumulate=2)
        assert [line["step"] for line in watch.lines] == [1, 2, 3, 4]
        assert watch.lines[-1]["epoch"] == 2

    def test_a_trainer_that_fails_leaves_the_log_unfinished(self, pl, tmp_path):
        watch = vergence.Watch(tmp_path, every=1, say=None)
        with pytest.raises(ZeroDivisionError):
            fit(pl, [watch.lightning()], fails=True)
        assert [line["step"] for line in watch.lines] == [1, 2, 3]
        assert watch.is_off
        assert not (tmp_path / "summary.json").exists()


def test_without_lightning_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    for name in ("lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"^watch: Lightning is not installed: pip install lightning$"):
        ours.callback(vergence.Watch(say=None), {}, 2)
