"""Room for the samples of an ensemble's generators, by rank: `nn/capacities.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from toposampler.nn.capacities import LEAST, by_rank, capacities, each, groups, needed
from toposampler.training import RunConfig
from toposampler.training.graph import Room, row_cost


def ids(*counts: int) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def enough(c: torch.Tensor, n_generators: int) -> tuple[int, ...]:
    return capacities(c.shape[1], *needed(c, n_generators), n_generators)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        pytest.param([[45, 7, 6, 6, 0, 0, 0, 0, 0, 0]], (48, 32, 32, 16, 16, 16, 16), id="one large, six switched off"),
        pytest.param([[7, 6, 51, 0], [51, 7, 6, 0]], (56, 32, 32), id="the same ranks of other generators"),
        pytest.param([[45, 19, 0, 0, 0], [22, 22, 20, 0, 0]], (48, 32, 32), id="what any of the runs needs"),
        pytest.param([[7, 7, 7, 7, 6, 6, 6, 6, 6, 6]], (8,) * 10, id="alike"),
        pytest.param([[22, 21, 21, 0]], (24, 24, 24), id="one of four is off: a quarter less"),
        pytest.param([[64, 0]], (64,), id="one"),
        pytest.param([[2, 1]], (3, 1), id="a batch of 3"),
    ],
)
def test_capacities(draws: list[list[int]], expected: tuple[int, ...]) -> None:
    c = torch.stack([ids(*counts) for counts in draws])
    assert enough(c, len(draws[0])) == expected


def test_ranks_must_save_more_than_sorting_for_them_costs() -> None:
    needs = 6, 4  # a largest count of 48 of 64, four generators
    by_rank, alike = (48, 32, 32, 16, 16, 16, 16), (48,) * 10
    saved = 10 * 48 - sum(by_rank)
    assert capacities(64, *needs, 10, 1.01 * LEAST / saved) == by_rank
    assert capacities(64, *needs, 10, 0.99 * LEAST / saved) == alike


def test_runs_of_small_generators_sort_for_ranks_where_there_are_many() -> None:
    c = ids(45, 7, 6, 6).view(1, 1, 64)
    found = {runs: Room.enough(c.expand(runs, 1, 64), [0], 10, cost=1000).batch for runs in (4, 40)}
    assert found == {4: (48,) * 10, 40: (48, 32, 32, 16, 16, 16, 16)}


def test_what_a_row_costs(make_config: Callable[..., RunConfig]) -> None:
    points = make_config("dmgan_pl", system__n_generators=3)
    system = points.system.build((2,))
    generator = system.generators.members()[0]
    assert row_cost(system) == sum(p.numel() for p in generator.parameters())
    images = make_config("dmgan_pl", data={"name": "digits"}).system
    assert row_cost(images.build((1, 8, 8))) == math.inf  # convolutions: each weight is used many times
    assert row_cost(make_config("wgan_gp").system.build((2,))) == 0  # no generator is chosen


def test_every_draw_has_room() -> None:
    torch.manual_seed(0)
    for i in range(200):
        n, K = 5 + i % 50, 2 + i % 17
        c = torch.multinomial(torch.rand(K).pow(6) + 1e-9, 3 * n, replacement=True).view(3, n)
        found = enough(c, K)
        for draw in c:
            counts = torch.bincount(draw, minlength=K).sort(descending=True).values.tolist()
            assert all(count <= room for count, room in zip(counts, [*found, *[0] * K], strict=False))


def test_few_shapes_are_in_use_while_a_prior_moves() -> None:
    torch.manual_seed(0)
    start, end = torch.full((10,), 0.1), torch.tensor([0.7, 0.1, 0.1, 0.1] + [0.0] * 6)
    odds = [start.lerp(end, t) for t in torch.linspace(0, 1, 500)]
    draws = [torch.multinomial(of, 64, replacement=True).unsqueeze(0) for of in odds]
    assert len({enough(c, 10) for c in draws}) <= 12


def test_ranks() -> None:
    c = torch.tensor([2, 0, 2, 1, 2, 1])
    order, rank = by_rank(c.unsqueeze(1) == torch.arange(4))
    assert order.tolist() == [2, 1, 0, 3]
    assert rank.tolist() == [2, 1, 0, 3]
    assert list(groups((8, 4, 4, 2))) == [(1, 8), (2, 4), (1, 2)]
    size, before = each((8, 4, 4), 5, c)
    assert size.tolist() == [8, 4, 4, 0, 0]
    assert before.tolist() == [0, 8, 12, 16, 16]


def test_an_iteration_without_a_move_of_the_critic_has_room_for_its_batches() -> None:
    room = Room.enough(ids(5, 3).view(1, 1, 8), [], 2)
    assert room.batch == (5, 5)
    assert not any(room.fakes)
