"""Runs as the two documents have them: the post's published code, the paper's text, and the paper's code."""

from dataclasses import replace

from vergence import config as c


def blog(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as the post's published code has it.

    STL-10, ResNet-18, SGD 0.8 (0.02 for the contrastive control), 10 of 320 epochs. Heads 512-128, batch 256, momentum
    0.9, weight decay 1e-4, BYOL's loss 1 - cos for each direction; the moving average starts at 0.996, rises by a
    cosine, and moves before the optimizer. The post has no SimCLR or MoCo row: they keep their heads and get its moving
    average, views, batch and schedule, and the rate of its contrastive control.
    """
    if _has(method, "target", c.MovingAverage):
        method = replace(method, target=c.MovingAverage(update_when="before-optimizer"))
    if isinstance(method, c.BYOL):
        method = replace(method, scale=0.5)
    explicit = isinstance(method, c.Contrastive | c.MoCo | c.SimCLR)
    return c.Run(
        method=method,
        data=data,
        views=replace(c.VIEWS["blog"], size=data.size),
        optimizer=c.SGD(lr=0.02 if explicit else 0.8, momentum=0.9, weight_decay=1e-4),
        schedule=c.Cosine(),
        epochs=10,
        schedule_epochs=320,
        batch_size=256,
    )


def raft(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as the paper's text has it (Appendix C).

    CIFAR-10 at 96 px, ResNet-18, Adam 3e-4, batch 128, 300 epochs. Projector 512-BN-ReLU-128, predictor the same
    without norm, moving average at a constant 0.996, BYOL's views.
    """
    data = replace(data, size=96)
    return c.Run(
        method=_with_heads(
            method, c.Projector(), c.MLPPredictor(norm="none"), c.MovingAverage(decay_schedule="constant")
        ),
        data=data,
        views=replace(c.VIEWS["byol"], size=96),
        optimizer=c.Adam(lr=3e-4),
        schedule=c.Constant(),
        epochs=300,
        batch_size=128,
    )


def raft_code(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as the authors' published code has it, which differs from their text.

    CIFAR stem at 32 px, heads 512-512-256 with batch norm in both, batch 1024, no blur, a target initialized on its own
    whose batch norm sees the batch. Not imitated: their one colour-jitter coin for a whole batch.
    """
    target = c.MovingAverage(decay_schedule="constant", start="independent")
    return c.Run(
        method=_with_heads(method, c.Projector(hidden=512, out=256), c.MLPPredictor(hidden=512), target),
        data=replace(data, size=32),
        views=replace(c.VIEWS["raft-code"], size=32),
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.Adam(lr=3e-4),
        schedule=c.Constant(),
        epochs=300,
        batch_size=1024,
    )


def _with_heads(method: c.Method, projector: c.Projector, predictor: c.Predictor, target: c.Target) -> c.Method:
    if isinstance(method, c.WMSE):  # it cannot whiten as many dimensions as these projectors have
        return method
    slots = {"projector": projector, "predictor": predictor, "target": target}
    return replace(method, **{name: value for name, value in slots.items() if _has(method, name, type(value))})


def _has(method: c.Method, slot: str, kind: type) -> bool:
    """Return whether a method has a slot that holds such a member by default: SimSiam's target is no moving average."""
    return isinstance(getattr(type(method), slot, None), kind)
