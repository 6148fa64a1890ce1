"""The minimum spanning tree of mutual reachability distances (Campello, Moulavi, Sander 2013), compiled.

core(x) is the distance of x to its k-th nearest neighbor, and two points are max(|x - y|, core(x), core(y)) apart:
single linkage on these distances joins points by density, so that a few points between two clusters join nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from toposampler.topology.points import unit


def reachability_tree(x: NDArray, neighbors: int) -> tuple[NDArray, NDArray, NDArray]:
    """Spanning tree of points x (n, d), n > neighbors >= 1, and their core distances.

    Returns edges (n-1, 2) int64, ascending in length; their mutual reachability distances (n-1,); and the core
    distances (n,), all in units of x. O(n^2 d) operations, O(n d) memory. Raises ValueError for other numbers of
    neighbors, and for coordinates that are NaN or infinite.
    """
    if not 1 <= neighbors < len(x):
        raise ValueError(f"{len(x)} points have 1 to {len(x) - 1} neighbors, not {neighbors}")
    scaled = unit(x.astype(np.float64))
    used = scaled != 0
    scale = float(abs(x[used][0] / scaled[used][0])) if used.any() else 1.0  # a power of two
    squared = _core_distances(scaled, neighbors)
    edges, lengths = _prim(scaled, squared)
    order = lengths.argsort(kind="stable")
    return edges[order], scale * np.sqrt(lengths[order]), scale * np.sqrt(squared)


@njit(nogil=True, cache=True)
def _core_distances(x, k):  # type: ignore[no-untyped-def]
    """Squared distance of each point of x (n, d) to its k-th nearest other point: (n,)."""
    n, d = x.shape
    found, nearest = np.empty(n), np.empty(k)
    for i in range(n):
        nearest[:] = np.inf
        for j in range(n):
            total = 0.0
            for a in range(d):
                total += (x[i, a] - x[j, a]) ** 2
            if i != j and total < nearest[k - 1]:
                place = k - 1
                while place > 0 and nearest[place - 1] > total:
                    nearest[place] = nearest[place - 1]
                    place -= 1
                nearest[place] = total
        found[i] = nearest[k - 1]
    return found


@njit(nogil=True, cache=True)
def _prim(x, core):  # type: ignore[no-untyped-def]
    """Prim's algorithm from point 0: edges (n-1, 2) and squared lengths (n-1,), in the order of their finding."""
    n, d = x.shape
    best, parent, inside = np.full(n, np.inf), np.zeros(n, np.int64), np.zeros(n, np.bool_)
    edges, lengths = np.empty((n - 1, 2), np.int64), np.empty(n - 1)
    i = 0
    inside[i] = True
    for t in range(n - 1):
        least, where = np.inf, -1
        for j in range(n):
            if inside[j]:
                continue
            total = 0.0
            for a in range(d):
                total += (x[i, a] - x[j, a]) ** 2
            total = max(total, core[i], core[j])
            if total < best[j]:
                best[j], parent[j] = total, i
            if best[j] < least:
                least, where = best[j], j
        i = where
        inside[i] = True
        edges[t, 0], edges[t, 1], lengths[t] = parent[i], i, least
    return edges, lengths
