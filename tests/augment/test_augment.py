"""Each operation against torchvision's, one picture at a time; each distribution against torchvision's draws."""

import dataclasses
from itertools import permutations

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import ColorJitter, RandomResizedCrop

from vergence import augment
from vergence.augment import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters, operations, parameters
from vergence.augment import views as views_module
from vergence.config import VIEWS, View, Views

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORDERS = torch.tensor(list(permutations(range(4))))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_pixels(n, side, seed=0, width=None):
    return torch.randint(0, 256, (n, 3, side, width or side), dtype=torch.uint8, generator=generator(seed))


def random_pictures(n, side, seed=0, dtype=torch.float32):
    """Noise, with some gray, black, white and pure-coloured pixels in each picture."""
    x = random_pixels(n, side, seed).to(dtype) / 255
    x[:, :, 0] = x[:, :1, 0]
    x[:, :, 1] = 0
    x[:, :, 2] = 1
    x[:, :, 3] = x[:, :, 3].round()
    return x


def each(operation, x, *values):
    """The operation on one picture at a time, each with its own values as Python numbers."""
    numbers = zip(*(value.tolist() for value in values), strict=True)
    return torch.stack([operation(picture, *numbers) for picture, numbers in zip(x, numbers, strict=True)])


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def crops(side):
    """Top, left, height, width: the whole, every border and corner, one pixel, one row, one column, the inside."""
    half, rest = side // 2, side - side // 2
    boxes = [
        (0, 0, side, side),
        (0, 0, half, half),
        (0, half, half, rest),
        (half, 0, rest, half),
        (half, half, rest, rest),
        (3, 5, side - 7, side - 6),
        (2, 1, 7, side - 2),
        (side - 1, side - 1, 1, 1),
        (half, 0, 1, side),
        (0, half, side, 1),
        (1, 2, 5, 3),
    ]
    return torch.tensor(boxes).unbind(1)


# --- crop, flip, resize ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("side", "size"), [(32, 32), (32, 96), (20, 31), (96, 32), (50, 13), (96, 96), (64, 1), (224, 96)]
)
def test_crop_resize(side, size, antialias, dtype):
    box = crops(side)
    x = random_pictures(len(box[0]), side, dtype=dtype)
    expected = each(
        lambda picture, *crop: reference.resized_crop(picture, *crop, size=[size, size], antialias=antialias), x, *box
    )
    tolerance = {torch.float32: 1e-5 if side <= 96 else 2e-5, torch.float64: 1e-12}[dtype]
    close(augment.crop_resize(x, *box, size, antialias=antialias), expected, tolerance)


def test_flip():
    box = crops(40)
    x = random_pictures(len(box[0]), 40)
    flip = torch.arange(len(x)) % 2 == 0
    plain, flipped = augment.crop_resize(x, *box, 24), augment.crop_resize(x, *box, 24, flip=flip)
    close(flipped, torch.where(flip[:, None, None, None], plain.flip(3), plain), 1e-6)
    assert not torch.equal(flipped[0], plain[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("side", "source", "size"), [(32, 96, 96), (32, 96, 40), (8, 32, 32), (64, 48, 56), (32, 32, 24)]
)
def test_source_equals_resize_then_crop(side, source, size, dtype):
    box = crops(source)
    x = random_pictures(len(box[0]), side, dtype=dtype)
    enlarged = reference.resize(x, [source, source], antialias=True)
    expected = each(lambda picture, *crop: reference.resized_crop(picture, *crop, size=[size, size]), enlarged, *box)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    close(augment.crop_resize(x, *box, size, source=source), expected, tolerance)


def test_source_of_pictures_that_are_not_square():
    box = crops(48)
    x = (random_pixels(len(box[0]), 20, width=36) / 255).contiguous()
    enlarged = reference.resize(x, [48, 48], antialias=True)
    expected = each(lambda picture, *crop: reference.resized_crop(picture, *crop, size=[32, 32]), enlarged, *box)
    close(augment.crop_resize(x, *box, 32, source=48), expected, 1e-5)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [1, 17, 96])
def test_rows_of_crop_matrices_sum_to_one(size, antialias):
    top, _, height, _ = crops(50)
    matrices = operations._interval_matrices(top, height, size, 50, None, antialias, torch.empty(0))
    close(matrices.sum(2), torch.ones(len(top), size), 1e-6)
    assert (matrices >= 0).all()
    pixel = torch.arange(50)
    outside = (pixel < top[:, None]) | (pixel >= (top + height)[:, None])
    assert (matrices.amax(1)[outside] == 0).all()


# --- colour ---


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        (augment.adjust_brightness, reference.adjust_brightness, 1e-6),
        (augment.adjust_contrast, reference.adjust_contrast, 1e-6),
        (augment.adjust_saturation, reference.adjust_saturation, 1e-6),
    ],
)
def test_blends(ours, theirs, tolerance):
    factor = torch.tensor([0.0, 0.2, 0.6, 1.0, 1.4, 1.8, 3.0])
    x = random_pictures(len(factor), 24)
    before = x.clone()
    close(ours(x, factor), each(theirs, x, factor), tolerance)
    assert torch.equal(x, before)
    assert torch.equal(ours(x, factor)[3], x[3])  # a factor of 1 changes nothing


def test_hue():
    factor = torch.tensor([-0.5, -0.4, -1 / 3, -0.1, -1e-3, 0.0, 1e-3, 0.1, 1 / 6, 0.25, 1 / 3, 0.5])
    x = random_pictures(len(factor), 48)
    y = augment.adjust_hue(x, factor)
    close(y, each(reference.adjust_hue, x, factor), 2e-6)
    assert y.min() >= 0
    assert y.max() <= 1
    gray = (x.amax(1) == x.amin(1))[:, None].expand_as(x)
    assert gray.float().mean() > 0.05
    close(y[gray], x[gray], 2e-7)


def test_hue_of_every_coarse_colour():
    levels = torch.tensor([0.0, 1e-7, 0.1, 0.25, 0.5, 0.5 + 6e-8, 0.75, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(3, 16, 32)
    factor = torch.linspace(-0.5, 0.5, 61)
    x = colours.expand(61, 3, 16, 32)
    close(augment.adjust_hue(x, factor), each(reference.adjust_hue, x, factor), 2e-6)


def torchvision_jitter(picture, brightness, contrast, saturation, hue, order):
    for operation in order:
        if operation == BRIGHTNESS:
            picture = reference.adjust_brightness(picture, brightness)
        elif operation == CONTRAST:
            picture = reference.adjust_contrast(picture, contrast)
        elif operation == SATURATION:
            picture = reference.adjust_saturation(picture, saturation)
        elif operation == HUE:
            picture = reference.adjust_hue(picture, hue)
    return picture


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shuffle", [0, 1])
def test_jitter_in_all_orders(shuffle, compiled, monkeypatch):
    monkeypatch.setattr(operations, "can_compile", lambda: compiled)
    order = ORDERS[torch.randperm(24, generator=generator(shuffle))]
    x = random_pictures(24, 32)
    low, high = torch.tensor([[0.2] * 3 + [-0.2], [1.8] * 3 + [0.2]])
    factors = (low + (high - low) * torch.rand(24, 4, generator=generator())).unbind(1)
    before = x.clone()
    close(augment.jitter(x, *factors, order), each(torchvision_jitter, x, *factors, order), 1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("weighted", [True, False])
def test_jitter_compiled_is_jitter(weighted, monkeypatch):
    """Some pictures only, every coarse colour, hues turned as far as they go, sides that no vector holds evenly."""
    n, h, w = 24, 19, 27
    levels = torch.tensor([0.0, 1e-7, 0.1, 0.25, 0.5, 0.5 + 6e-8, 0.75, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels).T
    x = colours[:, torch.randint(512, (n, h, w), generator=generator())].transpose(0, 1).contiguous()
    which = torch.rand(n, generator=generator()) < 0.7
    factors = torch.rand(n, 4, generator=generator(1)) * 2
    factors[:, HUE] = torch.linspace(-0.5, 0.5, n)
    shares = None
    if weighted:
        shares = tuple(torch.rand(n, side, generator=generator()).softmax(1) for side in (h, w))
    results = []
    for compiled in (True, False):
        monkeypatch.setattr(operations, "can_compile", lambda now=compiled: now)
        results.append(x.clone())
        operations.jitter_(results[-1], which, factors, ORDERS, shares)
    assert torch.equal(results[0][~which], x[~which])
    assert not torch.equal(results[0][which], x[which])
    close(*results, 2e-6)


def test_order_matters():
    x = random_pictures(24, 16)[:1].expand(24, -1, -1, -1)
    factors = [torch.full((24,), value) for value in (1.5, 1.7, 1.6, 0.15)]
    y = augment.jitter(x, *factors, ORDERS).flatten(1)
    assert (torch.cdist(y, y) + torch.eye(24) > 1e-3).all()


def test_gray_solarize_normalize():
    x = random_pictures(6, 24)
    close(augment.grayscale(x), reference.rgb_to_grayscale(x, num_output_channels=3), 1e-6)
    x[0, 0, 5, :3] = torch.tensor([0.5, 0.5 - 2**-25, 0.5 + 2**-24])
    for threshold in (0.0, 0.25, 0.5, 1.0):
        assert torch.equal(augment.solarize(x, threshold), reference.solarize(x, threshold))
    assert torch.equal(augment.normalize(x, MEAN, STD), reference.normalize(x, list(MEAN), list(STD)))


# --- blur ---


@pytest.mark.parametrize(("side", "kernel"), [(32, 3), (96, 9), (100, 23), (33, 5), (65, 1), (8, 15)])
def test_blur(side, kernel):
    sigma = torch.tensor([0.1, 0.2, 0.5, 1.0, 1.37, 2.0, 5.0])
    x = random_pictures(len(sigma), side)
    expected = each(lambda picture, value: reference.gaussian_blur(picture, [kernel] * 2, [value] * 2), x, sigma)
    close(augment.gaussian_blur(x, sigma, kernel), expected, 2e-6)


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (32, 9), (12, 23)])
def test_blur_matrices_are_bands_whose_rows_sum_to_one(side, kernel):
    matrices = operations.blur_matrices(torch.tensor([0.1, 1.0, 2.0]), side, kernel)
    close(matrices.sum(2), torch.ones(3, side), 1e-6)
    pixel = torch.arange(side)
    assert (matrices[:, (pixel[:, None] - pixel).abs() > kernel // 2] == 0).all()


def test_kernel_size():
    assert [augment.kernel_size(size) for size in (8, 32, 64, 96, 128, 224)] == [3, 3, 7, 9, 13, 23]


@pytest.mark.parametrize("kernel", [4, 17])
def test_impossible_kernels_are_refused(kernel):
    with pytest.raises(ValueError, match="kernel_size"):
        augment.gaussian_blur(random_pictures(1, 8), torch.ones(1), kernel)


# --- the whole view ---


def torchvision_view(pixels, source, size, p):
    """The view of one picture by torchvision's functions; `p` holds its parameters as Python numbers."""
    x = reference.to_dtype(pixels, torch.float32, scale=True)
    x = reference.resize(x, [source, source], antialias=True)
    x = reference.resized_crop(x, p.top, p.left, p.height, p.width, [size, size], antialias=True)
    x = reference.horizontal_flip(x) if p.flip else x
    x = torchvision_jitter(x, p.brightness, p.contrast, p.saturation, p.hue, p.order) if p.jitter else x
    x = reference.rgb_to_grayscale(x, num_output_channels=3) if p.gray else x
    x = reference.gaussian_blur(x, [augment.kernel_size(size)] * 2, [p.sigma] * 2) if p.blur else x
    x = reference.solarize(x, 0.5) if p.solarize else x
    return reference.normalize(x, list(MEAN), list(STD))


@pytest.mark.parametrize(("side", "source", "size"), [(32, 96, 96), (40, 40, 32)])
@pytest.mark.parametrize("name", ["blog", "simclr", "byol"])
def test_view_equals_torchvision_loop(name, side, source, size):
    n = 40  # more than a chunk
    pixels = random_pixels(n, side)
    parameters = augment.draw(VIEWS[name].second, n, source, generator())
    ours = augment.apply(pixels, source, size, parameters, Views(mean=MEAN, std=STD))
    numbers = [Parameters(*values) for values in zip(*(values.tolist() for values in parameters), strict=True)]
    expected = torch.stack([torchvision_view(x, source, size, p) for x, p in zip(pixels, numbers, strict=True)])
    wrong = (ours - expected).abs() > 2e-4
    # Solarization jumps at 1/2, where rounding may take a value to the other side.
    solarized = parameters.solarize[:, None, None, None].expand_as(wrong)
    assert not wrong[~solarized].any()
    assert wrong.float().mean() < 1e-4
    assert name != "byol" or parameters.solarize.any()


@pytest.mark.parametrize("name", list(VIEWS))
def test_published_pipelines(name):
    views = two_views(random_pixels(3, 32), VIEWS[name], source=96)
    assert views.shape == (2, 3, 3, 32, 32)
    assert views.dtype == torch.float32
    assert views.isfinite().all()
    low, high = (
        torch.tensor([(value - mean) / std for mean, std in zip(MEAN, STD, strict=True)]) for value in (0.0, 1.0)
    )
    values = views.movedim(2, -1)
    assert (values >= low - 1e-5).all()
    assert (values <= high + 1e-5).all()


def two_views(pixels, views=None, source=32, seed=0):
    return augment.two_views(pixels, source, views or Views(), generator(seed))


@pytest.mark.parametrize("n", [1, 5, 40])
def test_layout(n):
    views = two_views(random_pixels(n, 32), Views(size=24))
    assert views.shape == (2, n, 3, 24, 24)
    for view in views:
        assert view.is_contiguous(memory_format=torch.channels_last)
        assert view.stride()[1:] == (1, 72, 3)
    whole = augment.evaluation_view(random_pixels(n, 32), 32, Views(size=24))
    assert whole.shape == (n, 3, 24, 24)
    assert whole.stride()[1:] == (1, 72, 3)


def test_no_pictures():
    assert two_views(random_pixels(0, 32)).shape == (2, 0, 3, 32, 32)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_all_or_nothing(chance):
    view = View(flip=chance, jitter=chance, gray=chance, blur=chance, solarize=chance)
    parameters = augment.draw(view, 200, 32, generator())
    for coin in (parameters.flip, parameters.jitter, parameters.gray, parameters.blur, parameters.solarize):
        assert (coin == bool(chance)).all()
    assert two_views(random_pixels(2, 32), Views(first=view, second=view)).isfinite().all()


def test_without_randomness_it_is_the_picture():
    still = View(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, gray=0, blur=0)
    pixels = random_pixels(3, 32)
    first, second = two_views(pixels, Views(first=still, second=still))
    expected = reference.normalize(pixels / 255, list(MEAN), list(STD))
    close(first, expected, 1e-5)
    assert torch.equal(first, second)
    close(augment.evaluation_view(pixels, 32, Views()), expected, 1e-5)


def test_one_draw_for_each_picture_of_each_view():
    pixels = random_pixels(1, 32).expand(40, -1, -1, -1)
    views = two_views(pixels).flatten(0, 1).flatten(1)
    assert (torch.cdist(views, views) + torch.eye(80) > 0.1).all()
    drawn = augment.draw(View(), 1000, 96, generator())
    for values in (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.sigma):
        assert len(values.unique()) > 990


def test_the_generator_decides():
    pixels = random_pixels(6, 32)
    assert torch.equal(two_views(pixels, seed=3), two_views(pixels, seed=3))
    assert not torch.equal(two_views(pixels, seed=3), two_views(pixels, seed=4))
    shared = generator(3)
    before = torch.get_rng_state()
    first, second = (augment.two_views(pixels, 32, Views(), shared) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_second_view_is_drawn_after_the_first():
    pixels, shared = random_pixels(5, 32), generator()
    views = VIEWS["byol"]
    drawn = [augment.draw(view, 5, 32, shared) for view in (views.first, views.second)]
    expected = [augment.apply(pixels, 32, views.size, parameters, views) for parameters in drawn]
    assert torch.equal(two_views(pixels, views), torch.stack(expected))


def test_chunks_change_nothing(monkeypatch):
    pixels = random_pixels(11, 32)
    whole = two_views(pixels)
    monkeypatch.setattr(views_module, "_CHUNK", 4)
    close(two_views(pixels), whole, 1e-5)


def test_any_strides_and_memory_maps(tmp_path):
    pixels = random_pixels(4, 32)
    expected = two_views(pixels)
    assert torch.equal(two_views(pixels.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(two_views(pixels.repeat_interleave(2, dim=3)[..., ::2]), expected)
    pixels.numpy().tofile(tmp_path / "pixels")
    mapped = torch.from_file(str(tmp_path / "pixels"), size=pixels.numel(), dtype=torch.uint8)
    assert torch.equal(two_views(mapped.view(4, 3, 32, 32)), expected)
    assert torch.equal(mapped, pixels.flatten())


@pytest.mark.parametrize(
    ("side", "source", "size"), [(32, 96, 96), (32, 96, 40), (96, 96, 64), (32, 32, 32), (50, 32, 48)]
)
def test_evaluation_view(side, source, size):
    pixels = random_pixels(4, side)
    x = reference.resize(pixels / 255, [source, source], antialias=True)
    expected = reference.normalize(reference.resize(x, [size, size], antialias=True), list(MEAN), list(STD))
    close(augment.evaluation_view(pixels, source, Views(size=size)), expected, 5e-5)


def test_matrices_first_made_in_inference_mode_serve_training():
    operations.resize_matrix.cache_clear()
    operations._taps.cache_clear()
    pixels, views = random_pixels(2, 20), VIEWS["byol"]
    with torch.inference_mode():
        expected = two_views(pixels, views, source=30)
    weight = torch.ones((), requires_grad=True)
    (two_views(pixels, views, source=30) * weight).sum().backward()
    assert torch.equal(two_views(pixels, views, source=30), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_views():
    pixels, views = random_pixels(40, 32), Views(size=96)
    there = two_views(pixels.cuda(), views, source=96)
    assert there.is_cuda
    assert there[0].is_contiguous(memory_format=torch.channels_last)
    close(there.cpu(), two_views(pixels, views, source=96), 2e-4)


# --- distributions ---

N = 4000


def same_distribution(a, b):
    return ks_2samp(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("scale", "ratio", "side"),
    [((0.08, 1.0), (3 / 4, 4 / 3), 96), ((0.2, 1.0), (3 / 4, 4 / 3), 32), ((0.5, 1.0), (1 / 3, 3.0), 224)],
)
def test_crops_are_drawn_as_torchvision_draws_them(scale, ratio, side):
    top, left, height, width = augment.draw(View(crop_scale=scale, crop_ratio=ratio), N, side, generator())[:4]
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= side).all()
    assert (left + width <= side).all()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        picture = torch.empty(3, side, side)
        theirs = [RandomResizedCrop.get_params(picture, list(scale), list(ratio)) for _ in range(N)]
    their_top, their_left, their_height, their_width = torch.tensor(theirs).unbind(1)
    assert same_distribution(height * width, their_height * their_width)
    assert same_distribution(width / height, their_width / their_height)
    assert same_distribution(height, their_height)
    assert same_distribution(top, their_top)
    assert same_distribution(left, their_left)
    room, their_room = height < side, their_height < side
    ours = (top / (side - height))[room]
    assert same_distribution(ours, (their_top / (side - their_height))[their_room])
    assert abs(torch.corrcoef(torch.stack([top / side, left / side]))[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("ratio", "scale", "box"),
    [
        ((2.0, 3.0), (1.0, 1.0), (24, 0, 48, 96)),
        ((0.2, 0.5), (1.0, 1.0), (0, 24, 96, 48)),
        ((0.7, 0.9), (1.0, 1.0), None),
    ],
)
def test_where_no_try_fits_the_crop_is_torchvisions(ratio, scale, box):
    """Area 1 with a ratio other than 1 never fits."""
    drawn = torch.stack(augment.draw(View(crop_scale=scale, crop_ratio=ratio), 20, 96, generator())[:4], dim=1)
    theirs = torch.tensor(RandomResizedCrop.get_params(torch.empty(3, 96, 96), list(scale), list(ratio)))
    assert (drawn == theirs).all()
    assert box is None or drawn[0].tolist() == list(box)


def test_where_no_try_fits_and_1_is_allowed_the_crop_is_the_whole():
    impossible = torch.full((3, 10), 0.999)
    place = torch.full((3, 2), 0.5)
    box = parameters._draw_crops(View(), 96, impossible, impossible, place)
    assert torch.stack(box, dim=1).tolist() == [[0, 0, 96, 96]] * 3


def test_the_first_try_that_fits_is_taken():
    areas = torch.tensor([[0.999, 0.25, 0.5]], dtype=torch.float64)
    ratios = torch.tensor([[0.999, 0.5, 0.5]], dtype=torch.float64)
    place = torch.tensor([[0.0, 1 - 1e-12]], dtype=torch.float64)
    view = View(crop_scale=(1e-9, 1.0), crop_ratio=(0.5, 2.0))
    assert [int(value) for value in parameters._draw_crops(view, 96, areas, ratios, place)] == [0, 48, 48, 48]


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.2, 0.1), (1.5, 0.8, 0.0, 0.5)])
def test_colour_factors_are_drawn_as_torchvision_draws_them(strengths):
    view = View(**dict(zip(("brightness", "contrast", "saturation", "hue"), strengths, strict=True)))
    drawn = augment.draw(view, N, 32, generator())
    transform = ColorJitter(*strengths)
    ranges = (transform.brightness, transform.contrast, transform.saturation, transform.hue)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = [ColorJitter.get_params(*ranges) for _ in range(N)]
    assert set(map(tuple, drawn.order.tolist())) == set(permutations(range(4)))
    for k, ours in enumerate((drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue)):
        values = [draws[k + 1] for draws in theirs]
        if values[0] is None:  # a strength of 0
            assert (ours == 1).all()
        else:
            assert same_distribution(ours, values)


def test_orders_are_uniform():
    order = augment.draw(View(), 6 * N, 32, generator()).order
    counts = (order[:, None] == ORDERS).all(2).sum(0)
    assert counts.sum() == 6 * N
    assert chisquare(counts).pvalue > 1e-3


def test_coins_and_sigma():
    view = dataclasses.replace(View(), solarize=0.2, jitter=0.7, gray=0.1, blur=0.6, flip=0.4, blur_sigma=(0.5, 1.5))
    drawn = augment.draw(view, N, 32, generator())
    for name in ("flip", "jitter", "gray", "blur", "solarize"):
        chance = getattr(view, name)
        count = int(getattr(drawn, name).sum())
        assert abs(count - N * chance) < 4 * (N * chance * (1 - chance)) ** 0.5, name
    assert same_distribution(drawn.sigma, torch.empty(N).uniform_(0.5, 1.5, generator=generator(1)))
    numbers = [drawn.flip, drawn.jitter, drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.gray]
    numbers += [drawn.blur, drawn.sigma, drawn.solarize, drawn.top / (33 - drawn.height), drawn.order[:, 0]]
    correlations = torch.corrcoef(torch.stack([values.double() for values in numbers])) - torch.eye(len(numbers))
    assert correlations.abs().max() < 4.5 / N**0.5  # 66 pairs


# --- the folded order -------------------------------------------------------------------------------------------------


def folded_and_published(pixels, source, view, size=48, seed=0):
    both = Views(size=size, first=view, second=view, mean=(0.0,) * 3, std=(1.0,) * 3)
    orders = (dataclasses.replace(both, order=order) for order in ("folded", "published"))
    return (augment.two_views(pixels, source, order, generator(seed)) for order in orders)


@pytest.mark.parametrize(("side", "source"), [(32, 32), (32, 96), (64, 64)])
def test_folded_views_are_the_published_ones_where_nothing_is_clamped_or_turned(side, source):
    """Brightness, contrast about the view's own mean, saturation, gray, blur: all linear, so any order will do."""
    pixels = random_pixels(24, side) // 8 + 110  # mid-gray: factors near 1 leave [0, 1] nowhere
    view = View(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.0, blur=0.7, solarize=0.3)
    folded, published = folded_and_published(pixels, source, view)
    wrong = (folded - published).abs() > 2e-5
    assert wrong.float().mean() < 1e-3  # solarization's jump at 1/2
    plain = dataclasses.replace(view, solarize=0.0)
    folded, published = folded_and_published(pixels, source, plain)
    close(folded, published, 2e-5)


def test_folded_colours_are_torchvisions_on_the_source():
    """With clamping and hue, without contrast: torchvision's jitter on the whole picture, then its crop and blur."""
    n, side, size = 24, 32, 40
    view = View(brightness=0.8, contrast=0.0, saturation=0.8, hue=0.2, jitter=1.0, gray=0.3, blur=0.5)
    pixels = random_pixels(n, side)
    drawn = augment.draw(view, n, side, generator())
    views = Views(size=size, first=view, order="folded", mean=(0.0,) * 3, std=(1.0,) * 3)
    ours = augment.apply(pixels, side, size, drawn, views)
    numbers = [Parameters(*values) for values in zip(*(values.tolist() for values in drawn), strict=True)]

    def slowly(pixels, p):
        x = reference.to_dtype(pixels, torch.float32, scale=True)
        x = torchvision_jitter(x, p.brightness, p.contrast, p.saturation, p.hue, p.order)
        x = reference.rgb_to_grayscale(x, num_output_channels=3) if p.gray else x
        x = reference.resized_crop(x, p.top, p.left, p.height, p.width, [size, size], antialias=True)
        x = reference.horizontal_flip(x) if p.flip else x
        return reference.gaussian_blur(x, [augment.kernel_size(size)] * 2, [p.sigma] * 2) if p.blur else x

    expected = torch.stack([slowly(x, p) for x, p in zip(pixels, numbers, strict=True)])
    assert drawn.gray.any()
    assert drawn.blur.any()
    close(ours, expected, 2e-5)


def test_folded_order_has_its_own_key_and_the_published_one_keeps_the_old():
    from vergence import presets
    from vergence.config import CIFAR10

    run = presets.preset("raft", "byol", CIFAR10())
    assert run.key == "463f1cf8d08b"  # of the first release, which had no such field
    assert dataclasses.replace(run, views=dataclasses.replace(run.views, order="folded")).key != run.key


def test_both_views_at_once_are_the_same_views():
    """Whatever makes the two views side by side is handed the same work as `map`."""
    pixels = random_pixels(6, 32)
    called = []

    def backwards(function, values):
        for value in reversed(list(values)):
            called.append(value)
            function(value)
        return []

    expected = augment.two_views(pixels, 32, Views(), generator())
    assert torch.equal(augment.two_views(pixels, 32, Views(), generator(), backwards), expected)
    assert called == [1, 0]
