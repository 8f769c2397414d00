"""Random numbers of a step's loss: the published generator, its distributions, and what they depend on."""

import copy

import pytest
import torch

from vergence.machine.randomness import StepDraws, drawn_from, threefry


def draws(seed=0, step=0):
    with drawn_from(torch.Generator().manual_seed(seed)):
        made = StepDraws()
    made.step += step
    return made


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_generator_gives_the_numbers_its_authors_published(key, counter, words):
    """Random123's known answers for threefry2x32 of 20 rounds."""
    found = threefry(torch.tensor(key), torch.tensor(counter)[:, None])
    assert tuple(int(word) for word in found) == words


def test_normals_have_the_moments_of_normals_and_nothing_in_common():
    x = torch.stack([draws(step=step).normals(300, 129).double() for step in range(4)])
    assert x.dtype == torch.float64
    assert x.isfinite().all()
    flat = x.flatten(1)  # 38,700 numbers each: a mean deviates by 0.005
    assert flat.mean(1).abs().max() < 0.02
    assert (flat.var(1) - 1).abs().max() < 0.03
    assert (flat.pow(3).mean(1)).abs().max() < 0.06
    assert (flat.pow(4).mean(1) - 3).abs().max() < 0.2
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.025, "steps"
    rows, along = torch.corrcoef(x[0]) - torch.eye(300), torch.corrcoef(x[0].T) - torch.eye(129)
    assert rows.abs().max() < 0.5, "directions, over 129 numbers each"
    assert along.abs().max() < 0.35, "dimensions, over 300"
    share = (flat < torch.tensor([-1.0, 0.0, 1.0])[:, None, None]).double().mean(2)
    torch.testing.assert_close(
        share, torch.tensor([[0.15866], [0.5], [0.84134]]).double().expand(3, 4), rtol=0, atol=0.01
    )


def test_orders_are_permutations_and_each_is_as_likely():
    orders = draws().permutations(6000, 3)
    assert torch.equal(orders.sort(1).values, torch.arange(3).expand(6000, 3))
    counts = (orders @ torch.tensor([100, 10, 1])).unique(return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 130  # 4.5 deviations of 29


def test_they_depend_on_seed_and_step_alone():
    one, same = draws(), draws()
    torch.manual_seed(3)
    assert torch.equal(one.normals(5, 7), same.normals(5, 7))
    assert torch.equal(one.normals(5, 7), one.normals(5, 7)), "asking again draws nothing"
    assert torch.equal(one.normals(3, 7), one.normals(5, 7)[:3]), "fewer are the first of more"
    one.advance()
    assert not torch.equal(one.normals(5, 7), same.normals(5, 7))
    assert not torch.equal(draws(seed=1).normals(5, 7), same.normals(5, 7))
    resumed = draws(seed=9)
    resumed.load_state_dict(one.state_dict())
    assert torch.equal(resumed.normals(5, 7), one.normals(5, 7))
    assert torch.equal(copy.deepcopy(one).double().permutations(2, 9), one.permutations(2, 9))


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")
def test_a_compiled_step_draws_the_next_numbers():
    made = draws()

    def step():
        return made.normals(4, 6), made.permutations(2, 8)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    first = compiled()
    for eager, found in zip(step(), first, strict=True):
        assert torch.equal(eager, found)
    made.advance()
    assert torch.equal(compiled()[0], step()[0])
    assert not torch.equal(compiled()[0], first[0])
