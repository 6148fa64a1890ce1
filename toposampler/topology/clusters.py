"""Which points belong together: components by single linkage on mutual reachability, where gaps are prominent.

Where `components` counts by the largest gap of the whole barcode, here every merge of the tree is evaluated by the scales
of the two sides that it joins, so that components may differ in density, and each point gets a component.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposampler.topology.reachability import reachability_tree

NEIGHBORS = 7
"""k of the core distances"""
SMALLEST = 15
"""least points of a component: twice the neighbors, so that its core distances are its own"""
PROMINENCE = 2.5
"""least prominence of a gap that counts"""
TYPICAL, SPARSE = 0.5, 0.95
"""quantiles of a side's core distances that a gap is compared with"""


@dataclass(frozen=True)
class Clusters:
    """The components of points, and the gaps between them."""

    labels: NDArray
    """(n,) int64 in [0, count): the component of each point, the largest component first"""
    prominences: tuple[float, ...]
    """of the count - 1 gaps, ascending; infinite where components are repetitions of a single point"""
    rejected: float
    """prominence of the gap that came nearest to counting; 0 where there was none"""

    @property
    def count(self) -> int:
        """The number of components, at least 1."""
        return len(self.prominences) + 1


def find_clusters(
    x: NDArray,
    neighbors: int = NEIGHBORS,
    smallest: int = SMALLEST,
    prominence: float = PROMINENCE,
    at_most: int | None = None,
) -> Clusters:
    """The components of points x (n, d), with no number or scale given.

    Edges of the tree are taken in order of their length l. One that joins two sides of at least `smallest` points each
    is a gap if for each side (l - q95) / (q95 - q50) >= `prominence`, q the quantiles of the side's core distances: it
    is long against the spread of the distances in the side. A side that is made of several components already has
    shorter gaps, and is not asked. All other edges join.

    Of 924 clouds of one component (uniform on a line, ring, square and Swiss roll, normal in 1, 2 and 10 dimensions,
    exponential, log-normal, Student with 3 and 1 degrees of freedom; 200 to 4,000 points) the most prominent rejected
    gap had 1.9, in two and more dimensions 1.7.

    Args:
        x: at least 1 point; with `neighbors` points or fewer they are one component.
        neighbors: k of the core distances.
        smallest: least points of a component.
        prominence: least prominence of a gap.
        at_most: where there are more components, the longest gaps alone count, so that there are as many as this.

    Raises ValueError if coordinates are NaN or infinite.
    """
    n = len(x)
    if n <= neighbors:
        return Clusters(np.zeros(n, np.int64), (), 0.0)
    edges, lengths, core = reachability_tree(np.ascontiguousarray(x), neighbors)
    sides = _Sides(n)
    gaps: list[tuple[float, int]] = []  # prominence and edge
    joins = np.ones(n - 1, bool)
    divided = [False] * n
    rejected = 0.0
    for e, ((i, j), length) in enumerate(zip(edges.tolist(), lengths.tolist(), strict=True)):
        a, b = sides.root(i), sides.root(j)
        if min(len(sides.members[a]), len(sides.members[b])) >= smallest:
            found = min(math.inf if divided[s] else _prominence(core[sides.members[s]], length) for s in (a, b))
            joins[e] = found < prominence
            if joins[e]:
                rejected = max(rejected, found)
            else:
                gaps.append((found, e))
        joined = sides.join(a, b)
        divided[joined] = divided[a] or divided[b] or not joins[e]
    for _, e in gaps[: max(0, len(gaps) + 1 - (at_most or n))]:  # in the order of their length
        joins[e] = True
    components = _Sides(n)  # of the tree without its gaps
    for i, j in edges[joins].tolist():
        components.join(components.root(i), components.root(j))
    roots = np.array([components.root(i) for i in range(n)])
    _, labels, counts = np.unique(roots, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    kept = sorted(found for found, e in gaps if not joins[e])
    return Clusters(rank[labels.reshape(-1)], tuple(kept), rejected)


def _prominence(core: NDArray, length: float) -> float:
    """How far `length` stands out from a side with these core distances: see `find_clusters`."""
    typical, sparse = np.quantile(core, [TYPICAL, SPARSE])
    if sparse > typical:
        return float((length - sparse) / (sparse - typical))
    return math.inf if length > sparse else 0.0


class _Sides:
    """Sets of points that are joined two by two; each keeps a list of its members."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))
        self.members = [[i] for i in range(n)]

    def root(self, i: int) -> int:
        """The representative of i's set; halves the path to it."""
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, a: int, b: int) -> int:
        """The representative of the union of the sets of the representatives a and b."""
        if a == b:
            return a
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        self.members[a] += self.members[b]
        self.members[b] = []
        self.parent[b] = a
        return a
