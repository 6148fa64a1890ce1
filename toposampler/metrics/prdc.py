"""Fidelity and variety by balls around points: precision and recall, density and coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.metrics.neighbors import BLOCK, distance_blocks, nearest_neighbors

K_MANIFOLD = 3
"""neighbor that a ball reaches to, for precision and recall (Kynkaanniemi et al. 2019)"""
K_DENSITY = 5
"""the same for density and coverage (Naeem et al. 2020)"""


def precision_recall_density_coverage(x: Tensor, real: Tensor, block: int = BLOCK) -> dict[str, float]:
    """Samples x (n, d) against real points (m, d), raw or as features; each has more than 5 points.

    A ball around a point reaches to its k-th nearest other one of the same cloud, edge included.
    `precision_k3`: share of samples in a real point's ball; `recall_k3`: share of real points in a sample's (improved
    precision and recall, arXiv 1904.06991). `density_k5`: mean number of real balls a sample is in, over k, which is 1
    for a perfect sampler and can exceed it; `coverage_k5`: share of real balls with a sample in (arXiv 2002.09797).
    Edges matter only for samples that are real points themselves: rounding decides them there, and density can be off
    by some thousandths. All depend on n and m: state them. Memory: (n + m) * 6 numbers, and blocks of distances.
    """
    for name, points in (("x", x), ("real", real)):
        if len(points) <= K_DENSITY:
            raise ValueError(f"{name} has {len(points)} points; more than {K_DENSITY} are needed")
    among_real, _ = nearest_neighbors(real, real, K_DENSITY + 1, block)  # the first is the point itself
    among_x, _ = nearest_neighbors(x, x, K_MANIFOLD + 1, block)
    narrow, wide, of_x = among_real[:, K_MANIFOLD], among_real[:, K_DENSITY], among_x[:, K_MANIFOLD]
    density = 0
    precise = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool, device=real.device)
    for rows, columns, distance in distance_blocks(x, real, block):
        precise[rows] |= (distance <= narrow[columns]).any(dim=1)
        recalled[columns] |= (distance <= of_x[rows, None]).any(dim=0)
        inside = distance <= wide[columns]
        density += int(inside.sum())
        covered[columns] |= inside.any(dim=0)
    return {
        f"precision_k{K_MANIFOLD}": float(precise.double().mean()),
        f"recall_k{K_MANIFOLD}": float(recalled.double().mean()),
        f"density_k{K_DENSITY}": density / (K_DENSITY * len(x)),
        f"coverage_k{K_DENSITY}": float(covered.double().mean()),
    }
