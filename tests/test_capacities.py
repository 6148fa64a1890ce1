"""Room for the samples of an ensemble's generators, by rank: `nn/capacities.py`."""

from __future__ import annotations

import pytest
import torch

from toposampler.nn.capacities import by_rank, capacities, each, groups


def ids(*counts: int) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        pytest.param([[45, 7, 6, 6, 0, 0, 0, 0, 0, 0]], (48, 8, 8, 8), id="one large, three small, six switched off"),
        pytest.param([[45, 7, 6, 6, 0], [7, 6, 6, 45, 0]], (48, 8, 8, 8), id="the same ranks of other generators"),
        pytest.param([[45, 7, 6, 6, 0, 0], [20, 20, 20, 4, 0, 0]], (48, 24, 24, 8), id="what any of the runs needs"),
        pytest.param([[7, 7, 7, 7, 6, 6, 6, 6, 6, 6]], (8,) * 10, id="alike"),
        pytest.param([[22, 21, 21, 0]], (24, 24, 24), id="one of four is off: a quarter less"),
        pytest.param([[64, 0]], (64,), id="one"),
    ],
)
def test_capacities(draws: list[list[int]], expected: tuple[int, ...]) -> None:
    c = torch.stack([ids(*counts) for counts in draws])
    assert capacities(c, len(draws[0])) == expected


def test_every_draw_has_room() -> None:
    torch.manual_seed(0)
    for _ in range(50):
        odds = torch.rand(12).pow(6)
        c = torch.multinomial(odds, 3 * 40, replacement=True).view(3, 40)
        found = capacities(c, 12)
        for draw in c:
            counts = torch.bincount(draw, minlength=12).sort(descending=True).values.tolist()
            assert all(count <= room for count, room in zip(counts, [*found, *[0] * 12], strict=False))


def test_few_shapes_are_in_use() -> None:
    torch.manual_seed(0)
    odds = torch.tensor([0.7, 0.1, 0.1, 0.1])
    draws = torch.multinomial(odds, 500 * 64, replacement=True).view(500, 1, 64)
    assert len({capacities(c, 10) for c in draws}) <= 20


def test_ranks() -> None:
    c = torch.tensor([2, 0, 2, 1, 2, 1])
    order, rank = by_rank(c.unsqueeze(1) == torch.arange(4))
    assert order.tolist() == [2, 1, 0, 3]
    assert rank.tolist() == [2, 1, 0, 3]
    assert list(groups((8, 4, 4, 2))) == [(1, 8), (2, 4), (1, 2)]
    size, before = each((8, 4, 4), 5, c)
    assert size.tolist() == [8, 4, 4, 0, 0]
    assert before.tolist() == [0, 8, 12, 16, 16]
