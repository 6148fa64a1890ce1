"""Distances of features by kernels: the KID, and the form of the CMMD."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from toposampler.metrics.neighbors import BLOCK

CMMD_BANDWIDTH, CMMD_SCALE = 10.0, 1000.0
"""sigma of the Gaussian kernel on features of length 1, and the factor of the result (Jayasumana et al. 2024)"""


def kid(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy of features x (n, d) and y (m, d) by the kernel (a b / d + 1)^3.

    The U-statistic, of 2 points or more: 0 on average for equal distributions, so it can be negative. With Inception's
    pool features it is the kernel inception distance (Binkowski et al. 2018, arXiv 1801.01401), of all points at once
    where others take the mean over subsets of 1,000, which has the same expectation and a greater variance.
    """

    def total(a: Tensor, b: Tensor) -> float:
        return _total(a, b, lambda inner: (inner / a.shape[1] + 1) ** 3)

    def own(a: Tensor) -> float:
        return total(a, a) - float(((a.square().sum(dim=1) / a.shape[1] + 1) ** 3).sum())

    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    return own(x) / (n * (n - 1)) + own(y) / (m * (m - 1)) - 2 * total(x, y) / (n * m)


def cmmd_form(x: Tensor, y: Tensor) -> float:
    """1,000 times the squared maximum mean discrepancy of features x (n, d) and y (m, d), brought to length 1, by a
    Gaussian kernel of bandwidth 10.

    The V-statistic, which is never negative. With CLIP's embeddings it is the CMMD (Jayasumana et al. 2024, arXiv
    2401.09603); with others it has its form only: name the features.
    """

    def mean(a: Tensor, b: Tensor) -> float:
        return _total(a, b, lambda inner: ((inner - 1) / CMMD_BANDWIDTH**2).exp()) / (len(a) * len(b))

    x, y = (torch.nn.functional.normalize(features.double(), dim=1) for features in (x, y))
    return CMMD_SCALE * max(0.0, mean(x, x) + mean(y, y) - 2 * mean(x, y))  # rounding can leave -1e-16


def _total(a: Tensor, b: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    """The sum of `kernel`, a function of inner products, over all pairs of a (n, d) and b (m, d)."""
    parts = (kernel(rows @ columns.T).sum() for rows in a.split(BLOCK) for columns in b.split(BLOCK))
    return float(sum(parts))
