"""The exact supports of the synthetic data: segments, circles and discs in the plane."""

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
class Circles:
    """M circles of one radius; the bins of a circle are equal arcs."""

    centres: Tensor
    """(M, 2)"""
    radius: float
    n_bins: int = 50

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, 2) to each circle: (n, M)."""
        return (torch.linalg.vector_norm(x.unsqueeze(1) - self.centres, dim=2) - self.radius).abs()

    def bins(self, x: Tensor) -> Tensor:
        """Arc of each circle that each point of x (n, 2) projects to: (n, M) int64."""
        return _angular_bins(x.unsqueeze(1) - self.centres, self.n_bins)


@dataclass
class Discs:
    """M full discs of one radius; the bins of a disc are equal sectors."""

    centres: Tensor
    """(M, 2)"""
    radius: float
    n_bins: int = 8

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, 2) to each disc, 0 inside: (n, M)."""
        return (torch.linalg.vector_norm(x.unsqueeze(1) - self.centres, dim=2) - self.radius).clamp(min=0)

    def bins(self, x: Tensor) -> Tensor:
        """Sector of each disc that each point of x (n, 2) lies towards: (n, M) int64."""
        return _angular_bins(x.unsqueeze(1) - self.centres, self.n_bins)


def _angular_bins(offset: Tensor, n_bins: int) -> Tensor:
    """Which of `n_bins` equal sectors, from angle 0 on, offset (n, M, 2) points into: (n, M) int64."""
    turns = torch.atan2(offset[..., 1], offset[..., 0]) / (2 * math.pi) % 1
    return (turns * n_bins).long().clamp(max=n_bins - 1)  # -1e-9 % 1 rounds to 1
