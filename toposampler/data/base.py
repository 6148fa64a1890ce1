"""What every data set offers: points, the component each belongs to, the components' true masses, the geometry."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor

from toposampler.config import Section, Seed
from toposampler.data.rows import Rows
from toposampler.data.transform import Standardization, standardization_of
from toposampler.errors import UserError
from toposampler.files import local_path

LARGEST = 1e4
"""of the radii, distances and deviations of data that are drawn: float32 tells points of it apart to a thousandth"""


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
    """A data set in memory, or a part of one that is not."""

    x: Tensor
    """(N, *shape) float32, what networks are trained on; images are (N, C, H, W) in [-1, 1]"""
    labels: Tensor | None = None
    """(N,) int64 in [0, M): the component each point belongs to"""
    weights: Tensor | None = None
    """(M,) float64, sums to 1: the true mass of each component"""
    manifold: Manifold | None = None
    """the exact support, in the user's units, where it is known"""
    transform: Standardization | None = None
    """how `x` was made from points in the user's units; None: these are the same"""
    notes: tuple[str, ...] = ()
    """what was read, what was left out, and warnings: a line each, for the user"""
    source: str | None = None
    """the digest, where `x` alone does not say it: that of the data before they were standardized, or of all `rows`"""
    rows: Rows | None = None
    """all of the data, where training reads them as they are needed; `x` and `labels` are then a part of them, which
    evaluation, figures and classifiers see, and `weights` the masses of all"""

    def __len__(self) -> int:
        """The number of samples that are trained on."""
        return len(self.x) if self.rows is None else len(self.rows)

    @property
    def all_labels(self) -> Tensor | None:
        """(N,) int64: of all samples that are trained on."""
        return self.labels if self.rows is None else self.rows.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (d,) for points, (C, H, W) for images."""
        return tuple(self.x.shape[1:])

    def to_units(self, x: Tensor) -> Tensor:
        """Points (n, *shape), such as networks are trained on and make, in the user's units."""
        return x if self.transform is None else self.transform.to_units(x)

    def from_units(self, x: Tensor) -> Tensor:
        """Points (n, *shape) in the user's units as networks see them, of the type and on the device of `self.x`."""
        return (x if self.transform is None else self.transform.from_units(x)).to(self.x)

    def without_mean(self, x: Tensor) -> Tensor:
        """Points (n, *shape), such as networks see, in the user's units less their mean: for distances."""
        return x if self.transform is None else self.transform.without_mean(x)

    def digest(self) -> str:
        """SHA-256 of points and labels: a run is resumed only with the data it was begun with.

        Standardizing the data does not change it.
        """
        if self.source is not None:
            return self.source
        sha = hashlib.sha256(repr(self.x.shape).encode())
        for tensor in (self.x, self.labels):
            if tensor is not None:
                sha.update(tensor.flatten().numpy().data)  # read where it lies, not copied
        return sha.hexdigest()


def standardized(dataset: Dataset, transform: Standardization, notes: tuple[str, ...] = ()) -> Dataset:
    """`dataset`, whose points x (N, d) are in the user's units, float32 or float64, in those of `transform`.

    Its digest is that of the float32 points, as it is without standardizing; of x where float32 cannot hold them.
    """
    single = dataset.x.float()
    plain = dataset if transform.merged.any() or single.isinf().any() else replace(dataset, x=single)
    x = transform.from_units(dataset.x)
    return replace(dataset, x=x, transform=transform, notes=dataset.notes + notes, source=plain.digest())


class DataConfig(Section):
    """Base of every data section: `name` picks the data set, `load()` makes the data."""

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


class PointsConfig(SyntheticConfig):
    """Base of points that are drawn, in the units of their paper."""

    standardize: bool = False
    """train on points with mean 0 and standard deviation 1 in each column; samples have the data's units in any case"""

    def drawn(self, dataset: Dataset) -> Dataset:
        """`dataset` as it is asked for: as it was drawn, or standardized."""
        return standardized(dataset, standardization_of(dataset.x.numpy())) if self.standardize else dataset


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
