"""Lengths of chosen edges: the differentiable step."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from toposampler.topology.points import as_points
from toposampler.topology.prim import squared_distance
from toposampler.topology.tree import spanning_tree


def edge_lengths(x: Tensor, edges: Tensor) -> Tensor:
    """|x_i - x_j| over edges (e, 2) or (b, e, 2) of points x (n, d) or (b, n, d): (e,) or (b, e), differentiable once.

    Computed from the points, O(e d): nothing of size n x n takes part. The gradient of a zero length is 0.

    Raises:
        IndexError: an edge ends at a point that is not there.
    """
    x = as_points(x)
    if x.dim() == 2:
        return cast(Tensor, _EdgeLengths.apply(x, edges))
    starts = torch.arange(0, x.shape[0] * x.shape[1], x.shape[1], device=x.device)
    lengths = cast(Tensor, _EdgeLengths.apply(x.flatten(0, 1), (edges + starts.view(-1, 1, 1)).flatten(0, 1)))
    return lengths.view(edges.shape[:-1])


def deaths(x: Tensor) -> Tensor:
    """The 0-dimensional deaths of points x (n, d) or (b, n, d), ascending: (n-1,) or (b, n-1), differentiable.

    Raises:
        ValueError: as `spanning_tree`.
    """
    return edge_lengths(x, spanning_tree(x)).sort(dim=-1).values


class _EdgeLengths(torch.autograd.Function):
    """On the CPU compiled loops, which make small clouds cheap; elsewhere the same in torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, edges: Tensor) -> Tensor:
        x, edges = x.detach().contiguous(), edges.contiguous()
        if x.device.type == "cpu":
            lengths = torch.from_numpy(_lengths(x.numpy(), edges.numpy()))
        else:
            lengths, _ = _lengths_and_directions(x, edges)
        ctx.save_for_backward(x, edges, lengths)
        return lengths

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, edges, lengths = ctx.saved_tensors
        if x.device.type == "cpu":
            arrays = (tensor.numpy() for tensor in (x, edges, lengths, gradient.contiguous()))
            return torch.from_numpy(_pull_back(*arrays)), None
        pull = _lengths_and_directions(x, edges)[1] * gradient.unsqueeze(1)
        i, j = edges.unbind(1)
        return torch.zeros_like(x).index_add_(0, i, pull).index_add_(0, j, pull, alpha=-1), None


@njit(nogil=True, cache=True, boundscheck=True)
def _lengths(x, edges):  # type: ignore[no-untyped-def]
    lengths = np.empty(len(edges), x.dtype)
    limits = np.finfo(x.dtype)
    for e in range(len(edges)):
        a, b = x[edges[e, 0]], x[edges[e, 1]]
        square = squared_distance(a, b)
        if limits.tiny / limits.eps < square < limits.max:
            lengths[e] = np.sqrt(square)
        else:  # squares vanish or overflow: in units of the largest coordinate
            largest = np.abs(a - b).max()
            lengths[e] = largest * np.sqrt(np.square((a - b) / largest).sum()) if largest > 0 else 0
    return lengths


@njit(nogil=True, cache=True)
def _pull_back(x, edges, lengths, gradient):  # type: ignore[no-untyped-def]
    """The gradient by x (n, d), given that by the lengths (e,)."""
    out = np.zeros_like(x)
    for e in range(len(edges)):
        if lengths[e] > 0:
            i, j = edges[e]
            a, b, out_a, out_b = x[i], x[j], out[i], out[j]
            for k in range(x.shape[1]):
                pull = gradient[e] * ((a[k] - b[k]) / lengths[e])
                out_a[k] += pull
                out_b[k] -= pull
    return out


def _lengths_and_directions(x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """|x_i - x_j| (e,) and (x_i - x_j) / |x_i - x_j| (e, d), 0 where the length is.

    Differences are scaled by a power of two that brings the largest to about 1: squares neither overflow nor vanish.
    """
    i, j = edges.unbind(1)
    difference = x.index_select(0, i) - x.index_select(0, j)
    limits = torch.finfo(x.dtype)
    largest = difference.abs().amax().clamp(limits.tiny, limits.max / 4)
    scale = torch.frexp(largest)[0] / largest
    difference = difference * scale
    lengths = torch.linalg.vector_norm(difference, dim=1)
    return lengths / scale, difference / lengths.clamp_min(limits.tiny).unsqueeze(1)
