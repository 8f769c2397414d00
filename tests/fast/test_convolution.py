"""Our convolutions against torch's: values and gradients in float32, algebra in float64, and when they are used."""

import copy
import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from small_runs import VARIANTS, run_of, views_of
from soak import times
from vergence import config as c
from vergence import methods
from vergence.fast import convolution
from vergence.fast.convolution import Conv2d, use_fast_convolutions, use_plain_convolutions
from vergence.fast.tiles import load
from vergence.networks.encoders import build_encoder


def pair(channels, out, stride, bias=False):
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, out, 3, stride, 1, bias=bias).to(memory_format=torch.channels_last)
    return plain, use_fast_convolutions(copy.deepcopy(plain))


def results(conv, x, gradient):
    x = x.clone().requires_grad_()
    y = conv(x)
    y.backward(gradient)
    found = {"output": y.detach(), "input": x.grad, "weight": conv.weight.grad}
    return found if conv.bias is None else found | {"bias": conv.bias.grad}


CASES = [(64, 64, 1), (64, 128, 1), (128, 64, 1), (256, 256, 2), (256, 512, 2)]
SIZES = [(24, 24), (12, 12), (7, 7), (6, 6), (5, 9), (4, 4), (3, 3), (2, 2), (1, 1), (1, 8), (17, 2)]
SMALL = [
    ((channels, 19, stride), size)
    for channels in (3, 64)
    for stride in (1, 2)
    for size in (*SIZES[7:9], (1, 2), (2, 1))
]


@pytest.mark.parametrize(
    ("kernel", "size"), [*itertools.product(CASES, SIZES), *SMALL, ((128, 256, 2), (4, 4)), ((128, 128, 2), (3, 2))]
)
def test_values_and_gradients_are_torchs(kernel, size):
    channels, out, stride = kernel
    plain, fast = pair(channels, out, stride, bias=True)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, channels, *size, generator=g).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(plain(x).shape, generator=g)
    assert fast._faster(x, fast.weight) is not None
    expected = results(plain.double(), x.double(), gradient.double())  # the truth; float32 itself is 1e-7 off
    got = results(fast, x, gradient)
    for name, value in expected.items():
        assert got[name].shape == value.shape
        assert (got[name] - value).norm() <= 1e-5 * value.norm(), name


def bases(m):
    """B^T, A^T and G of Toom-Cook at m + 1 points and infinity: row i of B^T is the polynomial that is 0 at all points
    but the i-th.
    """
    points, n = [0.0, 1.0, -1.0, 2.0, -2.0][: m + 1], m + 2
    inputs, outputs, kernel = np.zeros((n, n)), np.zeros((n, m)), np.zeros((n, 3))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs[i, :-1] = np.polynomial.polynomial.polyfromroots(others)
        outputs[i] = np.power(point, range(m))
        kernel[i] = np.power(point, range(3)) / np.prod([point - other for other in others])
    inputs[-1] = np.polynomial.polynomial.polyfromroots(points)
    outputs[-1, -1] = kernel[-1, -1] = 1
    return inputs, outputs.T, kernel


@pytest.mark.parametrize("m", convolution._TILES)
def test_the_algebra_is_exact(m):
    """A tile through the bases equals the sum over the kernel."""
    inputs, outputs, kernel = (torch.from_numpy(np.kron(basis, basis)) for basis in bases(m))
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(k, k, dtype=torch.float64, generator=g) for k in (m + 2, 3))
    ours = outputs @ ((inputs @ x.flatten()) * (kernel @ w.flatten()))
    expected = nn.functional.conv2d(x[None, None], w[None, None])[0, 0]
    torch.testing.assert_close(ours.view(m, m), expected)


@pytest.mark.parametrize("m", convolution._TILES)
@pytest.mark.parametrize("what", ["inputs", "outputs", "spread", "kernel", "turned kernel", "weights"])
def test_what_is_compiled_is_the_algebra(m, what):
    """Each way on one tile of several channels, which no vector holds evenly, against the matrices."""
    inputs, outputs, kernel = bases(m)
    n, channels = m + 2, 19
    values = np.random.default_rng(0)
    tile, patch, points = (
        values.standard_normal((*side, channels)).astype(np.float32) for side in ((m, m), (3, 3), (n, n))
    )
    got, compiled = np.zeros_like(points), load()
    if what == "inputs":  # the first of the tiles of a map that is cut: its edge is 0
        framed = np.zeros((n, n, channels))
        framed[1 : m + 1, 1 : m + 1] = tile
        compiled.map_to(tile[None], 0, m, True, got[:, :, None])
        expected = both(inputs, framed)
    elif what == "spread":
        compiled.map_to(tile[None], 0, m, False, got[:, :, None])
        expected = both(outputs.T, tile)
    elif what == "outputs":
        got = np.zeros_like(tile)
        compiled.map_from(points[:, :, None], m, got[None], 0)
        expected = both(outputs, points)
    elif what == "weights":
        got = np.zeros_like(patch)
        compiled.kernel_from(points[:, :, None], m, got[None])
        expected = both(kernel.T, points)
    else:
        turned = what == "turned kernel"
        compiled.kernel_to(patch[None], m, turned, got[:, :, None])
        expected = both(kernel, patch[::-1, ::-1] if turned else patch)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def both(basis, values):
    return np.einsum("ai,bj,ijc->abc", basis, basis, values)


def test_without_numba_they_are_torchs(monkeypatch):
    plain, fast = pair(64, 64, 1)
    x = torch.randn(2, 64, 6, 6)
    monkeypatch.setattr(convolution, "can_compile", lambda: False)
    assert torch.equal(fast(x), plain(x))


DAMAGED = """
import sys
from pathlib import Path
import numba, numpy as np
from vergence.fast import tiles
for path in Path(numba.config.CACHE_DIR).rglob({damaged!r}):
    path.write_bytes(path.read_bytes()[:40])
loaded = tiles.load()
points = np.zeros((6, 6, 1, 1), np.float32)
loaded.map_to(np.ones((1, 1, 1, 1), np.float32), 0, 4, False, points)
print(points.sum())
"""


@pytest.mark.slow
def test_a_cache_that_is_damaged_or_nowhere_is_done_without(tmp_path):
    def run(damaged="nothing", where=tmp_path):
        words = [sys.executable, "-c", DAMAGED.format(damaged=damaged)]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(where)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    (tmp_path / "file").touch()
    whole = "25.0\n"  # a pixel counts once or not at all in each of five points a side
    assert run(where=tmp_path / "file" / "below") == whole
    if times(0, 1):  # to compile takes ten seconds each time
        assert run() == whole
        assert len(list(tmp_path.rglob("*.nbc"))) == 4
        assert run("*map_to*.nb?") == run("*kernel_to*.nbi") == whole


def test_any_memory_format_and_stride():
    _, fast = pair(64, 64, 1)
    x = torch.randn(2, 64, 10, 10)
    expected = fast(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(fast(x), expected, rtol=1e-5, atol=1e-5)
    wide = torch.randn(2, 64, 10, 20)
    torch.testing.assert_close(fast(wide[..., ::2]), fast(wide[..., ::2].contiguous()), rtol=1e-5, atol=1e-5)


def test_no_pictures():
    _, fast = pair(64, 64, 1)
    assert fast(torch.empty(0, 64, 6, 6)).shape == (0, 64, 6, 6)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 64, 7, 2, 3),
        nn.Conv2d(64, 64, 3, 1, 0),
        nn.Conv2d(64, 64, 3, 1, 2, dilation=2),
        nn.Conv2d(64, 64, 3, 1, 1, groups=2),
        nn.Conv2d(64, 64, 3, 1, 1, padding_mode="reflect"),
        nn.Conv2d(32, 64, 3, 1, 1),
        nn.Conv2d(64, 128, 3, 2, 1),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3, padding="same"),
    ],
    ids=str,
)
def test_other_convolutions_stay_torchs(conv):
    x = torch.randn(2, conv.in_channels, 9, 9)
    expected = conv(x)
    fast = use_fast_convolutions(conv)
    assert type(fast) is Conv2d
    assert torch.equal(fast(x), expected)


@pytest.mark.parametrize(("side", "used"), [(1, "_Whole"), (2, "_Whole"), (3, "_Winograd"), (12, "_Winograd")])
def test_the_size_of_the_map_decides(side, used):
    _, fast = pair(64, 64, 1)
    assert fast._faster(torch.randn(2, 64, side, side), fast.weight).__name__ == used


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_numbers_stay_torchs(dtype):
    plain, fast = (conv.to(dtype) for conv in pair(64, 64, 1))
    x = torch.randn(2, 64, 6, 6).to(dtype)
    assert torch.equal(fast(x), plain(x))


def test_autocast_stays_autocast():
    _, fast = pair(64, 64, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(torch.randn(2, 64, 6, 6)).dtype == torch.bfloat16


def test_a_backbone_has_them_and_keeps_its_parameters():
    encoder = build_encoder(c.Encoder(), 32)
    convs = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert all(type(conv) is Conv2d for conv in convs)
    names = list(encoder.state_dict())
    assert list(use_plain_convolutions(copy.deepcopy(encoder)).state_dict()) == names


def gradient_of(method, views):
    method.zero_grad()
    loss = method(views).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.double().flatten() for p in method.parameters() if p.grad is not None])


@pytest.mark.slow
def test_a_step_is_as_near_to_torchs_as_another_memory_layout():
    """BYOL, ResNet-18, 48 px: the loss and the gradient are off by what channels_last alone changes, or less than
    twice that. (An untrained network with batch norm multiplies rounding.)
    """
    run = run_of(VARIANTS["byol"], encoder=c.Encoder())
    run = replace(run, views=replace(run.views, size=48), data=c.Digits(size=48))
    plain = use_plain_convolutions(methods.build(run).train())
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    fast = use_fast_convolutions(copy.deepcopy(last))
    views = views_of(8, 48)
    loss, gradient = gradient_of(plain, views.contiguous())
    layout, ours = (gradient_of(method, views) for method in (last, fast))
    off = [(found - gradient).norm() / gradient.norm() for _, found in (layout, ours)]
    assert ours[0] == pytest.approx(loss, abs=1e-5)
    assert 0 < off[1] < 2 * off[0]
