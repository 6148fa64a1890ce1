"""Coordinates of the components of data, and the distribution in them, in closed form.

Each component gets its mean, its principal axes, and a map from standard normal latents to its coordinates, by
rotation-based iterative Gaussianization (Laparra, Camps-Valls, Malo 2011, arXiv 1602.00229): the coordinates are made
normal one by one, rotated, made normal again, and so on, until they are normal after a rotation; the map undoes this.
A single iteration gives the data's distribution along each axis. A component that is elliptically symmetric, as a
circle, a sphere or a shell of any dimension is, needs its radius made normal alone (radial Gaussianization, Lyu and
Simoncelli 2009). Nothing is learned by gradients.
"""

from __future__ import annotations

import math
from typing import Any, cast

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

SHELL = 0.05
"""standard deviation of radii, over their mean, below which they are taken for one radius, seen off its center"""


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
    radii: Tensor
    """(K, KNOTS): quantiles of the radius of components that are elliptically symmetric, at the same levels"""
    symmetric: Tensor
    """(K,): the directions of such a component that are not flat; 0: it is another one"""

    def __init__(self, K: int, D: int, R: int, L: int = 1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(K, D))
        self.register_buffer("axes", torch.eye(D, R).repeat(K, 1, 1))
        self.register_buffer("scales", torch.ones(K, R))
        self.register_buffer("quantiles", torch.linspace(-REACH, REACH, KNOTS).repeat(K, L, R, 1))
        self.register_buffer("rotations", torch.eye(R).repeat(K, L - 1, 1, 1))
        self.register_buffer("radii", torch.zeros(K, KNOTS))
        self.register_buffer("symmetric", torch.zeros(K))
        self._radii: tuple[tuple[int, int], bool] | None = None

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
            members = (labels == k).nonzero()[:, 0]
            if len(members) > MOST_SAMPLES:
                members = members[
                    torch.randperm(len(members), generator=torch.Generator().manual_seed(k))[:MOST_SAMPLES]
                ]
            part = x[members].double()
            frames.mean[k] = part.mean(dim=0)
            centered = part - frames.mean[k]
            scales, axes = principal_axes(centered, R)
            towards = torch.linspace(1, 2, len(axes), dtype=torch.float64) @ axes
            frames.axes[k] = torch.where(towards < 0, -axes, axes)  # of two signs one, on all machines
            frames.scales[k] = scales.clamp(min=floor * float(scales[0])) if scales[0] > 0 else 1.0
            full = int((scales > floor * scales[0]).sum())
            used = max(used, frames._fit(k, centered @ frames.axes[k] / frames.scales[k], full))
        frames.quantiles = frames.quantiles[:, :used]
        frames.rotations = frames.rotations[:, : used - 1]
        return frames

    def _fit(self, k: int, y: Tensor, full: int) -> int:
        """Fit component k to coordinates y (n, R), whose first `full` directions are not flat; the iterations used."""
        levels = torch.special.ndtr(torch.linspace(-REACH, REACH, KNOTS, dtype=torch.float64))
        self.quantiles[k, 0] = _quantiles(y, levels)
        if full < 2 or _is_normal(_levels(self.quantiles[k, 0], y)[:, :full]):
            return 1
        if _is_symmetric(y[:, :full]):
            radius = torch.linalg.vector_norm(y[:, :full], dim=1)
            self.quantiles[k, 0, :full] = torch.linspace(-REACH, REACH, KNOTS)
            self.radii[k] = _quantiles(radius[:, None], levels)[0]
            self.symmetric[k] = full
            return 1
        for i in range(self.iterations):
            self.quantiles[k, i] = table = _quantiles(y, levels)
            y = _levels(table, y)
            if i + 1 == self.iterations or _is_normal(y[:, :full]):
                return i + 1
            self.rotations[k, i, :full, :full] = rotation = _rotation(full, i)
            y = torch.cat([y[:, :full] @ rotation, y[:, full:]], dim=1)
        raise AssertionError("there is at least one iteration")

    def has_radii(self) -> bool:
        """Whether some component is elliptically symmetric. Read from the device once: `symmetric` changes but by
        loading."""
        key = (id(self.symmetric), self.symmetric._version)
        if self._radii is None or self._radii[0] != key:
            self._radii = key, bool(self.symmetric.any())
        return self._radii[1]

    def fill(self, z: Tensor, c: Tensor, radii: bool = True) -> Tensor:
        """q_c(z): standard normal z (n, R) as coordinates (n, R) of the components c (n,); `radii` as of `has_radii`,
        which need not be asked: where no component is symmetric, both give the same."""
        y = self._quantile(self.iterations - 1, z, c)
        for i in reversed(range(self.iterations - 1)):
            y = torch.einsum("ns,nrs->nr", y, self.rotations[c, i])
            y = self._quantile(i, y, c)
        return self._on_radius(y, c) if radii else y

    def _on_radius(self, y: Tensor, c: Tensor) -> Tensor:
        """y (n, R) as it is, or, in components that are elliptically symmetric, at the radius of the data."""
        full = self.symmetric[c]
        inside = torch.arange(y.shape[1], device=y.device) < full[:, None]
        radius = torch.linalg.vector_norm(y * inside, dim=1).clamp(min=torch.finfo(y.dtype).tiny)
        level = torch.special.ndtri(_gamma_share(full.clamp(min=1) / 2, radius.square() / 2))
        left, share = _between_knots(level)
        low, high = (self.radii[c, left + j] for j in (0, 1))
        return torch.where(inside, (torch.lerp(low, high, share) / radius)[:, None] * y, y)

    def _quantile(self, i: int, z: Tensor, c: Tensor) -> Tensor:
        """The quantiles of iteration i at normal levels z (n, R)."""
        left, share = _between_knots(z)
        row = (self.iterations * c + i)[:, None] * z.shape[1] + torch.arange(z.shape[1], device=z.device)
        knots, place = self.quantiles.flatten(), KNOTS * row + left  # one index is faster than three
        return torch.lerp(knots[place], knots[place + 1], share)

    def whiten(self, x: Tensor, c: Tensor) -> Tensor:
        """y = S_c^-1 V_c' (x - m_c): (n, D) to (n, R)."""
        return self._along(x - self.mean[c], c, towards=True) / self.scales[c]

    def color(self, y: Tensor, c: Tensor) -> Tensor:
        """x = m_c + V_c S_c y: (n, R) to (n, D)."""
        return self.mean[c] + self._along(y * self.scales[c], c, towards=False)

    def _along(self, rows: Tensor, c: Tensor, towards: bool) -> Tensor:
        """Rows (n, D) as coordinates along the axes of their components (n, R), or such coordinates as rows again."""
        at_once = max(1, MOST_NUMBERS // self.axes[0].numel())
        if len(rows) > at_once:  # in parts that fit into memory
            parts = zip(rows.split(at_once), c.split(at_once), strict=True)
            return torch.cat([self._along(part, of, towards) for part, of in parts])
        return turned(rows, self.axes[c], towards)


def turned(rows: Tensor, axes: Tensor, towards: bool) -> Tensor:
    """Rows (n, D) as coordinates (n, R) along axes (n, D, R) of their own, or such coordinates as rows again."""
    if towards:
        return torch.bmm(rows.unsqueeze(1), axes).squeeze(1)
    return torch.bmm(axes, rows.unsqueeze(2)).squeeze(2)


def principal_axes(centered: Tensor, R: int) -> tuple[Tensor, Tensor]:
    """The R largest standard deviations (R,) of rows (n, D) with mean 0, and their directions (D, R), orthonormal."""
    n, D = centered.shape
    if D <= EXACT_DIMENSIONS:
        variances, axes = torch.linalg.eigh(centered.T @ centered / n)
        return variances.flip(0)[:R].clamp(min=0).sqrt(), axes.flip(1)[:, :R]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        found = torch.svd_lowrank(centered, q=min(R, n), niter=4)
    axes = torch.eye(D, R, dtype=centered.dtype)
    axes[:, : found[2].shape[1]] = found[2]
    axes = torch.linalg.qr(axes).Q
    return (centered @ axes).square().mean(dim=0).sqrt(), axes


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


def _between_knots(level: Tensor) -> tuple[Tensor, Tensor]:
    """The knot to the left of normal levels (...), int64, and the share of the way from it to the next."""
    place = (level.clamp(-REACH, REACH) + REACH) * ((KNOTS - 1) / (2 * REACH))
    left = place.floor().clamp(max=KNOTS - 2)
    return left.long(), place - left


def _rotation(d: int, i: int) -> Tensor:
    """The i-th random rotation (d, d) float64, the same on all machines to rounding."""
    rng = torch.Generator().manual_seed(i)
    return torch.linalg.qr(torch.rand(d, d, generator=rng, dtype=torch.float64) - 0.5).Q


def _is_symmetric(y: Tensor) -> bool:
    """Whether y (n, d) is taken for spherically symmetric around 0.

    Its directions are uniform, overall and, unless radii differ by less than `SHELL`, in the nearer and the farther
    half each: with normal radii in place of their own the points are normal.
    """
    radius = torch.linalg.vector_norm(y, dim=1)
    if not (radius > 0).all():
        return False
    normal = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)
    points = y * (torch.linalg.vector_norm(normal, dim=1) / radius)[:, None]
    near = radius < radius.median()
    is_shell = bool(radius.std() < SHELL * radius.mean())
    return _is_normal(points) and (is_shell or (_is_normal(points[near]) and _is_normal(points[~near])))


def _is_normal(y: Tensor) -> bool:
    """Whether y (n, d) is taken for standard normal, by Kolmogorov and Smirnov's test.

    Its columns are tested, as many rotated ones where d is small, and its radius.
    """
    n, d = y.shape
    if d <= ROTATED_DIMENSIONS:
        y = torch.cat([y, *(y @ _rotation(d, i) for i in (1000, 1001))], dim=1)
    radius = torch.linalg.vector_norm(y[:, :d], dim=1, keepdim=True).square() / 2
    shares = torch.cat([torch.special.ndtr(y), torch.special.gammainc(torch.full_like(radius, d / 2), radius)], dim=1)
    steps = (torch.arange(n, dtype=y.dtype) + 0.5)[:, None] / n
    return float((shares.sort(dim=0).values - steps).abs().max()) * math.sqrt(n) < NORMAL


class _GammaShare(torch.autograd.Function):
    """P(a, x), the regularized lower incomplete gamma function, with its derivative by x, x^(a-1) e^-x / Gamma(a).

    torch's own has none in forward mode, which the Jacobian of a generator is taken in.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        return torch.special.gammainc(a, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient * _gamma_density(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, _: Tensor | None, tangent: Tensor) -> Tensor:
        return tangent * _gamma_density(*ctx.saved_tensors)


def _gamma_density(a: Tensor, x: Tensor) -> Tensor:
    return ((a - 1) * x.log() - x - torch.lgamma(a)).exp()


def _gamma_share(a: Tensor, x: Tensor) -> Tensor:
    """P(a, x) of a > 0 and x > 0, (n,) each, differentiable by x."""
    return cast(Tensor, _GammaShare.apply(a, x))
