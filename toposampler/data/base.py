"""What every data set offers: points, the component each belongs to, the components' true masses, the geometry."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor

from toposampler.config import Section, Seed
from toposampler.errors import UserError
from toposampler.files import local_path


class Manifold(Protocol):
    """The exact support of a data distribution, as M components, each cut into bins of equal mass."""

    n_bins: int
    """bins per component"""

    def distance(self, x: Tensor) -> Tensor:
        """Distance (data units) from each point of x (n, d) to each component: (n, M)."""
        ...

    def bins(self, x: Tensor) -> Tensor:
        """For each point of x (n, d) and component, the bin its projection falls in: (n, M) int64 in [0, n_bins)."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    x: Tensor
    """(N, *shape) float32; images are (N, C, H, W) in [-1, 1]"""
    labels: Tensor | None = None
    """(N,) int64 in [0, M): the component each point belongs to"""
    weights: Tensor | None = None
    """(M,) float64, sums to 1: the true mass of each component"""
    manifold: Manifold | None = None
    """the exact support, where it is known"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (d,) for points, (C, H, W) for images."""
        return tuple(self.x.shape[1:])

    def digest(self) -> str:
        """SHA-256 of points and labels: a run goes on only with the data it was begun with."""
        sha = hashlib.sha256(repr(self.x.shape).encode())
        for tensor in (self.x, self.labels):
            if tensor is not None:
                sha.update(tensor.flatten().numpy().data)  # read where it lies, not copied
        return sha.hexdigest()


class DataConfig(Section):
    """Base of every data section: `name` picks the page, `load()` makes the data."""

    name: str
    """which data"""

    @field_validator("*")
    @classmethod
    def _paths_are_local(cls, value: Any) -> Any:
        return Path(local_path(str(value))) if isinstance(value, Path) else value

    @abstractmethod
    def load(self) -> Dataset:
        """Make or read the data set. Raises UserError if what was given cannot be used."""


class SyntheticConfig(DataConfig):
    """Base of data that is drawn, not read."""

    n: int = Field(50_000, ge=2, le=10**8)
    """points to draw"""
    seed: Seed = 0
    """seed the data is drawn with (not the run's seed: every run sees the same data)"""


def checked_weights(weights: tuple[float, ...] | None, n_components: int) -> tuple[float, ...]:
    """Masses of `n_components` components; None means equal masses. Raises ValueError if they are not masses."""
    if weights is None:
        return (1.0 / n_components,) * n_components
    if len(weights) != n_components:
        raise ValueError(f"needs {n_components} weights, one per component, got {len(weights)}")
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights must be non-negative and sum to 1, got {list(weights)} with sum {sum(weights):g}")
    return weights


def checked_points(x: Tensor, source: str) -> Tensor:
    """`x` if it can be trained on. Raises UserError, naming `source`, if it is empty or not finite."""
    if len(x) < 2:
        raise UserError(f"{source} holds {len(x)} samples; at least 2 are needed")
    bad = ~torch.isfinite(x.flatten(1)).all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise UserError(f"{source} has NaN or infinite values in {int(bad.sum())} samples, the first at index {first}")
    return x
