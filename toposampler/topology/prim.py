"""Prim's algorithm on squared distances, compiled: rows made from the points, or read from one matrix product.

Squared distances are not negative, so that they are ordered as their bit patterns read as integers are. Minima over
integers are what the compiler turns into vector instructions; minima over floats are not (NaN, -0).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from toposampler.topology.products import squared_distances

BLOCK = 256
"""columns scanned at a time: their keys, parents and distances stay in the first cache"""
DIRECT_DIM, DIRECT_WORK = 12, 2**12
"""rows are made from the points where d <= DIRECT_DIM or n * d <= DIRECT_WORK: there it is faster than a product"""
RELATIVE_ERROR = 2.0**-12
"""how far a squared distance from a product may be off, relatively, to choose edges by it"""


def minimum_tree(x: NDArray) -> tuple[NDArray, NDArray]:
    """Minimum spanning tree of points x (n, d), float32 or float64, contiguous, coordinates of size up to 1.

    Returns edges (n-1, 2) int64 in no order, and their squared lengths (n-1,), computed from the points' differences.
    Edges are chosen as if squared lengths had a relative error of `RELATIVE_ERROR` at most (none, to
    rounding, where rows are made from the points).
    """
    n, d = x.shape
    word = np.dtype(f"i{x.itemsize}")
    if d <= DIRECT_DIM or n * d <= DIRECT_WORK:
        row = np.empty(BLOCK, x.dtype)
        return _prim_direct(x.T.copy(), row, row.view(word))
    matrix, error = squared_distances(x, x)
    # Entries below are computed from the points instead: near ties, duplicates, whatever is negative.
    trusted = np.array([error / RELATIVE_ERROR], x.dtype)
    return _prim_dense(matrix, matrix.view(word), x, trusted.view(word)[0])


@njit(nogil=True, cache=True)
def _least(row):  # type: ignore[no-untyped-def]
    """The least integer of a row."""
    least = row[0]
    for j in range(row.shape[0]):
        key = row[j]
        least = key if key < least else least
    return least


@njit(nogil=True, cache=True)
def _relax(row, best, parent, i):  # type: ignore[no-untyped-def]
    """Offers vertex i, at distances `row`, to all vertices; returns the least key of those not in the tree.

    A vertex of the tree has key -1: no distance is less, and without its sign bit it is the largest of all.
    """
    word = best.dtype.type
    largest = np.iinfo(best.dtype).max
    least = word(largest)
    for j in range(row.shape[0]):
        key = best[j]
        closer = row[j] < key
        key = row[j] if closer else key
        best[j] = key
        parent[j] = i if closer else parent[j]
        key = word(key & largest)
        least = key if key < least else least
    return least


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def squared_distance(a, b):  # type: ignore[no-untyped-def]
    """|a - b|^2 from differences: right to rounding, and 0 for equal points."""
    total = a[0] - a[0]  # 0 of this type
    for k in range(a.shape[0]):
        difference = a[k] - b[k]
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def _prim_direct(columns, row, row_keys):  # type: ignore[no-untyped-def]
    d, n = columns.shape
    word = row_keys.dtype.type
    largest = word(np.iinfo(row_keys.dtype).max)
    best = np.full(n, largest, row_keys.dtype)
    lengths = best.view(columns.dtype)
    parent = np.zeros(n, np.int32)
    edges, weights = np.empty((n - 1, 2), np.int64), np.empty(n - 1, columns.dtype)
    i = np.int32(0)
    best[i] = -1
    for t in range(n - 1):
        least, where = largest, 0
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            part = row[: stop - start]
            for k in range(d):
                column, center = columns[k, start:stop], columns[k, i]
                if k == 0:
                    for j in range(part.shape[0]):
                        part[j] = (column[j] - center) ** 2
                else:
                    for j in range(part.shape[0]):
                        part[j] += (column[j] - center) ** 2
            key = _relax(row_keys[: stop - start], best[start:stop], parent[start:stop], i)
            if key < least:
                least, where = key, start
        while best[where] != least:
            where += 1
        i = np.int32(where)
        edges[t, 0], edges[t, 1], weights[t] = parent[i], i, lengths[i]
        best[i] = -1
    return edges, weights


@njit(nogil=True, cache=True)
def _prim_dense(matrix, keys, x, trusted):  # type: ignore[no-untyped-def]
    n = x.shape[0]
    word = keys.dtype.type
    largest = word(np.iinfo(keys.dtype).max)
    best = np.full(n, largest, keys.dtype)
    parent = np.zeros(n, np.int32)
    edges, weights = np.empty((n - 1, 2), np.int64), np.empty(n - 1, x.dtype)
    i = np.int32(0)
    best[i] = -1
    for t in range(n - 1):
        matrix[i, i] = np.inf  # no other vertex: or its block would always hold an entry below
        least, where = largest, 0
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            row = keys[i, start:stop]
            if _least(row) < trusted:
                for j in range(start, stop):
                    if keys[i, j] < trusted:
                        matrix[i, j] = squared_distance(x[i], x[j])
            key = _relax(row, best[start:stop], parent[start:stop], i)
            if key < least:
                least, where = key, start
        while best[where] != least:
            where += 1
        i = np.int32(where)
        edges[t, 0], edges[t, 1], weights[t] = parent[i], i, squared_distance(x[parent[i]], x[i])
        best[i] = -1
    return edges, weights
