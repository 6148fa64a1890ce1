"""Coordinates of the components of data, and the distribution in them, in closed form.

Each component gets its mean, its principal axes, and a map from standard normal latents to its coordinates, by
rotation-based iterative Gaussianization (Laparra, Camps-Valls, Malo 2011, arXiv 1602.00229): the coordinates are made
normal one by one, rotated, made normal again, and so on, until they are normal after a rotation; the map undoes this.
A single iteration gives the data's distribution along each axis. Nothing is learned by gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

REACH, KNOTS = 4.0, 65
"""how far the knots of a distribution reach, in standard deviations of z, and how many there are"""
EXACT_DIMENSIONS = 1024
"""most dimensions whose covariance is diagonalised; of more the principal axes are found by random projections"""
ROTATED_DIMENSIONS = 16
"""most dimensions that are rotated: in many, every projection is nearly normal"""
MOST_NUMBERS = 2**24
"""axes of samples that are in memory at once: 64 MB of them"""
MOST_SAMPLES = 50_000
"""samples of a component that its frame is fitted to"""
NORMAL = 1.63
"""of sqrt(n) times the largest distance to the normal distribution function: below, data are taken for normal (99 %)"""


class Frames(nn.Module):
    """The coordinates of each of K components, and how latents fill them: L iterations in R of D directions."""

    mean: Tensor
    """(K, D)"""
    axes: Tensor
    """(K, D, R): orthonormal columns"""
    scales: Tensor
    """(K, R): standard deviations along them"""
    quantiles: Tensor
    """(K, L, R, KNOTS): at the levels of a standard normal at knots from -REACH to REACH"""
    rotations: Tensor
    """(K, L - 1, R, R)"""

    def __init__(self, K: int, D: int, R: int, L: int = 1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(K, D))
        self.register_buffer("axes", torch.eye(D, R).repeat(K, 1, 1))
        self.register_buffer("scales", torch.ones(K, R))
        self.register_buffer("quantiles", torch.linspace(-REACH, REACH, KNOTS).repeat(K, L, R, 1))
        self.register_buffer("rotations", torch.eye(R).repeat(K, L - 1, 1, 1))

    @property
    def iterations(self) -> int:
        """L."""
        return self.quantiles.shape[1]

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, R: int, floor: float, most_iterations: int = 1) -> Frames:
        """The frames of the parts `labels` (N,) of samples x (N, D): their first R principal axes.

        No scale of a part is less than `floor` times its largest, directions below are flat; a single point has scales
        of 1. Iterations end where all parts are normal.
        """
        K, L = int(labels.max()) + 1, most_iterations if R <= ROTATED_DIMENSIONS else 1
        frames = cls(K, x.shape[1], R, L).double()
        used = 1
        for k in range(K):
            part = x[labels == k][:MOST_SAMPLES].double()
            frames.mean[k] = part.mean(dim=0)
            centred = part - frames.mean[k]
            scales, axes = _principal_axes(centred, R)
            towards = torch.linspace(1, 2, len(axes), dtype=torch.float64) @ axes
            frames.axes[k] = torch.where(towards < 0, -axes, axes)  # of two signs one, on all machines
            frames.scales[k] = scales.clamp(min=floor * float(scales[0])) if scales[0] > 0 else 1.0
            full = int((scales > floor * scales[0]).sum())
            used = max(used, frames._gaussianize(k, centred @ frames.axes[k] / frames.scales[k], full))
        frames.quantiles = frames.quantiles[:, :used]
        frames.rotations = frames.rotations[:, : used - 1]
        return frames

    def _gaussianize(self, k: int, y: Tensor, full: int) -> int:
        """Fit quantiles and rotations of component k to y (n, R), whose first `full` directions are not flat; how many
        iterations that took."""
        levels = torch.special.ndtr(torch.linspace(-REACH, REACH, KNOTS, dtype=torch.float64))
        for i in range(self.iterations):
            self.quantiles[k, i] = table = _quantiles(y, levels)
            if i + 1 == self.iterations or full < 2:
                return i + 1
            y = _levels(table, y)
            rotation = torch.eye(y.shape[1], dtype=torch.float64)
            rng = torch.Generator().manual_seed(i)
            rotation[:full, :full] = torch.linalg.qr(torch.randn(full, full, generator=rng, dtype=torch.float64)).Q
            if _is_normal(rotated := (y @ rotation)[:, :full]) and _is_normal(y[:, :full]):
                return i + 1
            self.rotations[k, i] = rotation
            y = torch.cat([rotated, y[:, full:]], dim=1)
        raise AssertionError("unreachable")

    def fill(self, z: Tensor, c: Tensor) -> Tensor:
        """q_c(z): standard normal z (n, R) as coordinates (n, R) of the components c (n,)."""
        y = self._quantile(self.iterations - 1, z, c)
        for i in reversed(range(self.iterations - 1)):
            y = torch.einsum("ns,nrs->nr", y, self.rotations[c, i])
            y = self._quantile(i, y, c)
        return y

    def _quantile(self, i: int, z: Tensor, c: Tensor) -> Tensor:
        place = (z.clamp(-REACH, REACH) + REACH) * ((KNOTS - 1) / (2 * REACH))
        left = place.floor().clamp(max=KNOTS - 2)
        table, directions = self.quantiles[:, i], torch.arange(z.shape[1], device=z.device)
        low, high = (table[c[:, None], directions, left.long() + j] for j in (0, 1))
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


def _levels(table: Tensor, y: Tensor) -> Tensor:
    """The inverse of quantiles (R, KNOTS): normal levels (n, R) of y (n, R).

    Of a value that several knots have the middle, in the tails the inner end.
    """
    values = y.T.contiguous()
    first, after = (torch.searchsorted(table.contiguous(), values, right=right) for right in (False, True))
    last = after - 1
    left = (first - 1).clamp(0, KNOTS - 2)
    low, high = table.gather(1, left), table.gather(1, left + 1)
    between = left + ((values - low) / (high - low).clamp(min=torch.finfo(y.dtype).tiny)).clamp(0, 1)
    middle = torch.where(first == 0, last, torch.where(last == KNOTS - 1, first, (first + last) / 2))
    place = torch.where(last >= first, middle, between)
    return (place * (2 * REACH / (KNOTS - 1)) - REACH).T


def _is_normal(y: Tensor) -> bool:
    """Whether each column of y (n, R) follows the standard normal distribution, by Kolmogorov and Smirnov's test."""
    n = len(y)
    steps = (torch.arange(n, dtype=y.dtype) + 0.5)[:, None] / n
    return float((torch.special.ndtr(y.sort(dim=0).values) - steps).abs().max()) * math.sqrt(n) < NORMAL
