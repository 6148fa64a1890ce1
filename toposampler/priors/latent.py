"""Where z comes from."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from toposampler.config import Section
from toposampler.priors.streams import Source, integers, normal, uniform


class LatentConfig(Section):
    """The distribution of the generators' input."""

    kind: Literal["uniform", "normal", "sphere", "mixture"] = "uniform"
    """uniform on (-1, 1), or standard normal, in each dimension; uniform on the sphere of radius sqrt(dim) (Karras et
    al. 2018); or an equal mixture of standard normals, a latent space in pieces"""
    dim: int = Field(8, ge=1, le=65_536)
    """number of dimensions of z (the paper: 100; few dimensions overshoot the ends of a manifold less)"""
    components: int = Field(2, ge=2, le=10_000)
    """normals of a mixture, their means on a ring in the first two dimensions (two: on a line); other kinds: unused"""
    separation: float = Field(8.0, ge=0)
    """distance between neighboring means of a mixture, in standard deviations; other kinds: unused"""

    @model_validator(mode="after")
    def _means_have_room(self) -> Self:
        if self.kind == "mixture" and self.components > 2 and self.dim < 2:
            raise ValueError(f"the means of {self.components} components lie on a ring: dim must be at least 2")
        return self

    def draw(self, size: tuple[int, ...], rng: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        """Latents (*size, dim) on the device of `rng`, or (P, *size, dim) of several runs."""
        shape = (*size, self.dim)
        if self.kind == "uniform":
            return uniform(shape, rng, dtype) * 2 - 1
        z = normal(shape, rng, dtype)
        if self.kind == "sphere":
            return math.sqrt(self.dim) * torch.nn.functional.normalize(z, dim=-1)
        if self.kind == "mixture":
            component = integers(self.components, size, rng)
            angle = 2 * math.pi / self.components * component.to(dtype)
            ring = torch.stack((angle.cos(), angle.sin()), dim=-1)[..., : self.dim]
            z[..., :2] += self.separation / (2 * math.sin(math.pi / self.components)) * ring
        return z
