"""How far apart two clouds of points are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from toposampler.metrics.neighbors import distance_blocks


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| over x (n, d), y (m, d), in data units (Szekely and Rizzo 2013).

    The V-statistic, in which a point is also paired with itself: never negative, and 0 only on equal clouds.
    """
    from toposampler.metrics.pairwise import mean_distance  # here, as numba takes half a second

    return max(0.0, 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y))


def sliced_wasserstein(x: Tensor, y: Tensor, n_projections: int, generator: torch.Generator) -> float:
    """Sliced 2-Wasserstein distance, in data units, of x (n, d) and y (m, d) (Bonneel et al. 2015).

    Root mean square, over `n_projections` random directions, of the exact 2-Wasserstein distance along each.
    """
    n, m = len(x), len(y)
    directions = torch.randn(x.shape[1], n_projections, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=0).to(x.device)
    x_sorted, y_sorted = _sorted(x.double() @ directions), _sorted(y.double() @ directions)
    # Both quantile functions are steps; between two neighboring `levels` (in units of 1 / nm) neither jumps.
    levels = torch.cat((m * torch.arange(1, n + 1), n * torch.arange(1, m + 1))).unique().to(x.device)
    widths = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    gaps = x_sorted[(levels - 1) // m] - y_sorted[(levels - 1) // n]
    return float((widths @ gaps.square()).mean().sqrt())


def _sorted(x: Tensor) -> Tensor:
    """x (n, d), each column in ascending order."""
    if x.device.type == "cpu":  # numpy's vector instructions take a third of torch's time
        return torch.from_numpy(np.sort(x.numpy(), axis=0))
    return x.sort(dim=0).values


def wasserstein_2(x: Tensor, y: Tensor) -> float:
    """Exact 2-Wasserstein distance, in data units, of x (n, d) and y (n, d): the optimal one-to-one assignment.

    Raises ValueError if they are not as many. Time grows as n^3 at worst.
    Measured: a second for 2,000 points in 64 dimensions. Memory: n^2 float64.
    """
    from scipy.optimize import linear_sum_assignment  # half a second to import, and needed here only

    if len(x) != len(y):
        raise ValueError(f"an assignment needs as many of both, got {len(x)} and {len(y)} points")
    cost = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square().cpu()
    return float(cost[linear_sum_assignment(cost)].mean().sqrt())


def mmd2_unbiased_gaussian(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """Squared maximum mean discrepancy, E k(x, x') + E k(y, y') - 2 E k(x, y), of x (n, d) and y (m, d).

    k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)), bandwidth in data units (`median_distance` is a common choice). The
    U-statistic (Gretton et al. 2012, lemma 6), in which no point is paired with itself: it is 0 on average for equal
    distributions, so it can be negative.
    """

    def total(a: Tensor, b: Tensor) -> float:
        scaled = (distance / bandwidth for *_, distance in distance_blocks(a, b))
        return sum(float((-distance.square() / 2).exp().sum()) for distance in scaled)

    n, m = len(x), len(y)
    within = (total(x, x) - n) / (n * (n - 1)) + (total(y, y) - m) / (m * (m - 1))
    return within - 2 * total(x, y) / (n * m)


def median_distance(x: Tensor) -> float:
    """Median distance, in data units, between two points of x (n, d) that differ; 0 if none do.

    Equal points do not count: where most pairs are equal, as in data that is mostly 0, the median of all would be 0,
    which is no bandwidth. Memory: n^2 / 2 float64.
    """
    distances = torch.nn.functional.pdist(x.double())
    apart = distances[distances > 0]
    return float(apart.median()) if len(apart) else 0.0
