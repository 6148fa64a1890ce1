"""Coordinates of the components of data: mean, principal axes, and the distribution along each axis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REACH, KNOTS = 4.0, 65
"""how far the knots of a marginal reach, in standard deviations of z, and how many there are"""
EXACT_DIMENSIONS = 1024
"""most dimensions whose covariance is diagonalised; of more the principal axes are found by random projections"""
MOST_NUMBERS = 2**24
"""axes of samples that are in memory at once: 64 MB of them"""
MOST_SAMPLES = 50_000
"""samples of a component that its frame is fitted to"""


class Frames(nn.Module):
    """The coordinates of each component: its mean, principal axes and standard deviations along them."""

    mean: Tensor
    """(K, D)"""
    axes: Tensor
    """(K, D, R): orthonormal columns"""
    scales: Tensor
    """(K, R)"""
    quantiles: Tensor
    """(K, R, KNOTS): of y in each direction, at the levels of a standard normal at knots from -REACH to REACH"""

    def __init__(self, K: int, D: int, R: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(K, D))
        self.register_buffer("axes", torch.eye(D, R).repeat(K, 1, 1))
        self.register_buffer("scales", torch.ones(K, R))
        self.register_buffer("quantiles", torch.linspace(-REACH, REACH, KNOTS).repeat(K, R, 1))

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, R: int, floor: float) -> Frames:
        """The frames of the parts `labels` (N,) of samples x (N, D): their first R principal axes.

        No scale of a part is less than `floor` times its largest; a single point has scales of 1.
        """
        frames = cls(int(labels.max()) + 1, x.shape[1], R).double()
        levels = torch.special.ndtr(torch.linspace(-REACH, REACH, KNOTS, dtype=torch.float64))
        for k in range(len(frames.mean)):
            part = x[labels == k][:MOST_SAMPLES].double()
            frames.mean[k] = part.mean(dim=0)
            centred = part - frames.mean[k]
            scales, axes = _principal_axes(centred, R)
            towards = torch.linspace(1, 2, len(axes), dtype=torch.float64) @ axes
            frames.axes[k] = torch.where(towards < 0, -axes, axes)  # of two signs one, on all machines
            frames.scales[k] = scales.clamp(min=floor * float(scales[0])) if scales[0] > 0 else 1.0
            frames.quantiles[k] = _quantiles(centred @ frames.axes[k] / frames.scales[k], levels)
        return frames

    def marginals(self, z: Tensor, c: Tensor) -> Tensor:
        """q_c(z), which gives standard normal z (n, R) the data's distribution in each direction: (n, R)."""
        place = (z.clamp(-REACH, REACH) + REACH) * ((KNOTS - 1) / (2 * REACH))
        left = place.floor().clamp(max=KNOTS - 2)
        table, directions = self.quantiles, torch.arange(z.shape[1], device=z.device)
        low, high = (table[c[:, None], directions, left.long() + i] for i in (0, 1))
        return torch.lerp(low, high, place - left)

    def whiten(self, x: Tensor, c: Tensor) -> Tensor:
        """y = S_c^-1 V_c' (x - m_c): (n, D) to (n, R)."""
        return self._along(x - self.mean[c], c, "nd,ndr->nr") / self.scales[c]

    def colour(self, y: Tensor, c: Tensor) -> Tensor:
        """x = m_c + V_c S_c y: (n, R) to (n, D)."""
        return self.mean[c] + self._along(y * self.scales[c], c, "nr,ndr->nd")

    def _along(self, rows: Tensor, c: Tensor, product: str) -> Tensor:
        """The product of rows (n, ...) with the axes of their components, in parts that fit into memory."""
        at_once = max(1, MOST_NUMBERS // self.axes[0].numel())
        parts = zip(rows.split(at_once), c.split(at_once), strict=True)
        return torch.cat([torch.einsum(product, part, self.axes[of]) for part, of in parts])


def _principal_axes(centred: Tensor, R: int) -> tuple[Tensor, Tensor]:
    """The R largest standard deviations (R,) of rows (n, D) with mean 0, and their directions (D, R), orthonormal."""
    n, D = centred.shape
    if D <= EXACT_DIMENSIONS:
        variances, axes = torch.linalg.eigh(centred.T @ centred / n)
        return variances.flip(0)[:R].clamp(min=0).sqrt(), axes.flip(1)[:, :R]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        found = torch.svd_lowrank(centred, q=min(R, n), niter=4)
    axes = torch.eye(D, R, dtype=centred.dtype)
    axes[:, : found[2].shape[1]] = found[2]
    axes = torch.linalg.qr(axes).Q
    return (centred @ axes).square().mean(dim=0).sqrt(), axes


def _quantiles(y: Tensor, levels: Tensor) -> Tensor:
    """The quantiles of each column of y (n, R) at levels (L,), linear between the points at (i + 1/2) / n: (R, L)."""
    ordered, n = y.sort(dim=0).values, len(y)
    place = (levels * n - 0.5).clamp(0, n - 1)
    left = place.floor().long().clamp(max=max(0, n - 2))
    return torch.lerp(ordered[left], ordered[(left + 1).clamp(max=n - 1)], (place - left)[:, None]).T
