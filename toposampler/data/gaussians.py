"""Narrow Gaussians on a ring or a grid: the mode-dropping benchmark of VEEGAN (Srivastava et al. 2017)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from toposampler.data.base import LARGEST, Dataset, PointsConfig, checked_weights
from toposampler.data.components import draw_components
from toposampler.data.geometry import Discs


class GaussiansConfig(PointsConfig):
    """Isotropic Gaussians in the plane. The support of a mode is its disc of 3 standard deviations.

    That disc is VEEGAN's "high quality"; a perfect sampler puts 1 - exp(-9/2) = 98.9 % of its mass there.
    """

    name: Literal["gaussians"] = "gaussians"
    layout: Literal["ring", "grid"] = "ring"
    """ring: n_modes modes on a circle; grid: side x side modes around the origin"""
    n_modes: int = Field(8, ge=1, le=10_000)
    """modes of the ring"""
    radius: float = Field(2.0, gt=0, le=LARGEST)
    """radius of the ring"""
    side: int = Field(5, ge=1, le=100)
    """modes along a side of the grid"""
    spacing: float = Field(2.0, gt=0, le=LARGEST)
    """distance between neighbors on the grid"""
    sd: float | None = Field(None, gt=0, le=LARGEST)
    """standard deviation of a mode along each axis (default: 0.02 on the ring, 0.05 on the grid)"""
    weights: tuple[float, ...] | None = None
    """mass of each mode, summing to 1 (default: equal)"""

    @field_validator("weights")
    @classmethod
    def _weights_are_masses(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        # A refused key is absent from info.data: its own fault is reported, and its default stands in here.
        checked_weights(weights, len(cls.model_construct(**info.data).centers()))
        return weights

    def centers(self) -> Tensor:
        """Mean of each mode (M, 2): counter-clockwise from angle 0, or column by column from lower left."""
        if self.layout == "ring":
            angle = 2 * math.pi * torch.arange(self.n_modes) / self.n_modes
            return self.radius * torch.stack((angle.cos(), angle.sin()), dim=1)
        axis = self.spacing * (torch.arange(self.side) - (self.side - 1) / 2)
        return torch.cartesian_prod(axis, axis)

    def load(self) -> Dataset:
        """Draw the points."""
        generator = torch.Generator().manual_seed(self.seed)
        centers = self.centers()
        sd = self.sd or {"ring": 0.02, "grid": 0.05}[self.layout]
        labels, weights = draw_components(self.n, self.weights, len(centers), generator)
        x = centers[labels] + sd * torch.randn(self.n, 2, generator=generator)
        return self.drawn(Dataset(x, labels, weights, Discs(centers, radius=3 * sd)))
