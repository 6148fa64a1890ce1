"""The Knothe-Rosenblatt rearrangement of a Gaussian mixture: a continuous map from normal latents to it, exact.

Coordinate by coordinate, x_r is the quantile of the mixture's x_r given x_1 ... x_{r-1} at the level of z_r (Rosenblatt
1952). For normals N(m_j, L_j L_j') with weights w_j, that conditional distribution is again a mixture of normals in one
dimension: with e_j = L_j^-1 (x - m_j) of the coordinates before r, the means are m_jr + sum_{s<r} L_j[r, s] e_js, the
standard deviations L_j[r, r], and the weights are proportional to w_j prod_{s<r} N(e_js; 0, 1) / L_j[s, s]. A mixture
that draws which normal a sample is of would tear the latents apart; this map keeps them connected.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = 20
"""of the interval that holds a quantile, before a step of Newton's method"""

Ndtr = Callable[[Tensor], Tensor]
"""the standard normal distribution function"""


def rearranged(
    z: Tensor, c: Tensor, shares: Tensor, means: Tensor, factors: Tensor, ndtr: Ndtr = torch.special.ndtr
) -> Tensor:
    """Standard normal z (n, R) as samples (n, R) of the mixtures c (n,): differentiable by z.

    Args:
        z: latents.
        c: int64 in [0, K): which mixture each is mapped to.
        shares: (K, M): the weights of the normals, 0 for those that are not there.
        means: (K, M, R): of the normals; of those that are not there, another's.
        factors: (K, M, R, R): lower triangular, L L' is the covariance; of those that are not there, another's.
        ndtr: the standard normal distribution function.
    """
    if shares.shape[1] == 1:
        return means[c, 0] + torch.bmm(factors[c, 0], z.unsqueeze(2)).squeeze(2)
    own_means, log_shares = means[c], shares.log()[c]
    x, units = [], z.new_zeros(len(z), shares.shape[1], 0)
    for r in range(z.shape[1]):
        row = factors[:, :, r, : r + 1][c]
        mean, sd = own_means[:, :, r] + (units * row[:, :, :-1]).sum(dim=2), row[:, :, -1]
        value = mixture_quantile(z[:, r], log_shares.softmax(dim=1), mean, sd, ndtr)
        unit = (value[:, None] - mean) / sd
        x.append(value)
        units = torch.cat([units, unit[:, :, None]], dim=2)
        log_shares = log_shares - sd.log() - unit * unit / 2
    return torch.stack(x, dim=1)


def mixture_quantile(z: Tensor, shares: Tensor, mean: Tensor, sd: Tensor, ndtr: Ndtr = torch.special.ndtr) -> Tensor:
    """The quantiles (n,) of mixtures of normals in one dimension, (n, M) each, at the levels of a standard normal z.

    Between the least and the largest quantile of the normals by halving, then by one step of Newton's method, which has
    the derivatives of the quantile by z, `shares` and `mean`.
    """
    side = torch.where(z > 0, -1.0, 1.0).to(z.dtype)  # the shorter tail, where floating-point numbers are dense

    def excess(x: Tensor, z: Tensor, shares: Tensor, mean: Tensor) -> Tensor:
        return (shares * ndtr(side[:, None] * (x[:, None] - mean) / sd)).sum(dim=1) - ndtr(side * z)

    fixed = z.detach(), shares.detach(), mean.detach()
    normal = fixed[2] + sd * fixed[0][:, None]
    low, high = normal.amin(dim=1), normal.amax(dim=1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_low = side * excess(middle, *fixed) < 0
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    middle = (low + high) / 2
    units = (middle[:, None] - fixed[2]) / sd
    density = (fixed[1] * torch.exp(-units * units / 2) / (sd * math.sqrt(2 * math.pi))).sum(dim=1)
    step = -side * excess(middle, z, shares, mean) / density.clamp(min=torch.finfo(z.dtype).tiny)
    return middle + torch.minimum(torch.maximum(step, low - middle), high - middle)
