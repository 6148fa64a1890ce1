"""Two separate unit circles (the authors' program of Khayatkhoei et al. 2018, arXiv 1806.00880)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import field_validator

from toposampler.data.base import Dataset, PointsConfig, checked_weights
from toposampler.data.components import draw_components
from toposampler.data.geometry import Spheres

CENTRES = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])


class CirclesConfig(PointsConfig):
    """Points spread evenly over two unit circles: left, right."""

    name: Literal["circles"] = "circles"
    weights: tuple[float, ...] | None = None
    """mass of each circle, summing to 1 (default: equal)"""

    @field_validator("weights")
    @classmethod
    def _weights_are_masses(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        checked_weights(weights, len(CENTRES))
        return weights

    def load(self) -> Dataset:
        """Draw the points."""
        generator = torch.Generator().manual_seed(self.seed)
        labels, weights = draw_components(self.n, self.weights, len(CENTRES), generator)
        angle = 2 * math.pi * torch.rand(self.n, generator=generator)
        x = CENTRES[labels] + torch.stack((angle.cos(), angle.sin()), dim=1)
        return self.drawn(Dataset(x, labels, weights, Spheres(CENTRES, torch.ones(2))))
