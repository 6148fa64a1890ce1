"""Two separate circles: apart (the authors' program of Khayatkhoei et al. 2018, arXiv 1806.00880), or nested."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import field_validator

from toposampler.data.base import Dataset, PointsConfig, checked_weights
from toposampler.data.components import draw_components
from toposampler.data.geometry import Spheres

CENTERS = {"apart": torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), "nested": torch.zeros(2, 2)}
RADII = {"apart": torch.ones(2), "nested": torch.tensor([1.0, 2.0])}


class CirclesConfig(PointsConfig):
    """Points spread evenly over each of two circles: left and right, or the inner and the outer one."""

    name: Literal["circles"] = "circles"
    layout: Literal["apart", "nested"] = "apart"
    """apart: unit circles, their centers 4 apart; nested: of radius 1 and 2 around the origin"""
    weights: tuple[float, ...] | None = None
    """mass of each circle, summing to 1 (default: equal)"""

    @field_validator("weights")
    @classmethod
    def _weights_are_masses(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        checked_weights(weights, 2)
        return weights

    def load(self) -> Dataset:
        """Draw the points."""
        generator = torch.Generator().manual_seed(self.seed)
        centers, radii = CENTERS[self.layout], RADII[self.layout]
        labels, weights = draw_components(self.n, self.weights, 2, generator)
        angle = 2 * math.pi * torch.rand(self.n, generator=generator)
        x = centers[labels] + radii[labels, None] * torch.stack((angle.cos(), angle.sin()), dim=1)
        return self.drawn(Dataset(x, labels, weights, Spheres(centers, radii)))
