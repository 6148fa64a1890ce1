"""Separate spheres: two d-spheres apart (Dey and Das 2020), or ten inside an eleventh (Moor et al. 2020)."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from toposampler.data.base import LARGEST, Dataset, PointsConfig, checked_weights
from toposampler.data.components import draw_components
from toposampler.data.geometry import Spheres

MOOR_RADII = (*[5.0] * 10, 25.0)
MOOR_WEIGHTS = (*[1 / 20] * 10, 1 / 2)


class SpheresConfig(PointsConfig):
    """Points uniform on each of several spheres of one dimension d, in d + 1 dimensions.

    `line` is the target of TopoSampler: spheres of one size in a row, along the first axis and around the origin.
    `moor` is that of Topological Autoencoders (arXiv 1906.00722) with d = 100: ten spheres of radius 5, a twentieth
    of the points on each, and the rest on one of radius 25 around the origin, which encloses them. As in the authors'
    code (datasets/topo_dataset/spheres.py) the ten centers are N(0, 100 / d) per coordinate, N(0, 1) for their d;
    `seed` draws them too.
    """

    name: Literal["spheres"] = "spheres"
    layout: Literal["line", "moor"] = "line"
    """line: `number` equal spheres in a row; moor: ten spheres inside an eleventh, whose sizes are the paper's"""
    dimension: int = Field(2, ge=1, le=10_000)
    """dimension d of each sphere, one less than the data's: 1 is a circle in the plane, 2 a sphere in space"""
    number: int = Field(2, ge=1, le=1000)
    """spheres in the line"""
    radius: float = Field(1.0, gt=0, le=LARGEST)
    """radius of a sphere of the line"""
    distance: float = Field(4.0, gt=0, le=LARGEST)
    """distance between the centers of neighbors in the line"""
    weights: tuple[float, ...] | None = None
    """mass of each sphere, summing to 1 (default: equal; moor: 1/20 each of the ten, 1/2 the last)"""

    @field_validator("weights")
    @classmethod
    def _weights_are_masses(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        # A refused key is absent from info.data: its own fault is reported, and its default stands in here.
        checked_weights(weights, len(cls.model_construct(**info.data).radii()))
        return weights

    @model_validator(mode="after")
    def _spheres_are_apart(self) -> Self:
        centers, radii = self.centers(torch.Generator().manual_seed(self.seed)), self.radii()
        between = torch.cdist(centers, centers)
        touch = (between <= radii + radii[:, None]) & (between >= (radii - radii[:, None]).abs())
        for i, j in touch.triu(1).nonzero().tolist():
            raise ValueError(
                f"spheres {i} and {j} touch: their centers are {between[i, j]:g} apart and their radii are "
                f"{radii[i]:g} and {radii[j]:g}; "
                + ("raise distance" if self.layout == "line" else "raise dimension or try another seed")
            )
        return self

    def radii(self) -> Tensor:
        """Radius of each sphere: (M,)."""
        return torch.tensor(MOOR_RADII) if self.layout == "moor" else torch.full((self.number,), self.radius)

    def centers(self, generator: torch.Generator) -> Tensor:
        """Center of each sphere, (M, d + 1): from left to right, or drawn from `generator`, the enclosing one last."""
        radii = self.radii()
        centers = torch.zeros(len(radii), self.dimension + 1)
        if self.layout == "moor":
            centers[:-1] = 10 / self.dimension**0.5 * torch.randn(centers[:-1].shape, generator=generator)
        else:
            centers[:, 0] = self.distance * (torch.arange(self.number) - (self.number - 1) / 2)
        return centers

    def load(self) -> Dataset:
        """Draw the points."""
        generator = torch.Generator().manual_seed(self.seed)
        centers, radii = self.centers(generator), self.radii()
        masses = MOOR_WEIGHTS if self.weights is None and self.layout == "moor" else self.weights
        labels, weights = draw_components(self.n, masses, len(radii), generator)
        direction = torch.nn.functional.normalize(torch.randn(self.n, self.dimension + 1, generator=generator))
        x = centers[labels] + radii[labels, None] * direction
        return self.drawn(Dataset(x, labels, weights, Spheres(centers, radii)))
