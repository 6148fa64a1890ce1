"""What a point cloud must be, checked once."""

from __future__ import annotations

import torch
from torch import Tensor


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
