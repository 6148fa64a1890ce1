"""Samples against a known support: how many lie off it, and how much of it they reach.

Read the two together: samples that keep to one component are never off the manifold.
"""

from __future__ import annotations

import torch
from torch import Tensor


def off_manifold(distance: Tensor, tau: float) -> float:
    """Share of samples farther than `tau` (data units) from every component; distance (n, M)."""
    return float((distance.min(dim=1).values > tau).double().mean())


def modes_covered(distance: Tensor, tau: float) -> int:
    """How many components have a sample within `tau` (data units); distance (n, M). It grows with n: state n.

    With `Discs` of 3 standard deviations and tau = 0 these are VEEGAN's captured modes (Srivastava et al. 2017, arXiv
    1705.07761), and 1 - off_manifold(distance, 0) is its share of high-quality samples.
    """
    return int((distance <= tau).any(dim=0).sum())


def coverage(distance: Tensor, bins: Tensor, tau: float, n_bins: int) -> Tensor:
    """Share of each component's bins that hold a sample within `tau` of the component: (M,) float64.

    distance (n, M) in data units; bins (n, M) int64 in [0, n_bins), as of a Manifold.
    """
    sample, component = (distance <= tau).nonzero(as_tuple=True)
    hit = distance.new_zeros(distance.shape[1], n_bins, dtype=torch.float64)
    hit[component, bins[sample, component]] = 1
    return hit.mean(dim=1)
