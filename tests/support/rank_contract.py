"""What one rank computes of a training step, for `test_distributed.py` to compare with one process."""

import sys
from contextlib import nullcontext
from dataclasses import replace

import torch
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from small_runs import VARIANTS, pictures, run_of
from vergence import config as c
from vergence import methods, register
from vergence.data import Images
from vergence.engine.replicas import replicated
from vergence.engine.step import Setup, Stepper, update
from vergence.machine.processes import SINGLE_PROCESS, Group, joined
from vergence.machine.threads import TwoWorkers
from vergence.networks.sync_batch_norm import sync_batch_norm
from vergence.optim import build_optimizer

STEPS, BATCH = 2, 12

WIDE = c.Projector(hidden=64, out=8, norm="layer")
"""With so few units as elsewhere each is a group of its own: what such a norm gives is the rounding of nothing."""

RUNS: dict[str, c.Run] = {
    **{name: run_of(method) for name, method in VARIANTS.items()},
    "byol, layer norm": run_of(c.BYOL(projector=WIDE, predictor=c.MLPPredictor(hidden=64, norm="group"))),
    "views together": run_of(VARIANTS["byol"], norm_views="together"),
    "norm and activation in one": run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_efficientnet")),
    "group norm": run_of(VARIANTS["simclr"], encoder=c.Encoder(name="test_resnet", norm="group")),
    "Adam": run_of(VARIANTS["moco"], optimizer=c.Adam()),
    "LARS": run_of(VARIANTS["byol"], optimizer=c.LARS()),
    "parts": run_of(VARIANTS["moco"], accumulate=2),
    "parts, SimCLR": run_of(VARIANTS["simclr"], accumulate=2, optimizer=c.SGD(clip=0.1)),
    "parts, supervised": run_of(VARIANTS["supervised"], accumulate=2),
    "local crops": run_of(VARIANTS["byol"], views=c.Views(size=16, local=c.Local(count=3))),
    "local crops, SwAV": run_of(VARIANTS["swav"], views=c.Views(size=16, local=c.Local(count=2))),
    "local crops, DINO": run_of(VARIANTS["dino"], views=c.Views(size=16, local=c.Local(count=2))),
    "local crops, SIGReg": run_of(VARIANTS["sigreg"], views=c.Views(size=16, local=c.Local(count=3))),
    "slices, W-MSE": run_of(replace(VARIANTS["w-mse"], slice=4, shuffles=2)),
    "a transform": run_of(VARIANTS["byol"], views=c.Views(size=16, second=c.View(transform="noise-of-the-contract"))),
}
"""Every method, target and norm, and what else could tell parts of a batch from the whole."""
RUNS = {name: replace(run, optimizer=replace(run.optimizer, lr=0.005)) for name, run in RUNS.items()}


@register.transform("noise-of-the-contract")
def noise(crop: torch.Tensor) -> torch.Tensor:
    """Draw another picture in place of one."""
    return torch.randint(0, 256, crop.shape, dtype=torch.uint8)


class Recorder(Stepper):
    """Keeps what each step saw: loss, embeddings, gradients."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.kept: dict[str, torch.Tensor] = {}

    def learn(self, crops, step, progress=1.0, labels=None, with_layer_stats=False):
        crops = [each.double() for each in crops]
        outputs = self._differentiate(tuple(crops), step, labels)
        named = {name: p.grad for name, p in self.method.named_parameters() if p.grad is not None}
        found = {"loss": outputs.loss, "z": outputs.z, "p": outputs.p, "z_target": outputs.z_target}
        found |= {f"gradient of {name}": gradient for name, gradient in named.items()}
        self.kept |= {f"{step} {k}": v.detach().clone().contiguous() for k, v in found.items() if v is not None}
        update(self.method, self.optimizer, outputs, progress)


def steps(run: c.Run, group: Group, *, share_norms: bool = True, compiled: bool = False) -> dict[str, torch.Tensor]:
    """Two steps of a run: what they saw, and the state they left. In float64: in float32 a norm that divides by little
    makes of the rounding of one machine, by the second step, a tenth of a gradient.
    """
    images: Images = pictures(3 * BATCH)
    if getattr(run.method, "classes", None):
        run = replace(run, method=replace(run.method, classes=len(images.classes)))
    method = methods.build(run).to(torch.float64, memory_format=torch.channels_last).train()
    optimizer = build_optimizer(run.optimizer, method)
    method.group = group
    with sync_batch_norm(method, group) if share_norms else nullcontext():
        setup = Setup(run, method, optimizer, images, torch.device("cpu"), 3)
        forward = torch.compile(replicated(method, group), dynamic=False, backend="aot_eager") if compiled else None
        stepper = Recorder(setup, TwoWorkers(None), forward, group)
        for step in range(1, STEPS + 1):
            stepper(step, torch.arange(BATCH) + BATCH * step, with_layer_stats=False)
    state = {f"state {k}": v.clone().contiguous() for k, v in method.state_dict().items()}
    return stepper.kept | state


def main(folder: str, names: str, compile: str) -> None:
    """Those of these names, one a line, each rank into a file of its own; "apart": statistics of each rank's part."""
    torch.set_num_threads(1)
    with joined() as group:
        assert group is not SINGLE_PROCESS
        for name in names.splitlines():
            torch._dynamo.reset()
            run, shared = RUNS.get(name, RUNS["byol"]), name != "apart"
            found = steps(run, group, share_norms=shared, compiled=compile == "compiled")
            save_file(found, f"{folder}/{list(RUNS).index(name) if shared else name}-{group.rank}.safetensors")
    sys.stdout.flush()


def rows(folder: str) -> None:
    """Parts of several numbers of rows, shared by the ranks: what each has in the end."""
    with joined() as group:
        for count in (1, 3, 4, 9, 12):
            parts = torch.arange(count * 2.0).view(count, 2).split(4)
            found = group.all_rows(parts, lambda own: [part * 10 for part in own])
            assert torch.equal(found, torch.arange(count * 2.0).view(count, 2) * 10), count


def buckets(folder: str) -> None:
    """Weights of five steps, and of five with a new start after two, by torch's default buckets and by ours."""
    torch.set_num_threads(1)
    found = {}
    with joined() as group:
        for kind, wrap in (("default", DistributedDataParallel), ("ours", group.replicated)):
            for start in (0, 2):
                torch.manual_seed(0)
                net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64))
                shared, optimizer = wrap(net), torch.optim.SGD(net.parameters(), lr=0.1)
                for step in range(5):
                    if step == start > 0:
                        shared = wrap(net)
                    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(10 * step + group.rank))
                    optimizer.zero_grad()
                    shared(x).square().mean().backward()
                    optimizer.step()
                found[f"{kind} {start}"] = torch.cat([p.detach().flatten() for p in net.parameters()])
        save_file(found, f"{folder}/{group.rank}.safetensors")
