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
    x = as_points(x).contiguous()
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
        edges = edges.contiguous()
        if x.device.type == "cpu":
            lengths = torch.from_numpy(measure(x.detach().numpy(), edges.numpy()))
        else:
            lengths, _ = _lengths_and_directions(x, edges)
        ctx.save_for_backward(x, edges, lengths)
        return lengths

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _pull_back(ctx, gradient, *ctx.saved_tensors)


@once_differentiable
def _pull_back(ctx: Any, gradient: Tensor, x: Tensor, edges: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
    """The gradient by x, which is among the arguments for a second derivative to be refused."""
    if x.device.type == "cpu":
        arrays = (tensor.numpy() for tensor in (x.detach(), edges, lengths, gradient.contiguous()))
        return torch.from_numpy(pull_back(*arrays)), None
    pull = _lengths_and_directions(x, edges)[1] * gradient.unsqueeze(1)
    i, j = edges.unbind(1)
    return torch.zeros_like(x).index_add_(0, i, pull).index_add_(0, j, pull, alpha=-1), None


@njit(nogil=True, cache=True, boundscheck=True)
def measure(x, edges):  # type: ignore[no-untyped-def]
    """|x_i - x_j| (e,) over edges (e, 2) of points x (n, d)."""
    lengths = np.empty(len(edges), x.dtype)
    for e in range(len(edges)):
        lengths[e] = np.sqrt(squared_distance(x[edges[e, 0]], x[edges[e, 1]]))
    limits = np.finfo(x.dtype)
    for e in range(len(edges)):  # in a loop of their own the rare ones do not slow down the rest
        if not limits.tiny / limits.eps < lengths[e] * lengths[e] < limits.max:
            # Squares vanish or overflow: in units of the largest coordinate.
            difference = x[edges[e, 0]] - x[edges[e, 1]]
            largest = np.abs(difference).max()
            lengths[e] = largest * np.sqrt(np.square(difference / largest).sum()) if largest > 0 else 0
    return lengths


@njit(nogil=True, cache=True)
def pull_back(x, edges, lengths, gradient):  # type: ignore[no-untyped-def]
    """The gradient by x (n, d), given that by the lengths (e,)."""
    out = np.zeros_like(x)
    one, tiny = x.dtype.type(1), np.finfo(x.dtype).tiny
    for e in range(len(edges)):
        i, j, length = edges[e, 0], edges[e, 1], lengths[e]
        if length > 0:
            scale = one / max(length, tiny)  # rounded coarsely, or not 1 / length, at the ends of the range:
            factor = gradient[e] / (length * scale)  # this makes up for it
            for k in range(x.shape[1]):
                pull = factor * (scale * (x[i, k] - x[j, k]))
                out[i, k] += pull
                out[j, k] -= pull
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
