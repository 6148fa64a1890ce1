"""The latent space of each generator: which component it reaches from where, and how much it stretches on the way.

A continuous generator maps a connected latent space to a connected set. Where it serves two components, a seam runs
through its latent space on which it must stretch without bound: here the latent space is seen to tear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.metrics.findings import Assignment
from toposampler.metrics.neighbors import nearest_neighbors
from toposampler.systems import System

GENERATORS, SIDE, SIDE_IMAGES = 6, 40, 16
"""generators that are mapped, at most, and cells of a side of the map: of points, and of images"""
REACH = 2.5
"""the map's half side, in standard deviations, where z is not uniform on (-1, 1)"""


@dataclass(frozen=True)
class TearMap:
    """One generator's latent plane: z1 and z2 vary, all other coordinates are 0."""

    generator: int
    components: NDArray
    """(side, side) int64: of the nearest real point; rows are z2, from below"""
    stretch: NDArray
    """(side, side) float64: the larger of |G(z + h e) - G(z)| / |h| over both directions e, h the side of a cell, in
    units that networks see"""


@torch.no_grad()
def tear_maps(
    system: System, dataset: Dataset, generators: list[int], found: Assignment
) -> tuple[float, list[TearMap]]:
    """Half the side of the maps, and those of the first `GENERATORS` of `generators`, with averaged weights in place.

    None are made of latents of one dimension.
    """
    latent = system.latent
    reach = 1.0 if latent.kind == "uniform" else REACH
    if latent.dim < 2:
        return reach, []
    side = SIDE if len(dataset.shape) == 1 else SIDE_IMAGES
    parameter = next(system.parameters())
    at = torch.linspace(-reach, reach, side + 1, dtype=parameter.dtype, device=parameter.device)
    z = torch.zeros((side + 1) ** 2, latent.dim, dtype=at.dtype, device=at.device)
    z[:, 0], z[:, 1] = at.repeat(side + 1), at.repeat_interleave(side + 1)
    rng = torch.Generator(parameter.device).manual_seed(0)
    noise = {name: x[0, :1].expand(len(z), *x.shape[2:]) for name, x in system.draw(1, 2, rng).items()}
    maps = []
    for k in generators[:GENERATORS]:
        x = system.generate({**noise, "z": z, "c": torch.full((len(z),), k)}).float().cpu().flatten(1)
        if torch.isfinite(x).all():
            maps.append(_map(k, x, side, 2 * reach / side, found))
    return reach, maps


def _map(k: int, x: Tensor, side: int, h: float, found: Assignment) -> TearMap:
    """Of generator k, which makes x ((side + 1)^2, d) of the corners of cells of side `h`."""
    _, index = nearest_neighbors(x, found.real[:2000], k=1)
    components = found.real_components[index[:, 0]].view(side + 1, side + 1)[:-1, :-1]
    grid = x.double().view(side + 1, side + 1, -1)
    right, up = grid[:-1, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, :-1]
    stretch = torch.maximum(right.norm(dim=-1), up.norm(dim=-1)) / h
    return TearMap(k, np.asarray(components), np.asarray(stretch))
