"""Four separate line segments in the plane (Khayatkhoei et al. 2018, arXiv 1806.00880, section 4)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import field_validator

from toposampler.data.base import Dataset, PointsConfig, checked_weights
from toposampler.data.components import draw_components
from toposampler.data.geometry import Segments

# (u, 1-u), (-u, u-1), (u, u-1), (-u, 1-u) for u in [1/4, 3/4]: top right, bottom left, bottom right, top left
STARTS = torch.tensor([[0.25, 0.75], [-0.25, -0.75], [0.25, -0.75], [-0.25, 0.75]])
ENDS = torch.tensor([[0.75, 0.25], [-0.75, -0.25], [0.75, -0.25], [-0.75, 0.25]])


class LinesConfig(PointsConfig):
    """Points spread evenly over four segments: top right, bottom left, bottom right, top left."""

    name: Literal["lines"] = "lines"
    weights: tuple[float, ...] | None = None
    """mass of each segment, summing to 1 (default: equal; the paper's unbalanced data: 0.7, 0.1, 0.1, 0.1)"""

    @field_validator("weights")
    @classmethod
    def _weights_are_masses(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        checked_weights(weights, len(STARTS))
        return weights

    def load(self) -> Dataset:
        """Draw the points."""
        generator = torch.Generator().manual_seed(self.seed)
        labels, weights = draw_components(self.n, self.weights, len(STARTS), generator)
        t = torch.rand(self.n, 1, generator=generator)
        x = torch.lerp(STARTS[labels], ENDS[labels], t)
        return self.drawn(Dataset(x, labels, weights, Segments(STARTS, ENDS)))
