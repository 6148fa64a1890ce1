"""Where z comes from."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section


class LatentConfig(Section):
    """The distribution of the generators' input."""

    kind: Literal["uniform", "normal"] = "uniform"
    """uniform on (-1, 1), or standard normal, in each dimension"""
    dim: int = Field(8, ge=1)
    """number of dimensions of z (the paper: 100; few dimensions overshoot the ends of a manifold less)"""

    def draw(self, size: tuple[int, ...], rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Latents (*size, dim) on the device of `rng`."""
        shape = (*size, self.dim)
        if self.kind == "normal":
            return torch.randn(shape, generator=rng, device=rng.device, dtype=dtype)
        return torch.rand(shape, generator=rng, device=rng.device, dtype=dtype) * 2 - 1
