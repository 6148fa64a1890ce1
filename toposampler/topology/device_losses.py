"""The signature loss of batches of clouds in torch, nothing read back: it can be part of a graph on a GPU.

Run on CPU tensors by the tests, against the compiled loops; not yet run on a GPU.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from toposampler.topology.boruvka import minimum_tree_on_device
from toposampler.topology.points import unit_on_device


@torch.no_grad()
def unpaired_on_device(x: Tensor, y: Tensor, longest: int, by_x: bool, by_y: bool) -> list[Tensor]:
    """The loss (...) of clouds x (..., n, d) and y (..., m, e), `longest` bars of each or 0: all, and its gradients by
    x and y, (0,) where not needed. NaN where a coordinate is not finite."""
    batch = x.shape[:-2]
    sides = [_Deaths(cloud.reshape(-1, *cloud.shape[-2:])) for cloud in (x, y)]
    finite = sides[0].finite & sides[1].finite
    a, b = (side.ascending[:, -longest:] for side in sides)  # 0: all of them
    i, j, mass = _transport(a.shape[1], b.shape[1], x.device, x.dtype)
    difference = a[:, i] - b[:, j]
    loss = torch.where(finite, (mass * difference.square()).sum(1), torch.nan)
    results = [loss.view(batch)]
    for side, part, by, needed in ((sides[0], i, 2.0, by_x), (sides[1], j, -2.0, by_y)):
        results.append(side.pull(part, by * mass * difference, longest, finite) if needed else x.new_empty(0))
    return [results[0], *(g.view_as(cloud) if g.numel() else g for g, cloud in zip(results[1:], (x, y), strict=True))]


class _Deaths:
    """The lengths of the trees of clouds (b, n, d), and how they change with the points."""

    def __init__(self, clouds: Tensor) -> None:
        self.finite = clouds.isfinite().flatten(1).all(1)
        safe = torch.where(self.finite[:, None, None], clouds, 0)
        scaled = unit_on_device(safe)  # squares neither overflow nor vanish
        largest = safe.abs().amax(dim=(1, 2)).clamp(min=torch.finfo(clouds.dtype).tiny)
        edges = minimum_tree_on_device(scaled)
        self.ends = edges.unbind(2)
        ends = [scaled.gather(1, end[..., None].expand(-1, -1, clouds.shape[2])) for end in self.ends]
        difference = ends[0] - ends[1]
        lengths = torch.linalg.vector_norm(difference, dim=2)
        self.directions = difference / lengths.clamp_min(torch.finfo(clouds.dtype).tiny)[..., None]
        own = torch.ldexp(lengths, torch.frexp(largest).exponent[:, None])
        self.ascending, self.order = own.sort(dim=1, stable=True)
        self.n = clouds.shape[1]

    def pull(self, part: Tensor, by: Tensor, longest: int, finite: Tensor) -> Tensor:
        """The gradient by the points, given that by each piece (b, pieces) of the transport, of which `part` names the
        sorted length."""
        n_bars = self.ascending.shape[1]
        first = n_bars - longest if longest else 0
        sorted_by = torch.zeros_like(self.ascending).index_add_(1, part + first, by)
        by_length = torch.zeros_like(sorted_by).scatter_(1, self.order, sorted_by)
        pull = self.directions * by_length[..., None]
        out = pull.new_zeros(len(pull), self.n, pull.shape[2])
        for end, sign in zip(self.ends, (1, -1), strict=True):
            out.scatter_add_(1, end[..., None].expand_as(pull), sign * pull)
        return torch.where(finite[:, None, None], out, torch.nan)


@lru_cache(maxsize=64)
def _transport(n: int, m: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The monotone transport of n equal masses to m: from which, to which, how much (their sum is 1). Made on the CPU
    once for each n and m: nothing may be sent to the device while a graph is captured."""
    cuts = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]))  # in units of 1 / (n m)
    i, j, mass = cuts[:-1] // m, cuts[:-1] // n, np.diff(cuts) / (n * m)
    return torch.from_numpy(i).to(device), torch.from_numpy(j).to(device), torch.from_numpy(mass).to(device, dtype)
