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
NEIGHBORS = {1: 6, 3: 18}
"""k of the neighbor graph by channels of the images (Khayatkhoei et al. 2018)"""


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


@dataclass(frozen=True)
class ClassVariety:
    """Variety of the samples of one class, beside that of as many real images."""

    samples: Variety
    real: Variety
    n_real: int
    """real images that there would have been"""

    @property
    def ratio(self) -> float | None:
        """MSD of samples over that of as many real images; 0 for fewer than two samples, None if real ones have none"""
        if self.samples.n < 2 <= self.n_real:
            return 0.0
        return self.samples.msd / self.real.msd if self.real.msd > 0 else None


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


def intra_mode_msd(
    images: Tensor, probabilities: Tensor, real: Tensor, real_probabilities: Tensor
) -> list[ClassVariety]:
    """Variety of each class on pixels, k = 6 for gray and 18 for color, of samples and of as many real images.

    images (n, C, H, W) and real (m, C, H, W) with C 1 or 3, and what a Classifier makes of them, probabilities (n, M)
    and (m, M); M results. Of each class the first confident images count, as many of both and at most 1,000: MSD
    rises with their number (measured on MNIST's 8s: by three quarters from 100 to 900), so only equal ones compare.
    """
    k, found = NEIGHBORS[images.shape[1]], []
    classes, real_classes = confident_classes(probabilities), confident_classes(real_probabilities)
    for c in range(probabilities.shape[1]):
        x, y = images[classes == c].flatten(1), real[real_classes == c].flatten(1)
        n = min(len(x), len(y), MAX_POINTS)
        found.append(ClassVariety(geodesic_variety(x[:n], k), geodesic_variety(y[:n], k), len(y)))
    return found
