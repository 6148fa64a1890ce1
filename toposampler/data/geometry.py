"""The exact supports of the synthetic data: segments and discs in the plane, spheres of any dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Segments:
    """M straight segments; the bins of a segment are equal pieces of its length."""

    starts: Tensor
    """(M, 2)"""
    ends: Tensor
    """(M, 2)"""
    n_bins: int = 50

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, 2) to each segment, its end points included: (n, M)."""
        t = self._position(x).unsqueeze(2)
        nearest = self.starts + t * (self.ends - self.starts)
        return torch.linalg.vector_norm(x.unsqueeze(1) - nearest, dim=2)

    def bins(self, x: Tensor) -> Tensor:
        """Piece of each segment that holds the point nearest to each point of x (n, 2): (n, M) int64."""
        return (self._position(x) * self.n_bins).long().clamp(max=self.n_bins - 1)

    def _position(self, x: Tensor) -> Tensor:
        """Where on each segment its point nearest to x lies, from 0 at the start to 1 at the end: (n, M)."""
        along = self.ends - self.starts
        return (((x.unsqueeze(1) - self.starts) * along).sum(2) / along.square().sum(1)).clamp(0, 1)


@dataclass
class Spheres:
    """M spheres of one dimension d in d + 1 dimensions, each in bins that hold equal mass if points are uniform on it.

    A circle has `n_bins` arcs. Others have n_bins / 5 sectors by the angle in the first two coordinates, each cut in 5:
    in space by height, as zones of one height have one area (Archimedes); beyond, by the angle in the next two
    coordinates, which is uniform too and independent of the first.
    """

    centers: Tensor
    """(M, d + 1)"""
    radii: Tensor
    """(M,)"""
    n_bins: int = 50

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, d + 1) to each sphere: (n, M)."""
        # Not by matrix products, whose rounding errors are as large as an off-manifold tolerance.
        to_centers = torch.cdist(x, self.centers, compute_mode="donot_use_mm_for_euclid_dist")
        return (to_centers - self.radii).abs()

    def bins(self, x: Tensor) -> Tensor:
        """Bin of each sphere that each point of x (n, d + 1) projects to: (n, M) int64."""
        offset = x[:, None, :4] - self.centers[:, :4]
        if offset.shape[2] == 2:
            return _angular_bins(offset, self.n_bins)
        if offset.shape[2] == 3:
            height = torch.nn.functional.normalize(offset, dim=2)[..., 2]
            fifth = ((height + 1) / 2 * 5).long().clamp(0, 4)
        else:
            fifth = _angular_bins(offset[..., 2:], 5)
        return _angular_bins(offset, self.n_bins // 5) * 5 + fifth


@dataclass
class Discs:
    """M full discs of one radius; the bins of a disc are equal sectors."""

    centers: Tensor
    """(M, 2)"""
    radius: float
    n_bins: int = 8

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, 2) to each disc, 0 inside: (n, M)."""
        return (torch.linalg.vector_norm(x.unsqueeze(1) - self.centers, dim=2) - self.radius).clamp(min=0)

    def bins(self, x: Tensor) -> Tensor:
        """Sector of each disc that each point of x (n, 2) lies towards: (n, M) int64."""
        return _angular_bins(x.unsqueeze(1) - self.centers, self.n_bins)


def _angular_bins(offset: Tensor, n_bins: int) -> Tensor:
    """Which of `n_bins` equal sectors, from angle 0 on, the first two of offset (n, M, 2+) point to: (n, M) int64."""
    turns = torch.atan2(offset[..., 1], offset[..., 0]) / (2 * math.pi) % 1
    return (turns * n_bins).long().clamp(max=n_bins - 1)  # -1e-9 % 1 rounds to 1
