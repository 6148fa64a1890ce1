"""What a point cloud must be, checked once."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Points = TypeVar("Points", Tensor, NDArray)


def as_points(x: Tensor) -> Tensor:
    """x (n, d) or (b, n, d), n >= 2, in float32 or float64: lower precisions are widened, nothing else is changed.

    Raises:
        ValueError: x is of another shape or not of floating point.
    """
    if x.dim() not in (2, 3) or 0 in x.shape:
        raise ValueError(f"expected points of shape (n, d) or (b, n, d), got {tuple(x.shape)}")
    if x.shape[-2] < 2:
        raise ValueError(f"expected at least 2 points, got {x.shape[-2]}")
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point coordinates, got {x.dtype}")
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Points) -> Points:
    """Points in float32 or float64 times the power of two that brings their largest coordinate to [1/2, 1).

    That is exact, and leaves no square that could overflow.

    Raises:
        ValueError: coordinates are NaN or infinite.
    """
    largest = float(abs(x).max())
    if not math.isfinite(largest):
        refuse_not_finite(torch.as_tensor(x))
    least = torch.finfo(torch.float32 if x.itemsize == 4 else torch.float64).tiny
    return x * 2.0 ** -math.frexp(max(largest, least))[1]


def refuse_not_finite(x: Tensor) -> None:
    """Raises ValueError if coordinates are NaN or infinite."""
    if bad := int((~x.isfinite()).sum()):
        raise ValueError(f"{bad} of {x.numel()} coordinates are NaN or infinite")


def unit_on_device(x: Tensor) -> Tensor:
    """As `unit` of each cloud of x (..., n, d), nothing read back: what is not finite is scaled anyhow."""
    largest = x.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return torch.ldexp(x, -torch.frexp(largest).exponent)
