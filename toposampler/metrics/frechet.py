"""Frechet distance of features: how far apart two clouds are, seen as Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Frechet distance of the Gaussians with the moments of x (n, d) and y (m, d), n and m at least 2.

    |mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), S with divisor n - 1 (Dowson and Landau 1982); with Inception's
    pool features it is the FID (Heusel et al. 2017, arXiv 1706.08500), with others it is not: name the features and n.
    With S = R'R the last trace is the sum of singular values of R_x R_y', so that no covariance is formed and no root
    of a nearly singular matrix taken: it holds for fewer samples than dimensions too, and is 0 on equal clouds to
    rounding. DMGAN's authors report its root. It falls with n: compare at equal n only.
    """
    x, y = x.double(), y.double()
    mu_x, mu_y = x.mean(dim=0), y.mean(dim=0)
    R_x, R_y = (_root(centered) for centered in (x - mu_x, y - mu_y))
    product = R_x @ R_y.T
    product[product.abs() < 1e-30 * product.abs().max()] = 0  # of collapsed clouds some are denormal, and slow
    cross = torch.linalg.svdvals(product).sum()
    distance = (mu_x - mu_y).square().sum() + R_x.square().sum() + R_y.square().sum() - 2 * cross
    return max(0.0, float(distance))


def _root(centered: Tensor) -> Tensor:
    """R (min(n, d), d) with R'R the covariance of centered points (n, d)."""
    return torch.linalg.qr(centered, mode="r").R / (len(centered) - 1) ** 0.5
