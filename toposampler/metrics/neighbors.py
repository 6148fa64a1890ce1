"""Nearest real points, for data whose support is known only by its points."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024
"""points of each cloud whose distances are in memory together, with a few float64 copies of the points themselves"""


def distance_blocks(x: Tensor, y: Tensor, block: int = BLOCK) -> Iterator[tuple[slice, slice, Tensor]]:
    """All distances, in data units, of x (n, d) to y (m, d): which of x, which of y, and their distances.

    In float64: cdist's matrix products lose half the digits, in float32 too many.
    """
    for j in range(0, len(y), block):
        columns = slice(j, j + block)
        some = y[columns].double()
        for i in range(0, len(x), block):
            rows = slice(i, i + block)
            yield rows, columns, torch.cdist(x[rows].double(), some)


def nearest_neighbors(x: Tensor, points: Tensor, k: int, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The k of `points` (N, d) nearest to each of x (n, d), or all N if fewer: distances, indices (n, k).

    Distances (data units, float64) rise along a row. With x = points, the first neighbor of each is itself.
    """
    k = min(k, len(points))
    nearest = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)
    index = torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
    for rows, columns, distance in distance_blocks(x, points, block):
        near, which = distance.topk(min(k, distance.shape[1]), largest=False)
        both = torch.cat((nearest[rows], near), dim=1)
        nearest[rows], place = both.topk(k, largest=False)
        index[rows] = torch.cat((index[rows], which + columns.start), dim=1).gather(1, place)
    return nearest, index


def off_support_nn99(sample_to_real: Tensor, real_to_real: Tensor) -> float:
    """Share of samples farther from their nearest real point than 99 % of the real points are from theirs.

    sample_to_real (n,) and real_to_real (N,) are those distances; no real point is its own neighbor.
    A perfect sampler scores about 0.01.
    """
    return float((sample_to_real > real_to_real.quantile(0.99)).double().mean())


def covered_k5(real_to_sample: Tensor, real_to_fifth: Tensor) -> Tensor:
    """Whether a sample lies in each real point's ball that reaches to its fifth real neighbor: (N,) bool.

    Its mean is the coverage of Naeem et al. 2020 (arXiv 2002.09797) with k = 5. real_to_sample (N,) is the
    distance to the nearest sample, real_to_fifth (N,) to the fifth nearest other real point.
    """
    return real_to_sample <= real_to_fifth
