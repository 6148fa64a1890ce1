"""How many samples each generator of an ensemble has room for, where no shape may depend on what is drawn.

Capacities go by rank and not by generator: the first is that of the generator with the most samples of a batch, the
second that of the one with the second most, and so on. Counts of n samples sum to n, so that the r-th largest is at
most n / r, and all of them together need little more than n rows. One capacity for all needs K times the largest count:
with ten generators of masses .7, .1, .1, .1 and 0, 64 samples take 480 rows, and 72 by rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

Capacities = tuple[int, ...]
"""by rank, descending; ranks beyond the last have no samples"""
PARTS = 8
"""a capacity is a multiple of this part of a batch, so that few shapes are in use while a prior moves"""
WORTH = 0.75
"""of the rows that one capacity for all takes, the part up to which ranks are worth sorting for"""


def capacities(c: Tensor, n_generators: int) -> Capacities:
    """Enough for the draws c (runs, n) of generator ids in [0, K), on the CPU; all alike where ranks save little.

    Ranks share a capacity in groups of 1, 2, 4, ...: what the first of a group needs, by any run.
    """
    counts = nn.functional.one_hot(c, n_generators).sum(dim=1).sort(dim=1, descending=True).values
    part = max(1, c.shape[1] // PARTS)
    needed = [-(-int(most) // part) * part for most in counts.amax(dim=0)]
    by_rank = tuple(needed[_first(rank)] for rank, most in enumerate(needed) if most)
    alike = (needed[0],) * n_generators
    return by_rank if sum(by_rank) <= WORTH * sum(alike) else alike


def _first(rank: int) -> int:
    """The first rank of the group of `rank`: 0, then 1 and 2, then 3 to 6, ..."""
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
