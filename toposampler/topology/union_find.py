"""Union-find and what follows from merging points edge by edge, shortest first (Kruskal), compiled."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def root(parent, i):  # type: ignore[no-untyped-def]
    """The representative of i's set; halves the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True)
def chosen_edges(edges, order, n):  # type: ignore[no-untyped-def]
    """Kruskal: the indices (n-1,) of the tree among edges (e, 2), taken in the given order; they have to connect."""
    parent = np.arange(n)
    chosen = np.empty(n - 1, np.int64)
    count = 0
    for e in order:
        a, b = root(parent, edges[e, 0]), root(parent, edges[e, 1])
        if a != b:
            parent[a] = b
            chosen[count] = e
            count += 1
            if count == n - 1:
                break
    return chosen


@njit(nogil=True, cache=True)
def leaf_order(edges, lengths):  # type: ignore[no-untyped-def]
    """Vertices of an ascending spanning tree in the order of its dendrogram's leaves, and the gaps after them.

    The longest edge on the tree's path between the vertices at places p < q is max(gaps[p:q]). Returns order (n,) and
    gaps (n,), the last 0.
    """
    n = len(edges) + 1
    parent, last, after = np.arange(n), np.arange(n), np.full(n, -1)
    gap_after = np.zeros(n, lengths.dtype)
    for e in range(n - 1):
        a, b = root(parent, edges[e, 0]), root(parent, edges[e, 1])
        after[last[a]] = b  # a root is the first leaf of its set
        gap_after[last[a]] = lengths[e]
        last[a] = last[b]
        parent[b] = a
    order = np.empty(n, np.int64)
    order[0] = root(parent, 0)
    for p in range(n - 1):
        order[p + 1] = after[order[p]]
    return order, gap_after[order]


@njit(nogil=True, cache=True)
def plateaus(edges, lengths, smallest):  # type: ignore[no-untyped-def]
    """The ranges of length over which an ascending spanning tree has a constant number of pieces, and few outliers.

    A piece has at least `smallest` vertices; outliers, vertices outside of every piece, are fewer than that. Returns
    rows (number of pieces, from which edge on, to which edge), the last range open: to edge n-1.
    """
    n = len(edges) + 1
    parent, size = np.arange(n), np.ones(n, np.int64)
    found = np.empty((n, 3), np.int64)
    rows, pieces, outliers = 0, 0, n
    if smallest == 1:
        pieces, outliers = n, 0
    for e in range(n - 1):
        a, b = root(parent, edges[e, 0]), root(parent, edges[e, 1])
        before = pieces if outliers < smallest else 0
        for piece in (a, b):
            if size[piece] >= smallest:
                pieces -= 1
                outliers += size[piece]
        parent[a] = b
        size[b] += size[a]
        if size[b] >= smallest:
            pieces += 1
            outliers -= size[b]
        now = pieces if outliers < smallest else 0
        if now != before:
            if before:
                found[rows - 1, 2] = e
            if now:
                found[rows, 0], found[rows, 1], found[rows, 2] = now, e, n - 1
                rows += 1
    return found[:rows]
