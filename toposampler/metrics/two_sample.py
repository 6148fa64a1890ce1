"""How far apart the distributions of two samples are, by nearest neighbors (Schilling 1986, Henze and Penrose 1999)."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.metrics.neighbors import nearest_neighbors

NEAREST = 5
"""nearest neighbors of a point that are looked at"""
PERMUTATIONS = 200
"""random exchanges of points between the samples, whose statistics tell what chance gives"""
SEED = 0
"""of the exchanges: the same samples have the same distance"""


def triangular_discrimination(x: Tensor, y: Tensor) -> tuple[float, float]:
    """An estimate of Delta = 1/2 int (p - q)^2 / (p + q) from samples x (n, d) of p and y (n, d) of q, and its standard
    deviation were p = q.

    Delta is 0 if p = q, and 1 if no place has both; a share e of the samples where there are no data adds e / 2 at
    least. Of the nearest neighbors of all 2n points a share of (1 + Delta) / 2 are of the point's own sample as n
    grows. What chance gives is measured by random exchanges of points between the samples. Fewer than `NEAREST` + 2
    points tell nothing: (0, 1).
    """
    both, n = torch.cat([x, y]).double(), len(x)
    if len(y) != n:
        raise ValueError(f"the samples have {n} and {len(y)} points, and must have as many")
    if 2 * n < NEAREST + 2:
        return 0.0, 1.0
    near = nearest_neighbors(both, both, NEAREST + 1)[1]
    own = torch.arange(2 * n)[:, None]
    near = torch.where(near == own, near[:, -1:], near)[:, :NEAREST]  # of duplicates a point need not be its own first

    def share(of_x: Tensor) -> Tensor:
        return (of_x[near] == of_x[:, None]).double().mean()

    of_x = torch.arange(2 * n) < n
    rng = torch.Generator().manual_seed(SEED)
    chance = torch.stack([share(of_x[torch.randperm(2 * n, generator=rng)]) for _ in range(PERMUTATIONS)])
    return 2 * float(share(of_x) - chance.mean()), 2 * float(chance.std())
