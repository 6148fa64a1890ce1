"""Boruvka's algorithm in Triton, for GPUs: two kernels a round, nothing of size n x n, no trip to the host.

In each round a program takes some points of a cloud, goes over all others tile by tile, and keeps for each point its
lightest edge to another component; a second kernel takes the lightest of each component. Squared lengths are sums of
squared differences, in the points' own precision, added coordinate by coordinate in one order: alike from both ends.
Edges are ordered by (length, i * n + j with i < j), so that ties cannot close a cycle. A length that is not negative is
ordered as its bits are.

Written for `tree.py`; the tests run it in Triton's interpreter. Not yet run on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 32, 64
"""points of a program, and of a tile that it goes over"""


@triton.jit
def _nearest(points, component, lengths, ids, n, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of each point the squared length of its lightest edge to another component, and that edge's id; or inf, n * n."""
    cloud = tl.program_id(1).to(tl.int64)
    points += cloud * n * d
    component += cloud * n
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    own = tl.load(component + i, mask=i < n, other=0)
    none = n.to(tl.int64) * n
    best = tl.full((ROWS,), float("inf"), points.dtype.element_ty)
    edge = tl.zeros((ROWS,), tl.int64) + none
    for start in range(0, n, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        square = tl.zeros((ROWS, COLUMNS), points.dtype.element_ty)
        for k in range(d):
            x = tl.load(points + i.to(tl.int64) * d + k, mask=i < n, other=0.0)
            y = tl.load(points + j.to(tl.int64) * d + k, mask=j < n, other=0.0)
            difference = x[:, None] - y[None, :]
            square += difference * difference
        other = tl.load(component + j, mask=j < n, other=0)
        outside = (own[:, None] != other[None, :]) & (i < n)[:, None] & (j < n)[None, :]
        square = tl.where(outside, square, float("inf"))
        least = tl.min(square, 1)
        first = tl.minimum(i[:, None], j[None, :]).to(tl.int64)
        second = tl.maximum(i[:, None], j[None, :]).to(tl.int64)
        tied = outside & (square == least[:, None])
        nearest = tl.min(tl.where(tied, first * n + second, none), 1)
        edge = tl.where(least < best, nearest, tl.where(least == best, tl.minimum(edge, nearest), edge))
        best = tl.minimum(best, least)
    tl.store(lengths + cloud * n + i, best, mask=i < n)
    tl.store(ids + cloud * n + i, edge, mask=i < n)


@triton.jit
def _lightest(component, lengths, least, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of each component the least of its points' lengths, as bits."""
    cloud = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own = tl.load(component + cloud * n + i, mask=i < n, other=0)
    found = tl.load(lengths + cloud * n + i, mask=i < n, other=0)
    tl.atomic_min(least + cloud * n + own, found, mask=i < n)


@triton.jit
def _chosen(component, lengths, ids, least, edges, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of each component the first edge among those of its least length."""
    cloud = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own = tl.load(component + cloud * n + i, mask=i < n, other=0)
    found = tl.load(lengths + cloud * n + i, mask=i < n, other=0)
    lightest = tl.load(least + cloud * n + own, mask=i < n, other=-1)
    edge = tl.load(ids + cloud * n + i, mask=i < n, other=0)
    tl.atomic_min(edges + cloud * n + own, edge, mask=(i < n) & (found == lightest))


def lightest_edges(clouds: Tensor, component: Tensor) -> tuple[Tensor, Tensor]:
    """Of each component its lightest edge to another one: squared lengths (b, n) and edges i * n + j (b, n), i < j.

    `clouds` (b, n, d) are contiguous, `component` (b, n) int64 names one vertex of the component that each is in. Where
    a vertex names no component, or there is no other one: inf, and n * n.
    """
    b, n, d = clouds.shape
    lengths, ids = torch.empty_like(clouds[..., 0]), torch.empty_like(component)
    word = torch.int32 if clouds.dtype == torch.float32 else torch.int64
    least, edges = torch.full_like(lengths, torch.inf).view(word), torch.full_like(component, n * n)
    _nearest[(triton.cdiv(n, ROWS), b)](clouds, component, lengths, ids, n, d, ROWS=ROWS, COLUMNS=COLUMNS)
    grid = (triton.cdiv(n, 256), b)
    _lightest[grid](component, lengths.view(word), least, n, BLOCK=256)
    _chosen[grid](component, lengths.view(word), ids, least, edges, n, BLOCK=256)
    return least.view(clouds.dtype), edges
