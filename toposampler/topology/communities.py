"""Where data have no gap: communities of the neighbor graph, whose points have more neighbors in common than by chance.

Points are linked to their k nearest neighbors, and a link weighs as much as the two neighborhoods overlap (PhenoGraph,
Levine et al. 2015, doi 10.1016/j.cell.2015.05.047). Communities are the partition of largest modularity (Newman, Girvan
2004), looked for by the Louvain algorithm (Blondel, Guillaume, Lambiotte, Lefebvre 2008), each in one piece:

    Q = sum_c e_c - a_c^2,    e_c: share of the links' weight inside c,    a_c: share of the links' ends in c.

Every cloud has such a partition. So Q means something only beside that of a normal sample of the same covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBORS = 30
"""k of the graph, PhenoGraph's"""
SMALLEST = 15
"""least points of a community"""
STARTS = 5
"""orders of the points in which they are visited; the partition of largest modularity counts"""
BLOCK = 65_536
"""links weighed at a time"""


@dataclass(frozen=True)
class Communities:
    """Communities of points."""

    labels: NDArray
    """(n,) int64 in [0, count): the community of each point, the largest community first"""
    links: NDArray
    """(count, count) float64, symmetric: share of the links' weight between two communities, of which e_c is the
    diagonal; their sum is 1"""

    @property
    def count(self) -> int:
        """The number of communities, at least 1."""
        return len(self.links)

    @property
    def modularity(self) -> float:
        """Q, below 1; 0 for a single community."""
        return float(np.trace(self.links) - np.square(self.links.sum(axis=1)).sum())

    def joined(self, at_most: int, smallest: int = 1) -> Communities:
        """At most so many communities, of at least `smallest` points each, so far as there are two to join.

        The smallest one joins that to which it has the most links beyond chance, 2 (e_ab - a_a a_b), by which Q grows;
        where all are large enough the two of the largest growth join.
        """
        links, sizes = self.links, np.bincount(self.labels).astype(np.int64)
        groups = np.arange(len(sizes))  # where the communities are by now
        while len(sizes) > 1 and (sizes.min() < smallest or len(sizes) > at_most):
            ends = links.sum(axis=1)
            growth = 2 * (links - np.outer(ends, ends))
            np.fill_diagonal(growth, -np.inf)
            small = sizes.min() < smallest
            a = int(sizes.argmin() if small else growth.max(axis=1).argmax())
            b = int(growth[a].argmax())
            into = np.where(np.arange(len(sizes)) == a, b, np.arange(len(sizes)))
            _, into = np.unique(into, return_inverse=True)
            links, sizes, groups = _summed(links, into), np.bincount(into, sizes).astype(np.int64), into[groups]
        rank = np.empty(len(sizes), np.int64)
        rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
        return Communities(rank[groups[self.labels]], _summed(links, rank))


def _summed(links: NDArray, groups: NDArray) -> NDArray:
    """links (m, m) between groups: the group of each community is groups (m,)."""
    one_hot = np.eye(groups.max() + 1)[groups]
    summed: NDArray = one_hot.T @ links @ one_hot
    return summed


def find_communities(x: NDArray, neighbors: int = NEIGHBORS, smallest: int = SMALLEST) -> Communities:
    """The communities of points x (n, d), which follow from x alone: each call gives the same.

    Args:
        x: finite coordinates. Fewer than twice `smallest` points are one community.
        neighbors: k of the graph; of n <= k points n - 1.
        smallest: least points of a community: smaller ones are joined to others.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    # Here, as it takes half a second to import. Its Leiden does not give the same twice (findings/).
    from sknetwork.clustering import Louvain, get_modularity

    n = len(x)
    if n < 2 * smallest:
        return Communities(np.zeros(n, np.int64), np.ones((1, 1)))
    graph = shared_neighbor_graph(x, neighbors)
    partitions = [Louvain(random_state=i, shuffle_nodes=True).fit_predict(graph) for i in range(STARTS)]
    best = max(partitions, key=lambda found: get_modularity(graph, found))
    i, j = graph.nonzero()
    inside = csr_matrix((best[i] == best[j], (i, j)), shape=(n, n))
    inside.eliminate_zeros()
    labels = connected_components(inside, directed=False)[1].astype(np.int64)  # Louvain's may be in several pieces
    members = csr_matrix((np.ones(n), (np.arange(n), labels)))
    links = (members.T @ graph @ members).toarray() / graph.sum()
    return Communities(labels, links).joined(n, smallest)


def modularity_by_chance(x: NDArray, neighbors: int = NEIGHBORS, smallest: int = SMALLEST) -> float:
    """Q of as many normal points as x (n, d) has, with the covariance of x: what data without communities have."""
    covariance = np.atleast_2d(np.cov(x, rowvar=False))
    normal = np.random.default_rng(0).multivariate_normal(np.zeros(x.shape[1]), covariance, len(x), method="eigh")
    return find_communities(normal, neighbors, smallest).modularity


def shared_neighbor_graph(x: NDArray, k: int) -> Any:
    """Links between points x (n, d) and their k nearest others, as a symmetric sparse matrix (n, n).

    The link of i and j weighs |N_i & N_j| / |N_i | N_j|, where N_i is i and its k nearest: from 1 / (2 k + 1) to 1.
    """
    from scipy.sparse import csr_array, csr_matrix, eye_array
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(x) - 1)
    nearest = csr_array(NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors_graph())
    hoods = csr_array(nearest + eye_array(len(x)))
    i, j = (nearest + nearest.T).nonzero()
    blocks = [slice(start, start + BLOCK) for start in range(0, len(i), BLOCK)]
    shared = np.concatenate([np.asarray(hoods[i[b]].multiply(hoods[j[b]]).sum(axis=1)).ravel() for b in blocks])
    return csr_matrix((shared / (2 * (k + 1) - shared), (i, j)), shape=nearest.shape)  # Louvain refuses arrays
