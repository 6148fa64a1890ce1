"""Mean distance of two clouds: what the energy distance consists of, and most of the time of an evaluation."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from toposampler.metrics.neighbors import distance_blocks

BLOCK = 1024
"""points whose distances to one point are made at a time: they stay in the first cache"""
DIRECT_DIM = 6
"""up to so many dimensions distances are summed as they are made; of more, a matrix product makes them faster"""


def mean_distance(x: Tensor, y: Tensor) -> float:
    """E|x - y| over all pairs of x (n, d) and y (m, d), in data units; a cloud with itself has pairs of one point too.

    In float64. Of a cloud with itself half of the pairs are looked at.
    """
    if x.device.type == "cpu" and x.shape[1] <= DIRECT_DIM:
        columns = [cloud.double().numpy().T.copy() for cloud in ((x,) if x is y else (x, y))]
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
def _sum_between(x: NDArray, y: NDArray) -> float:
    """Sum of the distances between the points x (d, n) and y (d, m)."""
    row, total = np.empty(BLOCK), 0.0
    for start in range(0, y.shape[1], BLOCK):
        stop = min(start + BLOCK, y.shape[1])
        for i in range(x.shape[1]):
            total += _sum_to(x, i, y, start, stop, row)
    return total


@njit(nogil=True, cache=True)
def _sum_within(x: NDArray) -> float:
    """Sum of the distances of all points of x (d, n) to all of them."""
    row, total = np.empty(BLOCK), 0.0
    for start in range(0, x.shape[1], BLOCK):
        stop = min(start + BLOCK, x.shape[1])
        for i in range(stop):
            total += _sum_to(x, i, x, max(start, i + 1), stop, row)
    return 2 * total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sum_to(x, i, y, start, stop, row):  # type: ignore[no-untyped-def]
    """Sum of the distances of point i of x (d, n) to the points [start, stop) of y (d, m), which are made in `row`."""
    row[: stop - start] = 0
    for k in range(x.shape[0]):
        here = x[k, i]
        for j in range(start, stop):
            difference = y[k, j] - here
            row[j - start] += difference * difference
    total = 0.0
    for j in range(stop - start):
        total += np.sqrt(row[j])
    return total
