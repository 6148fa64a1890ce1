"""How varied the samples of one class are, along the class and not through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import shortest_path
from sklearn.neighbors import kneighbors_graph
from torch import Tensor

from toposampler.metrics.classes import confident_classes

MAX_POINTS = 1000
"""samples of a class that are looked at, the first ones (Khayatkhoei et al. 2018)"""
NEIGHBOURS = {1: 6, 3: 18}
"""k of the neighbour graph by channels of the images (Khayatkhoei et al. 2018)"""


@dataclass(frozen=True)
class Variety:
    """Mean squared geodesic distance (MSD) within one class."""

    msd: float
    """mean over pairs of distinct points with a path between them, in squared data units; 0 without such a pair"""
    unreachable: float
    """share of pairs without a path: the MSD does not know of them, so that a class in pieces looks too small"""
    n: int
    """points looked at"""

    @property
    def authors_msd(self) -> float:
        """The value the authors' code gives, which sums over ordered pairs and divides by unordered ones: 2 MSD."""
        return 2 * self.msd


def geodesic_variety(x: Tensor, k: int) -> Variety:
    """MSD = mean over i != j of g(i, j)^2 on points x (n, d), the intra-mode metric of DMGAN (arXiv 1806.00880).

    g is the length of the shortest path in the graph that joins each point with its k nearest others, as in Isomap
    (Tenenbaum et al. 2000), edges having Euclidean length. Memory: n^2 float64.
    """
    n = len(x)
    if n < 2:
        return Variety(0.0, 0.0, n)
    graph = kneighbors_graph(x.cpu().double().numpy(), min(k, n - 1), mode="distance")
    squared = np.square(shortest_path(graph, method="D", directed=False)[~np.eye(n, dtype=bool)])
    reached = np.isfinite(squared)
    return Variety(float(squared[reached].mean()) if reached.any() else 0.0, float(1 - reached.mean()), n)


def intra_mode_msd(images: Tensor, probabilities: Tensor) -> list[Variety]:
    """Variety of each class on the pixels of its first 1,000 confident images, k = 6 for grey and 18 for colour.

    images (n, C, H, W) with C 1 or 3, and what a Classifier makes of them, probabilities (n, M); M results.
    """
    classes, pixels = confident_classes(probabilities), images.flatten(1)
    k = NEIGHBOURS[images.shape[1]]
    return [geodesic_variety(pixels[classes == c][:MAX_POINTS], k) for c in range(probabilities.shape[1])]
