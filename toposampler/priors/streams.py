"""Random numbers of one run, or of several runs that draw together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Streams:
    """The random generators of P runs, all on one device: numbers from them are stacked, (P, *size).

    Each run's numbers are those that its generator gives alone; what is made of them is made for all runs at once.
    """

    generators: Sequence[torch.Generator]

    @property
    def device(self) -> torch.device:
        """Where numbers are drawn."""
        return self.generators[0].device


Source = torch.Generator | Streams
"""where random numbers come from: one run's generator, or those of several"""


def uniform(size: tuple[int, ...], rng: Source, dtype: torch.dtype) -> Tensor:
    """Uniform on [0, 1): (*size,), or (P, *size) of several runs."""
    if isinstance(rng, torch.Generator):
        return torch.rand(size, generator=rng, device=rng.device, dtype=dtype)
    return _stacked(size, rng, dtype, lambda row, own: torch.rand(size, generator=own, out=row))


def normal(size: tuple[int, ...], rng: Source, dtype: torch.dtype) -> Tensor:
    """Standard normal: (*size,), or (P, *size) of several runs."""
    if isinstance(rng, torch.Generator):
        return torch.randn(size, generator=rng, device=rng.device, dtype=dtype)
    return _stacked(size, rng, dtype, lambda row, own: torch.randn(size, generator=own, out=row))


def integers(high: int, size: tuple[int, ...], rng: Source) -> Tensor:
    """Uniform in 0, ..., high - 1: (*size,) int64, or (P, *size) of several runs."""
    if isinstance(rng, torch.Generator):
        return torch.randint(high, size, generator=rng, device=rng.device)
    return _stacked(size, rng, torch.long, lambda row, own: torch.randint(high, size, generator=own, out=row))


def of_runs(size: tuple[int, ...], rng: Source) -> tuple[int, ...]:
    """The size of what is stacked: `size`, or (P, *size) of several runs."""
    return size if isinstance(rng, torch.Generator) else (len(rng.generators), *size)


def _stacked(
    size: tuple[int, ...], rng: Streams, dtype: torch.dtype, fill: Callable[[Tensor, torch.Generator], object]
) -> Tensor:
    found = torch.empty(of_runs(size, rng), dtype=dtype, device=rng.device)
    for row, own in zip(found.unbind(), rng.generators, strict=True):
        fill(row, own)
    return found
