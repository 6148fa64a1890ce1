"""How many samples each generator of an ensemble has room for, where no shape may depend on what is drawn.

Capacities go by rank and not by generator: the first is that of the generator with the most samples of a batch, the
second that of the one with the second most, and so on. Counts of n samples sum to n, so that the r-th largest is at
most n / r. One capacity for all needs K times the largest count: with ten generators of masses .7, .1, .1, .1 and 0, 64
samples take 480 rows, and 176 by rank.

Sorting for ranks has a price too, a hundred small operations a call, so on a CPU it must save as much arithmetic
(`LEAST`): one capacity for all is what small batches of few runs get.

Each set of capacities is a program of its own, so there are few: they follow from the largest count, in eighths of the
batch, and from how many generators are in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

Capacities = tuple[int, ...]
"""by rank, descending; ranks beyond the last have no samples"""
PARTS = 8
"""of a batch: the first capacity is so many of them"""
WORTH = 0.75
"""of the rows that one capacity for all takes, the part up to which ranks are worth sorting for"""
LEAST = 1e7
"""multiply-adds of a forward pass that ranks must save on a CPU to be worth sorting for. On one thread of an AMD EPYC,
lines with masses .7, .1, .1, .1 and K = 10, an iteration by rank takes this part of one with a capacity for all: 6 runs
of batch 64 (2 million saved) 1.26, 16 of 64 (5) 1.13, 6 of 256 (7) 1.29, 16 of 128 (10) .95, 16 of 256 (20) .93."""


def needed(c: Tensor, n_generators: int) -> tuple[int, int]:
    """What the draws c (runs, n) of generator ids in [0, K), on the CPU, need: the largest count of any, in `PARTS` of
    n, rounded up; and the most generators that any of them uses."""
    counts = nn.functional.one_hot(c, n_generators).sum(dim=1)
    return -(-int(counts.max()) * PARTS // c.shape[1]), int((counts > 0).sum(dim=1).max())


def capacities(n: int, parts: int, used: int, n_generators: int, cost: float = math.inf) -> Capacities:
    """Enough for every draw of n ids that needs no more than `parts` and `used`; all alike where ranks save little.

    `cost`: multiply-adds that one row takes in all runs together.
    Ranks share a capacity in groups of 1, 2, 4, ...: the first of them has at most n / its rank.
    """
    most = -(-n * parts // PARTS)
    ranks = min(n_generators, 2 * _first(used - 1) + 1)
    by_rank = tuple(min(most, n // (_first(rank) + 1)) for rank in range(ranks))
    alike = (most,) * n_generators
    rows, most_rows = sum(by_rank), sum(alike)
    return by_rank if rows <= WORTH * most_rows and (most_rows - rows) * cost >= LEAST else alike


def _first(rank: int) -> int:
    """The first rank, counted from 0, of the group of `rank`: 0, then 1 and 2, then 3 to 6, ..."""
    return (1 << ((rank + 1).bit_length() - 1)) - 1


def groups(of: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The capacities `of` all ranks as pairs: how many ranks one after the other have a capacity, and which."""
    return ((len(list(ranks)), capacity) for capacity, ranks in groupby(of))


def by_rank(own: Tensor) -> tuple[Tensor, Tensor]:
    """The generators in the order of their ranks, (K,), and the rank of each, (K,); equal counts in their own order.

    own: (n, K), whether a sample is a generator's.
    """
    order = own.sum(dim=0).argsort(descending=True, stable=True)
    return order, order.argsort()


def each(of: Sequence[int], n_generators: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The capacity of every rank, 0 beyond the last of them, and how many rows the ranks before it have: both (K,)."""
    counts = [*groups(of), (n_generators - len(of), 0)]
    size = torch.cat([like.new_full((ranks,), capacity) for ranks, capacity in counts])
    return size, size.cumsum(0) - size
