"""Pictures of different shapes: crops, views, and what must not change a bit of them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2 as tv

from vergence import augment
from vergence.augment import Boxes, Ragged
from vergence.config import View, Views
from vergence.errors import InputError

SHAPES = [(40, 60), (60, 40), (48, 48), (33, 90), (200, 50), (41, 59)]
PLAIN = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}


def noise(height: int, width: int, seed: int) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return torch.from_numpy(values).permute(2, 0, 1)


PICTURES = [noise(*shape, seed) for seed, shape in enumerate(SHAPES)]


def ragged(asked: list[tuple[int, int]] | None = None) -> Ragged:
    def decode(index: int, factor: int) -> torch.Tensor:
        if asked is not None:
            asked.append((index, factor))
        return PICTURES[index] if factor == 1 else PICTURES[index][:, ::factor, ::factor]

    return Ragged(decode, torch.tensor(SHAPES))


def boxes(*values: tuple[int, int, int, int]) -> Boxes:
    return Boxes(*torch.tensor(values).unbind(1))


def test_it_is_indexed_as_a_tensor_is() -> None:
    pictures = ragged()
    assert len(pictures) == 6
    chosen = pictures[torch.tensor([4, 0, 4])]
    assert chosen.shapes.tolist() == [[200, 50], [40, 60], [200, 50]]
    assert torch.equal(chosen[1], PICTURES[0])
    assert chosen[1:].indices.tolist() == [0, 4]
    assert [len(part) for part in pictures.split(4)] == [4, 2]
    assert pictures.to("cpu").device == torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 3])
def test_crops_are_torchvisions(threads: int) -> None:
    """To the bit: of 8-bit pictures, bilinear and antialiased."""
    generator = torch.Generator().manual_seed(3)
    drawn = [augment.draw(View(), len(SHAPES), torch.tensor(SHAPES), generator) for _ in range(2)]
    both = [Boxes(*parameters[:4]) for parameters in drawn]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        crops = ragged().start_cutting(both, [24, 10])()
    finally:
        torch.set_num_threads(before)
    assert [crop.shape for crop in crops] == [(6, 3, 24, 24), (6, 3, 10, 10)]
    for crop, box in zip(crops, both, strict=True):
        size = [crop.shape[-1]] * 2
        for place, (top, left, height, width) in enumerate(torch.stack([*box], 1).tolist()):
            expected = tv.functional.resized_crop(PICTURES[place], top, left, height, width, size, antialias=True)
            assert torch.equal(crop[place], expected)


def test_a_picture_is_decoded_once_and_at_a_fraction_where_twice_the_side_is_left() -> None:
    asked: list[tuple[int, int]] = []
    pictures = ragged(asked)
    one = pictures[torch.tensor([4])]  # 200 x 50
    one.start_cutting([boxes((0, 0, 50, 50)), boxes((100, 0, 40, 40))], [10, 10])()
    one.start_cutting([boxes((0, 0, 50, 50)), boxes((100, 0, 39, 40))], [10, 10])()
    one.start_cutting([boxes((0, 0, 50, 50)), boxes((100, 0, 39, 40))], [10, 9])()
    one.start_cutting([boxes((0, 0, 48, 48))], [3])()
    assert asked == [(4, 2), (4, 1), (4, 2), (4, 8)]


def test_a_rectangle_of_a_reduced_picture_is_where_it_was() -> None:
    ramp = torch.arange(160, dtype=torch.uint8).expand(3, 160, 160)

    def decode(index: int, factor: int) -> torch.Tensor:
        return ramp[:, ::factor, ::factor]

    crops = Ragged(decode, torch.tensor([[160, 160]])).start_cutting([boxes((64, 80, 64, 64))], [4])()
    expected = torch.tensor([80 + 16 * (column + 0.5) for column in range(4)])
    assert (crops[0][0, 0, 0].float() - expected).abs().max() <= 8


def test_the_middle_square() -> None:
    assert torch.stack([*ragged().middle()], 1).tolist()[:4] == [
        [0, 10, 40, 40],
        [10, 0, 40, 40],
        [0, 0, 48, 48],
        [0, 28, 33, 33],
    ]


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def decode(index: int, factor: int) -> torch.Tensor:
        raise InputError("damaged")

    with pytest.raises(InputError, match="damaged"):
        Ragged(decode, torch.tensor(SHAPES)).start_cutting([ragged().middle()], [8])()


def test_views_are_those_of_torchvision() -> None:
    views = Views(size=16, first=View(**PLAIN, flip=0.0), second=View(**PLAIN, flip=1.0))
    generator = torch.Generator().manual_seed(0)
    drawn = [augment.draw(view, 6, torch.tensor(SHAPES), generator) for view in (views.first, views.second)]
    made = augment.two_views(ragged(), None, views, torch.Generator().manual_seed(0))
    for view, parameters in enumerate(drawn):
        for place, box in enumerate(torch.stack([*parameters[:4]], 1).tolist()):
            crop = tv.functional.resized_crop(PICTURES[place], *box, [16, 16], antialias=True)
            crop = crop.flip(2) if view else crop
            expected = tv.functional.normalize(crop.float() / 255, [*views.mean], [*views.std])
            assert torch.allclose(made[view, place], expected, atol=1e-6)


def test_a_part_of_a_batch_has_the_views_it_has_in_the_whole() -> None:
    views = Views(size=16)
    whole = augment.two_views(ragged(), None, views, torch.Generator().manual_seed(5))
    part = augment.two_views(ragged(), None, views, torch.Generator().manual_seed(5), part=slice(2, 5))
    assert torch.equal(part, whole[:, 2:5])


def test_colours_cannot_change_before_the_crop() -> None:
    with pytest.raises(InputError, match="folded is for pictures of one shape"):
        augment.two_views(ragged(), None, Views(order="folded"), torch.Generator())


def test_a_whole_picture_of_one_shape_is_cropped_as_it_is() -> None:
    """A tensor of pictures that are no squares, and crops drawn in them."""
    pixels = torch.stack([noise(30, 50, seed) for seed in range(4)])
    views = Views(size=16, first=View(**PLAIN), second=View(**PLAIN))
    made = augment.two_views(pixels, None, views, torch.Generator().manual_seed(1))
    apart = Ragged(lambda index, factor: pixels[index], torch.tensor([[30, 50]] * 4))
    close = augment.two_views(apart, None, views, torch.Generator().manual_seed(1))
    rounding = 1.1 / 255 / min(views.std)  # where crops are cut in 8 bits: along rows, then along columns
    assert (made - close).abs().max() < rounding
    seen, cut = (augment.evaluation_view(some, None, views) for some in (pixels, apart))
    assert (seen - cut).abs().max() < rounding


@pytest.mark.parametrize("shape", [(192, 3840), (3840, 192), (100, 150), (150, 100)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.3, 0.6), (1.5, 2.5)])
def test_the_largest_crop_of_a_ratio_that_does_not_fit_is_torchvisions(
    shape: tuple[int, int], ratio: tuple[float, float]
) -> None:
    scale = (0.999, 1.0)
    drawn = augment.draw(View(crop_scale=scale, crop_ratio=ratio), 50, torch.tensor([shape] * 50), torch.Generator())
    found = set(zip(*(values.tolist() for values in drawn[:4]), strict=True))
    picture = torch.zeros(3, *shape)
    assert found == {tuple(RandomResizedCrop.get_params(picture, [*scale], [*ratio])) for _ in range(50)}
