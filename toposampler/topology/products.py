"""All squared distances between two sets of points as one matrix product, into memory that is kept."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

_kept = threading.local()


def squared_distances(x: NDArray, y: NDArray) -> tuple[NDArray, float]:
    """|x_i - y_j|^2 for x (n, d) and y (m, d), coordinates of size up to 1.

    Returns the matrix (n, m) and a bound on the absolute error of its entries; small ones may be negative. The matrix
    is this thread's workspace (fresh pages would cost as much as the product): it holds until the next call.
    """
    d = x.shape[1]
    center = y.mean(0)
    left, right = (torch.from_numpy(points).new_empty(len(points), d + 2) for points in (x, y))
    number = x.dtype.type
    left_largest = _write_centered(x, center, number(-2), left.numpy(), d, d + 1)
    right_largest = _write_centered(y, center, number(1), right.numpy(), d + 1, d)
    out = _workspace(len(x), len(y), right.dtype)
    torch.mm(left, right.T, out=out)  # autocast leaves products into given memory alone
    # Measured on normal, uniform, sparse and clustered points, d from 4 to 12288: at most 3 + 1.2 sqrt(d) units.
    return out.numpy(), 2 * (4 + math.sqrt(d)) * float(np.finfo(x.dtype).eps) * max(left_largest, right_largest)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _write_centered(x, center, factor, out, norms, ones):  # type: ignore[no-untyped-def]
    """Writes factor * (x - center) to the first d of d + 2 columns, |x - center|^2 and 1 to those named.

    So squared norms take part in the product. Returns the largest of them.
    """
    n, d = x.shape
    largest = 0.0
    for i in range(n):
        total = factor - factor  # 0 of this type
        for k in range(d):
            coordinate = x[i, k] - center[k]
            total += coordinate * coordinate
            out[i, k] = factor * coordinate
        out[i, norms], out[i, ones] = total, 1
        largest = max(largest, total)
    return largest


def _workspace(n: int, m: int, dtype: torch.dtype) -> Tensor:
    kept = getattr(_kept, "memory", None)
    if kept is None or kept.numel() < n * m * dtype.itemsize:
        kept = _kept.memory = torch.empty(n * m * dtype.itemsize, dtype=torch.uint8)  # aligned: numpy's is not
    return kept[: n * m * dtype.itemsize].view(dtype).view(n, m)
