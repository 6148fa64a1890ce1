"""Minimum spanning trees of more points than fit into one distance matrix: one pass over it, tile by tile.

A spanning tree of a sample, and from each other point an edge to the sample's nearest, are a first tree T. By the
cycle rule an edge (p, q) that is as long as the longest edge on T's path from p to q is not needed. With points in
the order of the leaves of T's dendrogram that longest edge is a maximum of consecutive gaps, which runs along with
the scan of a tile. The few edges that pass, some 2 n / (size of the sample) per point, and T give the tree (Kruskal).

Time: n^2 / 2 distances. Memory: one tile, the points, and up to `CAPACITY` edges; where more pass, T is improved with
those at hand.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from toposampler.topology import union_find
from toposampler.topology.prim import BLOCK, minimum_tree, squared_distance
from toposampler.topology.products import squared_distances

TILE = 4096
"""side of a tile, and size of the sample"""
CAPACITY = 2**22


def minimum_tree_by_tiles(x: NDArray) -> tuple[NDArray, NDArray]:
    """As `prim.minimum_tree`, for any number of points; minimal to machine precision."""
    shuffled = np.random.default_rng(0).permutation(len(x))  # the first TILE are a fair sample of any order
    tree = _first_tree(x[shuffled])
    order, gaps = union_find.leaf_order(*tree)
    place = np.empty_like(order)
    place[order] = np.arange(len(x))
    tree = place[tree[0]], tree[1]
    order = shuffled[order]
    x = x[order]

    edges, lengths, count = np.empty((CAPACITY, 2), np.int64), np.empty(CAPACITY, x.dtype), 0
    for left in range(0, len(x), TILE):
        for right in range(left, len(x), TILE):
            matrix, error = squared_distances(x[left : left + TILE], x[right : right + TILE])
            end = left + len(matrix)  # rows are scanned from the last to the first: the path's maxima only grow
            longest = np.zeros(matrix.shape[1], x.dtype)
            if right > left:
                np.maximum.accumulate(gaps[right : right + len(longest) - 1], out=longest[1:])
                longest = np.maximum(longest, gaps[end:right].max(initial=0))
            while end > left:
                if count + TILE > CAPACITY:
                    tree, count = _improved(tree, edges[:count], lengths[:count]), 0
                end, count = _scan(matrix, error, x, left, right, end, gaps, longest, edges, lengths, count)
    edges, lengths = _improved(tree, edges[:count], lengths[:count])
    return order[edges], lengths


def _first_tree(x: NDArray) -> tuple[NDArray, NDArray]:
    """Any good spanning tree, ascending: the sample's own, and from each other point the edge to its nearest there."""
    sample = x[:TILE]
    edges, lengths = minimum_tree(sample)
    rest = np.stack([np.arange(TILE, len(x)), np.empty(len(x) - TILE, np.int64)], 1)
    for start in range(TILE, len(x), TILE):
        points = x[start : start + TILE]
        _nearest(*squared_distances(points, sample), points, sample, rest[start - TILE : start, 1])
    edges = np.concatenate([edges, rest])
    lengths = np.concatenate([lengths, np.square(x[rest[:, 0]] - x[rest[:, 1]]).sum(1)])
    ascending = lengths.argsort()
    return edges[ascending], lengths[ascending]


@njit(nogil=True, cache=True)
def _nearest(matrix, error, points, sample, nearest):  # type: ignore[no-untyped-def]
    """Writes which point of the sample is nearest to each point, computing from the points what rounding leaves open.

    Without this, points that lie closer together than the matrix can tell would begin with a bad tree.
    """
    for p in range(len(points)):
        row = matrix[p]
        doubtful = row.min() + 2 * error
        least = np.inf
        for q in range(len(sample)):
            if row[q] <= doubtful:
                length = squared_distance(points[p], sample[q])
                if length < least:
                    least, nearest[p] = length, q


def _improved(tree: tuple[NDArray, NDArray], edges: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
    """The minimum spanning tree of the edges of a spanning tree and others."""
    edges, lengths = np.concatenate([tree[0], edges]), np.concatenate([tree[1], lengths])
    chosen = union_find.chosen_edges(edges, lengths.argsort(), len(tree[0]) + 1)
    return edges[chosen], lengths[chosen]


@njit(nogil=True, cache=True)
def _scan(matrix, error, x, left, right, end, gaps, longest, edges, lengths, count):  # type: ignore[no-untyped-def]
    """Collects the edges from points [left, end), the last one first, to a tile's columns that improve on the tree.

    `longest` (m,) holds the longest edge on the tree's paths from `end` to the columns, and is carried along. Returns
    the new `end`, which is `left` unless the edges are full, and their number.
    """
    n_columns = matrix.shape[1]
    for p in range(end - 1, left - 1, -1):
        if count + n_columns > len(edges):
            return p + 1, count
        gap = gaps[p]
        for start in range(max(p + 1 - right, 0), n_columns, BLOCK):
            stop = min(start + BLOCK, n_columns)
            row, bound = matrix[p - left, start:stop], longest[start:stop]
            shorter = 0
            for j in range(row.shape[0]):
                bound[j] = gap if bound[j] < gap else bound[j]
                shorter |= row[j] < bound[j] + error
            if shorter:
                for j in range(row.shape[0]):
                    if row[j] < bound[j] + error:
                        q = right + start + j
                        length = squared_distance(x[p], x[q])
                        if length < bound[j]:
                            edges[count, 0], edges[count, 1], lengths[count] = p, q, length
                            count += 1
    return left, count
