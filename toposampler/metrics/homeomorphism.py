"""How far z -> G(z) is from a homeomorphism, which keeps neighbors, and neither folds nor tears."""

from __future__ import annotations

import torch
from sklearn import manifold
from torch import Tensor


def trustworthiness(z: Tensor, x: Tensor, k: int = 5) -> float:
    """Whether the k nearest neighbors of each x_i were near in z: from 0 to 1, which says all were (Venna 2006).

    z (n, d) and x (n, D), with x_i the image of z_i; k < n / 2. Points from afar, which a fold brings, cost their rank.
    """
    return float(manifold.trustworthiness(z, x, n_neighbors=k))


def continuity(z: Tensor, x: Tensor, k: int = 5) -> float:
    """Whether the k nearest neighbors of each z_i stay near in x: `trustworthiness` of the way back. A tear costs."""
    return trustworthiness(x, z, k)


def bi_lipschitz(z: Tensor, x: Tensor) -> tuple[float, float, float]:
    """Smallest, median and largest |x_i - x_j| / |z_i - z_j| over all pairs of distinct z (n, d), with x (n, D) = G(z).

    G is Lipschitz with no constant below the largest, its inverse with none below 1 / smallest: a tear or a fold sends
    one of them off as n grows. All pairs, since those that tell are neighbors in one space only. Memory: n^2.
    """
    to_z, to_x = (torch.nn.functional.pdist(points.double()) for points in (z, x))
    stretch = (to_x / to_z)[to_z > 0]
    return float(stretch.min()), float(stretch.median()), float(stretch.max())
