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

PARTS, ROUNDS = 8, 5
"""of the interval that holds a quantile one part in eight is kept, and again, before Newton's method"""

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
    x: list[Tensor] = []
    units: list[Tensor] = []
    for r in range(z.shape[1]):
        row = factors[:, :, r, : r + 1][c]
        mean, sd = own_means[:, :, r], row[:, :, -1]
        if units:
            mean = mean + (torch.stack(units, dim=2) * row[:, :, :-1]).sum(dim=2)
        value = mixture_quantile(z[:, r], log_shares.softmax(dim=1), mean, sd, ndtr)
        unit = (value[:, None] - mean) / sd
        x.append(value)
        units.append(unit)
        log_shares = log_shares - sd.log() - unit * unit / 2
    return torch.stack(x, dim=1)


def mixture_quantile(z: Tensor, shares: Tensor, mean: Tensor, sd: Tensor, ndtr: Ndtr = torch.special.ndtr) -> Tensor:
    """The quantiles (n,) of mixtures of normals in one dimension, (n, M) each, at the levels of a standard normal z.

    Between the least and the largest quantile of the normals, in ever smaller parts, then by Newton's method, whose
    last step has the derivatives of the quantile by z, `shares` and `mean`.
    """
    side = torch.where(z > 0, -1.0, 1.0).to(z.dtype)[:, None]  # the shorter tail, where numbers are dense

    def excess(x: Tensor, z: Tensor, shares: Tensor, mean: Tensor) -> Tensor:
        """Of the distribution functions at x (n, P) over the levels: (n, P), rising."""
        units = (x[:, :, None] - mean[:, None]) / sd[:, None]
        return side * ((shares[:, None] * ndtr(side[:, :, None] * units)).sum(dim=2) - ndtr(side * z[:, None]))

    fixed = z.detach(), shares.detach(), mean.detach()
    normal = fixed[2] + sd * fixed[0][:, None]
    low = normal.amin(dim=1, keepdim=True)
    width = normal.amax(dim=1, keepdim=True) - low
    ends = torch.arange(1, PARTS, dtype=z.dtype, device=z.device)
    for _ in range(ROUNDS):
        width = width / PARTS
        low = low + width * (excess(low + width * ends, *fixed) < 0).sum(dim=1, keepdim=True).to(z.dtype)
    most = width + sd.amin(dim=1, keepdim=True) / 1000  # of a step, where there is next to no density

    def better(x: Tensor, z: Tensor, shares: Tensor, mean: Tensor) -> Tensor:
        units = (x - fixed[2]) / sd
        density = (fixed[1] * torch.exp(-units * units / 2) / (sd * math.sqrt(2 * math.pi))).sum(dim=1, keepdim=True)
        step = -excess(x, z, shares, mean) / density.clamp(min=torch.finfo(z.dtype).tiny)
        return x + torch.minimum(torch.maximum(step, -most), most)

    return better(better(low + width / 2, *fixed), z, shares, mean).squeeze(1)
