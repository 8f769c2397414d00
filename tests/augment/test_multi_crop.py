"""Local crops beside the two views, and transforms of a user's own: what they are, and what may not change a bit."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2 as tv

from vergence import augment, register
from vergence.augment import Boxes, Ragged
from vergence.augment.transforms import require_known
from vergence.config import Local, LocalView, View, Views
from vergence.errors import InputError
from vergence.machine.randomness import drawn_from

PLAIN = {"jitter": 0.0, "gray": 0.0, "blur": 0.0}
N = 6
SHAPES = torch.tensor([(40, 60), (60, 40), (48, 48), (33, 90), (90, 35), (41, 59)])
PICTURES = [
    torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    for seed, shape in enumerate(SHAPES.tolist())
]
SQUARES = torch.randint(0, 256, (N, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))


def ragged(asked: list[int] | None = None) -> Ragged:
    def decode(index: int, factor: int) -> torch.Tensor:
        if asked is not None:
            asked.append(index)
        return PICTURES[index]

    return Ragged(decode, SHAPES)


KINDS = {
    "squares": lambda: (SQUARES, 32),
    "of one shape": lambda: (SQUARES[:, :, :20], None),
    "of different shapes": lambda: (ragged(), None),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(kind: str, views: Views, seed: int = 1, **how):
    return augment.multi_crop(*KINDS[kind](), views, generator(seed), **how)


def equal(some, others) -> bool:
    return len(some) == len(others) and all(torch.equal(*pair) for pair in zip(some, others, strict=True))


def local(count: int = 3, **changes) -> Views:
    return Views(size=24, local=Local(count=count, **changes))


# --- local crops ------------------------------------------------------------------------------------------------------


@each_kind
def test_local_crops_are_drawn_after_the_views_which_keep_their_bits(kind):
    pixels, source = KINDS[kind]()
    (alone,) = cut(kind, local(0))
    views, crops = cut(kind, local(3))
    assert torch.equal(views, alone)
    assert torch.equal(augment.two_views(pixels, source, local(3), generator()), alone)
    assert torch.equal(augment.two_views(pixels, source, local(0), generator()), alone)
    assert crops.shape == (3, N, 3, 8, 8)
    assert all(crop.is_contiguous(memory_format=torch.channels_last) for crop in crops)
    assert crops.flatten(2).unique(dim=0).shape[0] == 3
    more = cut(kind, local(5))
    assert equal(more[1][:3], crops)


def test_parameters_are_of_one_generator_in_the_order_of_crops():
    views = local(2, size=16)
    together = generator()
    drawn = [augment.draw(view, N, 32, together) for view in (views.first, views.second, *[views.local.view] * 2)]
    expected = [augment.apply(SQUARES, 32, size, p, views) for size, p in zip((24, 24, 16, 16), drawn, strict=True)]
    made = cut("squares", views)
    assert equal([*made[0], *made[1]], expected)


@pytest.mark.parametrize(("size", "expected"), {224: 96, 96: 40, 64: 24, 32: 16, 16: 8, 8: 8}.items())
def test_the_side_of_a_local_crop_is_its_share_of_a_view(size, expected):
    assert Views(size=size).local_size == expected
    assert Views(size=size, local=Local(size=8)).local_size == 8


def test_a_local_crop_is_torchvisions():
    """Of pictures of different shapes to the bit of its 8-bit crop; of squares within the rounding of floats."""
    view = LocalView(flip=1.0, **PLAIN)
    views = local(2, size=10, view=view)
    for kind, tolerance in (("of different shapes", 1e-6), ("squares", 2e-4)):
        pixels, source = KINDS[kind]()
        shapes, together = (SHAPES if source is None else source), generator()
        drawn = [augment.draw(v, N, shapes, together) for v in (views.first, views.second, view, view)][2:]
        made = cut(kind, views)[1]
        for crops, parameters in zip(made, drawn, strict=True):
            for place, box in enumerate(torch.stack([*parameters[:4]], 1).tolist()):
                picture = pixels[place] if source is None else pixels[place].float() / 255
                picture = picture if source is None else tv.functional.resize(picture, [source] * 2, antialias=True)
                crop = tv.functional.resized_crop(picture, *box, [10, 10], antialias=True).flip(2)
                crop = crop.float() / 255 if source is None else crop
                expected = tv.functional.normalize(crop, [*views.mean], [*views.std])
                assert (crops[place] - expected).abs().max() < tolerance


def test_local_crops_keep_to_their_share_of_a_picture():
    p = augment.draw(Local().view, 2000, torch.tensor([[300, 400]]).expand(2000, 2), generator())
    share = (p.height * p.width).double() / 120_000
    assert 0.045 < share.min() < 0.07
    assert 0.38 < share.max() < 0.41


def test_a_picture_is_decoded_once_for_all_its_crops():
    asked: list[int] = []
    augment.multi_crop(ragged(asked), None, local(6), generator())
    assert sorted(asked) == list(range(N))


@each_kind
def test_neither_order_nor_threads_nor_processes_change_a_bit(kind):
    views = local(3)
    whole = cut(kind, views)

    def backwards(make, values):
        return [make(value) for value in reversed(list(values))]

    assert equal(cut(kind, views, each=backwards), whole)
    parts = [cut(kind, views, part=slice(*part)) for part in ((0, 2), (2, N))]
    assert equal([torch.cat(pair, dim=1) for pair in zip(*parts, strict=True)], whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_crops_of_two_sizes_are_those_of_any_number_of_threads(threads):
    views = Views(size=24, first=View(**PLAIN), second=View(**PLAIN), local=Local(count=2, view=LocalView(**PLAIN)))
    whole = cut("of different shapes", views)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert equal(cut("of different shapes", views), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("size", "local_crops", "said"),
    [
        (24, {"count": 2, "size": 32}, r"local.size \(32\) cannot exceed the size of a view \(24\)"),
        (24, {"count": -1}, "count: must be at least 0"),
        (24, {"count": 1, "size": 7}, "size: must be at least 8"),
    ],
)
def test_local_crops_that_cannot_be_are_refused(size, local_crops, said):
    with pytest.raises((InputError, ValueError), match=said):
        Views(size=size, local=Local(**local_crops))


def test_their_pipeline_is_checked_as_a_views():
    with pytest.raises(ValueError, match=r"^crop-scale cannot exceed 1"):
        LocalView(crop_scale=(0.5, 1.5))


# --- transforms of a user's own ---------------------------------------------------------------------------------------


@pytest.fixture
def transforms(monkeypatch):
    """What is registered, for one test."""
    monkeypatch.setattr(register, "TRANSFORMS", {})
    return register.TRANSFORMS


def still(**changes) -> View:
    return View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), **{"flip": 0.0, **PLAIN, **changes})


BARE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@each_kind
def test_it_is_given_the_crop_in_bytes_after_the_flip_and_before_colours_change(kind, transforms):
    given = []

    @register.transform("invert")
    def invert(crop):
        given.append(crop)
        return 255 - crop

    views = Views(size=16, first=View(**PLAIN, transform="invert"), second=View(**PLAIN), **BARE)
    pixels, source = KINDS[kind]()
    (made,) = cut(kind, views)
    plain = augment.two_views(pixels, source, replace(views, first=views.second), generator())
    assert torch.allclose(made[0], 1 - (plain[0] * 255).round() / 255, atol=1e-6)
    assert torch.equal(made[1], plain[1])
    assert [(crop.dtype, crop.shape, crop.is_contiguous()) for crop in given] == [(torch.uint8, (3, 16, 16), True)] * N
    grey = Views(size=16, first=View(**PLAIN | {"gray": 1.0}, transform="red"), **BARE)
    transforms["red"] = lambda crop: torch.stack([crop[0] | 255, crop[1] & 0, crop[2] & 0])
    (made,) = cut(kind, grey)
    assert torch.allclose(made[0], torch.tensor(0.2989), atol=1e-6)


@each_kind
def test_what_torchvision_draws_is_the_pictures_own(kind, transforms):
    """No picture depends on the others, nor on the order of work, on threads or on processes."""
    random = tv.Compose([tv.TrivialAugmentWide(), tv.RandomErasing(p=0.5), tv.RandomPosterize(3)])
    register.transform("random")(lambda crop: random(crop))
    view = still(transform="random")
    views = Views(
        size=24, first=view, second=view, local=Local(count=2, size=16, view=LocalView(transform="random")), **BARE
    )
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    whole = cut(kind, views)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert equal(cut(kind, views), whole)
    assert not equal(cut(kind, views, seed=2), whole)
    assert not torch.equal(*whole[0])
    assert equal(cut(kind, views, each=lambda make, values: [make(v) for v in reversed(list(values))]), whole)
    assert equal([crops[:, 3:5] for crops in whole], cut(kind, views, part=slice(3, 5)))
    if kind == "squares":
        pixels = SQUARES.flip(0)
        pixels[2] = SQUARES[2]  # the others are others
        other = augment.multi_crop(pixels, 32, views, generator())
        assert equal([crops[:, 2] for crops in other], [crops[:, 2] for crops in whole])
        alike = augment.multi_crop(SQUARES[:1].expand(N, 3, 24, 24), 32, views, generator())
        assert alike[0][0].flatten(1).unique(dim=0).shape[0] > 1


def test_it_is_torchvisions_transform_with_the_seed_of_the_picture(transforms):
    random = tv.Compose([tv.TrivialAugmentWide(), tv.RandomErasing(p=0.5)])
    register.transform("random")(lambda crop: random(crop))
    views = Views(size=24, first=still(transform="random"), **BARE)
    drawn = augment.draw(views.first, N, 24, generator())
    made = augment.two_views(SQUARES, 24, views, generator())[0]
    for place, seed in enumerate(drawn.seed.tolist()):
        with drawn_from(generator(seed)):
            expected = random(SQUARES[place])
        assert torch.equal((made[place] * 255).round().to(torch.uint8), expected)
    assert len({*drawn.seed.tolist()}) == N


def test_seeds_are_of_every_bit_and_move_no_other_draw():
    """A run of before, whose parameters had no seed, has the draws that it had."""
    seeds = augment.draw(View(), 4096, 32, generator()).seed
    share = (seeds[:, None] >> torch.arange(53) & 1).double().mean(0)
    assert (share - 0.5).abs().max() < 0.04
    uniform = torch.rand(8, 36, generator=generator(), dtype=torch.float64)
    parameters = augment.draw(View(blur_sigma=(1.0, 2.0)), 8, 32, generator())
    assert torch.equal(parameters.sigma, (1 + uniform[:, 35]).float())
    assert torch.equal(parameters.seed.double() / 2.0**53, uniform[:, 35])


def raises(crop):
    raise ValueError("no such colour\nand more")


WRONG = {
    "another type": (
        lambda crop: crop.float(),
        r"gives float32 \[3 16 16\] for uint8 \[3 16 16\]; it must give the same",
    ),
    "another shape": (lambda crop: crop[:, 1:], r"gives uint8 \[3 15 16\] for uint8 \[3 16 16\]"),
    "no tensor": (lambda crop: crop.numpy(), r"gives a ndarray for uint8"),
    "nothing": (lambda crop: None, r"gives a NoneType for uint8"),
    "an error": (raises, "ValueError: no such colour$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_crop_is_one_line_that_names_it(name, transforms):
    transform, said = WRONG[name]
    transform.__module__ = "vergence_plugin_mine"
    register.transform("mine-own")(transform)
    with pytest.raises(InputError, match=f"^the transform mine-own of the plugin [a-z_]+: {said}") as caught:
        cut("squares", Views(size=16, first=View(transform="mine-own")))
    assert len(str(caught.value).splitlines()) == 1


def test_a_transform_that_is_not_registered_is_refused(transforms):
    with pytest.raises(
        InputError, match=r"^--views: unknown transform 'mine'; load its plugin with --plugin FILE\.py$"
    ):
        cut("squares", Views(first=View(transform="mine")))
    register.transform("mined")(lambda crop: crop)
    with pytest.raises(InputError, match=r"^--views: unknown transform 'mine'; did you mean 'mined'\?$"):
        require_known(Views(local=Local(count=1, view=LocalView(transform="mine"))).transforms)
    assert not Views(local=Local(view=LocalView(transform="mine"))).transforms  # of no crop
    assert cut("squares", Views(first=View(transform="mined")))[0].shape == (2, N, 3, 32, 32)


def test_what_is_no_function_is_refused(transforms):
    with pytest.raises(TypeError, match=r"^mine: a Compose is no function; call it in one$"):
        register.transform("mine")(tv.Compose([tv.RandomPosterize(3)]))
    with pytest.raises(TypeError, match="a name has letters"):
        register.transform("my own")(lambda crop: crop)


def test_colours_cannot_change_before_what_takes_the_crop():
    with pytest.raises(
        ValueError, match=r"^order folded changes colours before the crop, and the transform mine takes"
    ):
        Views(order="folded", second=View(transform="mine"))


def test_folded_local_crops_are_those_of_the_order_published_without_jitter():
    views = [
        Views(size=24, order=order, local=Local(count=2, view=LocalView(**PLAIN))) for order in ("published", "folded")
    ]
    published, folded = (cut("squares", how)[1] for how in views)
    assert (published - folded).abs().max() < 1e-3


def test_boxes_of_different_sides_are_cut_as_each_alone():
    p = augment.draw(View(), N, SHAPES, generator())
    box = Boxes(*p[:4])
    one, other = ragged().start_cutting([box, box], [24, 11])()
    assert torch.equal(one, ragged().start_cutting([box], [24])()[0])
    assert torch.equal(other, ragged().start_cutting([box], [11])()[0])
