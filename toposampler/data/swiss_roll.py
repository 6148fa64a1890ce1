"""A Swiss roll: one connected surface in space, whose turns are close to each other (scikit-learn's)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from toposampler.data.base import Dataset, PointsConfig

FROM, TO, HEIGHT = 1.5 * math.pi, 4.5 * math.pi, 21.0
"""angles at which the roll starts and ends, and its height, as in scikit-learn"""
SCALE = 7.0
"""what scikit-learn's coordinates are divided by: the turns are .9 apart, and the roll is 4 wide and 3 high"""
PIECES = 2000
"""straight pieces that distances to the spiral are measured from: they are .000006 off it at most, r dt^2 / 8"""
AT_ONCE = 4096
"""points whose distances to all pieces are in memory at once"""


@dataclass
class Roll:
    """The surface, as one component: 10 parts of its angle, each cut in 5 by height, hold equal mass."""

    n_bins: int = 50

    def distance(self, x: Tensor) -> Tensor:
        """Distance from each point of x (n, 3) to the surface: (n, 1)."""
        height = (x[:, 1].abs() - HEIGHT / SCALE / 2).clamp(min=0)
        return torch.hypot(self._nearest(x)[0], height)[:, None]

    def bins(self, x: Tensor) -> Tensor:
        """The part of the surface that the nearest point to each point of x (n, 3) is in: (n, 1) int64."""
        along = (self._nearest(x)[1] * 10).long().clamp(max=9)
        up = ((x[:, 1] / (HEIGHT / SCALE) + 0.5) * 5).long().clamp(0, 4)
        return (along * 5 + up)[:, None]

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distance (n,) of x (n, 3), seen from above, to the spiral, and the place of the nearest point, 0 to 1."""
        ends = spiral(torch.linspace(FROM, TO, PIECES + 1, dtype=x.dtype, device=x.device))
        starts, along = ends[:-1], ends[1:] - ends[:-1]
        found = []
        for part in x[:, [0, 2]].split(AT_ONCE):
            offset = part[:, None] - starts
            share = ((offset * along).sum(2) / along.square().sum(1)).clamp(0, 1)
            distance, piece = torch.linalg.vector_norm(offset - share[:, :, None] * along, dim=2).min(dim=1)
            found.append((distance, (piece + share.gather(1, piece[:, None])[:, 0]) / PIECES))
        return torch.cat([d for d, _ in found]), torch.cat([place for _, place in found])


def spiral(angle: Tensor) -> Tensor:
    """The points (n, 2) of the roll, seen from above, at angles (n,)."""
    return (angle / SCALE)[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1)


class SwissRollConfig(PointsConfig):
    """Points on a Swiss roll, which are one component: uniform by angle and by height."""

    name: Literal["swiss_roll"] = "swiss_roll"

    def load(self) -> Dataset:
        """Draw the points."""
        rng = torch.Generator().manual_seed(self.seed)
        u, v = torch.rand(2, self.n, generator=rng)
        flat = spiral(FROM + (TO - FROM) * u)
        x = torch.stack((flat[:, 0], HEIGHT / SCALE * (v - 0.5), flat[:, 1]), dim=1)
        labels, weights = torch.zeros(self.n, dtype=torch.long), torch.ones(1, dtype=torch.float64)
        return self.drawn(Dataset(x, labels, weights, Roll()))
