"""Mean distance of two clouds: what the energy distance consists of, and most of the time of an evaluation."""

from __future__ import annotations

import numpy as np
from numba import njit
from torch import Tensor

from toposampler.metrics.neighbors import distance_blocks

BLOCK = 1024
"""points of a cloud whose distances to others are made at a time"""
DIRECT_DIM = 6
"""up to so many dimensions distances are summed as they are made, in the time of their square roots; of more, a matrix
product makes them faster"""


def mean_distance(x: Tensor, y: Tensor) -> float:
    """E|x - y| over all pairs of x (n, d) and y (m, d), in data units; a cloud with itself has pairs of one point too.

    In float64. Of a cloud with itself half of the pairs are looked at.
    """
    if x.device.type == "cpu" and x.shape[1] <= DIRECT_DIM:
        columns = [tuple(cloud.double().numpy().T.copy()) for cloud in ((x,) if x is y else (x, y))]
        total = _sum_within(*columns) if x is y else _sum_between(*columns)
    else:
        total = _sum_of_blocks_within(x) if x is y else _sum_of_blocks(x, y)
    return float(total) / (len(x) * len(y))


def _sum_of_blocks(x: Tensor, y: Tensor) -> float:
    return sum(float(distance.sum()) for *_, distance in distance_blocks(x, y))


def _sum_of_blocks_within(x: Tensor) -> float:
    blocks = x.split(BLOCK)
    across = sum(_sum_of_blocks(x[: i * BLOCK], block) for i, block in enumerate(blocks))
    return 2 * across + sum(_sum_of_blocks(block, block) for block in blocks)


@njit(nogil=True, cache=True)
def _sum_between(x, y):  # type: ignore[no-untyped-def]
    """Sum of the distances between the points x and y, each a tuple of d columns (n,) and (m,)."""
    total = 0.0
    for i in range(len(x[0])):
        total += _sum_to(x, i, y, len(y[0]))
    return total


@njit(nogil=True, cache=True)
def _sum_within(x):  # type: ignore[no-untyped-def]
    """Sum of the distances of all points x to all of them, of which those to earlier points are half."""
    total = 0.0
    for i in range(len(x[0])):
        total += _sum_to(x, i, x, i)
    return 2 * total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sum_to(x, i, y, stop):  # type: ignore[no-untyped-def]
    """Sum of the distances of point i of x to the first `stop` points of y.

    A tuple has a length that the compiler knows, so that it unrolls the loop over columns; and with places that count
    from 0 it makes several distances with one instruction. So a square root is all that a distance costs.
    """
    total = 0.0
    for j in range(stop):
        square = 0.0
        for k in range(len(x)):
            difference = y[k][j] - x[k][i]
            square += difference * difference
        total += np.sqrt(square)
    return total
