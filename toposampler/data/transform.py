"""Points with columns of any scale and offset, brought to mean 0 and standard deviation 1, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CONSTANT = 8 * float(np.finfo(np.float64).eps)
"""extent of a column, as a share of its largest magnitude, up to which it is constant: what rounding leaves"""
COARSE = 100.0
"""|mean| / scale above which float32, of 7 digits, is too coarse for a column in the user's units"""
SPACINGS = 100
"""standard deviation of a column, in spacings of float32 at its mean, below which float32 cannot tell points apart"""
LEAST, MOST = 1e-30, 1e30
"""magnitudes between which float32 has its full precision, with room for samples beyond the data"""


@dataclass(frozen=True)
class Standardization:
    """z = (x - mean) / scale for each column; x in the user's units, z what networks are trained on.

    A constant column has scale 0: it is divided by 1, so that z is 0, and comes back as the constant exactly.
    """

    mean: Tensor
    """(d,) float64, in the user's units"""
    scale: Tensor
    """(d,) float64: the standard deviation of each column, in the user's units; 0: it is constant"""

    @property
    def dtype(self) -> torch.dtype:
        """Of points in the user's units: float32, or float64 where float32 is too coarse for a column or overflows."""
        varies = self.scale > 0
        mean, scale = self.mean.abs(), self.scale
        largest = mean + 100 * scale
        fits = ((mean <= COARSE * scale) & (scale >= LEAST) | ~varies).all() and (largest <= MOST).all()
        return torch.float32 if fits else torch.float64

    @property
    def merged(self) -> Tensor:
        """(d,) bool: whether float32, in the user's units, cannot tell the values of a column apart."""
        spacing = self.mean.abs() * torch.finfo(torch.float32).eps
        return (self.scale > 0) & ((self.scale < SPACINGS * spacing) | (self.scale < LEAST))

    def from_units(self, x: Tensor) -> Tensor:
        """z (n, d) float32 of points x (n, d) in the user's units."""
        mean, scale = self.mean.to(x.device), self.scale.to(x.device)
        half = mean / 2  # x - mean overflows where both are near the largest float64
        return (2 * ((x.double() / 2 - half) / torch.where(scale > 0, scale, 1.0))).float()

    def to_units(self, z: Tensor) -> Tensor:
        """x (n, d) in the user's units, of `dtype`, of points z (n, d)."""
        return (z.double() * self.scale.to(z.device) + self.mean.to(z.device)).to(self.dtype)

    def without_mean(self, z: Tensor) -> Tensor:
        """x - mean (n, d) float64 of points z (n, d): distances in the user's units, where x itself has few digits."""
        return z.double() * self.scale.to(z.device)

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, for a checkpoint or a model directory."""
        return {"mean": self.mean, "scale": self.scale}


def standardization_of(x: np.ndarray) -> Standardization:
    """Mean and standard deviation, (d,) float64, of each column of finite points x (n, d) of any type.

    Columns are divided by their largest magnitude first, so that neither 1e300 nor 1e-300 is lost when it is squared.
    """
    x = x.astype(np.float64)
    largest = np.abs(x).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    y = x / unit
    constant = y.max(axis=0) - y.min(axis=0) <= CONSTANT
    center = y.mean(axis=0)
    center = np.where(constant, y[0], center + (y - center).mean(axis=0))  # twice, for large offsets
    scale = np.where(constant, 0.0, np.sqrt(np.square(y - center).mean(axis=0)))
    mean = np.where(constant, x[0], center * unit)
    return Standardization(torch.from_numpy(mean), torch.from_numpy(scale * unit))


def standardization_from(state: Mapping[str, Tensor] | None) -> Standardization | None:
    """What `Standardization.state` gave; None: none. Raises ValueError if it is not two columns of finite numbers."""
    if state is None:
        return None
    mean, scale = state["mean"], state["scale"]
    if mean.dim() != 1 or mean.shape != scale.shape or mean.dtype != torch.float64 or scale.dtype != torch.float64:
        raise ValueError(f"transform: mean and scale must be float64 of one length, got {mean.shape} and {scale.shape}")
    if not (torch.isfinite(mean).all() and torch.isfinite(scale).all() and (scale >= 0).all()):
        raise ValueError("transform: mean and scale must be finite, and scale not negative")
    return Standardization(mean, scale)
