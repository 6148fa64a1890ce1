"""How far apart two clouds of points are."""

from __future__ import annotations

import torch
from torch import Tensor


def energy_distance(x: Tensor, y: Tensor, chunk: int = 256) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| over x (n, d), y (m, d), in data units (Szekely and Rizzo 2013).

    The V-statistic, in which a point is also paired with itself: never negative, and 0 only on equal clouds.
    Memory: chunk * max(n, m) distances at a time.
    """
    between = _mean_distance(x, y, chunk)
    return max(0.0, 2 * between - _mean_distance(x, x, chunk) - _mean_distance(y, y, chunk))


def _mean_distance(x: Tensor, y: Tensor, chunk: int) -> float:
    """E|x - y|, in float64: cdist's matrix products lose half the digits, in float32 too many."""
    y = y.double()
    total = sum(float(torch.cdist(rows, y).sum()) for rows in x.double().split(chunk))
    return total / (len(x) * len(y))


def sliced_wasserstein(x: Tensor, y: Tensor, n_projections: int, generator: torch.Generator) -> float:
    """Sliced 2-Wasserstein distance, in data units, of x (n, d) and y (m, d) (Bonneel et al. 2015).

    Root mean square, over `n_projections` random directions, of the exact 2-Wasserstein distance along each.
    """
    n, m = len(x), len(y)
    directions = torch.randn(x.shape[1], n_projections, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=0).to(x.device)
    x_sorted = (x.double() @ directions).sort(dim=0).values
    y_sorted = (y.double() @ directions).sort(dim=0).values
    # Both quantile functions are steps; between two neighbouring `levels` (in units of 1 / nm) neither jumps.
    levels = torch.cat((m * torch.arange(1, n + 1), n * torch.arange(1, m + 1))).unique().to(x.device)
    widths = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    gaps = x_sorted[(levels - 1) // m] - y_sorted[(levels - 1) // n]
    return float((widths @ gaps.square()).mean().sqrt())
