"""Nearest real points, for data whose support is known only by its points."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbours(x: Tensor, points: Tensor, k: int, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """The k of `points` (N, d) nearest to each of x (n, d), or all N if fewer: distances, indices (n, k).

    Distances (data units, float64) rise along a row. With x = points, the first neighbour of each is itself.
    Memory: chunk * N distances at a time.
    """
    points = points.double()  # as in energy_distance
    shape = (len(x), min(k, len(points)))
    distance = points.new_empty(shape)  # made before: small results between large blocks keep the freed ones from reuse
    index = torch.empty(shape, dtype=torch.int64, device=x.device)
    for rows, near, which in zip(x.double().split(chunk), distance.split(chunk), index.split(chunk), strict=True):
        torch.topk(torch.cdist(rows, points), shape[1], largest=False, out=(near, which))
    return distance, index


def off_support_nn99(sample_to_real: Tensor, real_to_real: Tensor) -> float:
    """Share of samples farther from their nearest real point than 99 % of the real points are from theirs.

    sample_to_real (n,) and real_to_real (N,) are those distances; no real point is its own neighbour.
    A perfect sampler scores about 0.01.
    """
    return float((sample_to_real > real_to_real.quantile(0.99)).double().mean())


def covered_k5(real_to_sample: Tensor, real_to_fifth: Tensor) -> Tensor:
    """Whether a sample lies in each real point's ball that reaches to its fifth real neighbour: (N,) bool.

    Its mean is the coverage of Naeem et al. 2020 (arXiv 2002.09797) with k = 5. real_to_sample (N,) is the
    distance to the nearest sample, real_to_fifth (N,) to the fifth nearest other real point.
    """
    return real_to_sample <= real_to_fifth
