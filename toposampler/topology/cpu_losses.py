"""Losses on the CPU: lengths, loss and gradients by compiled loops, in one node of the graph.

At 64 points the calls of the torch operations that such a loss is made of would cost more than the trees.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from toposampler.topology.edge_lengths import measure, pull_back
from toposampler.topology.points import unit
from toposampler.topology.tree import minimum_tree_on_host

Side = tuple[NDArray, NDArray, NDArray]
"""edges (e, 2) of a cloud, their lengths (e,), and the derivatives (e,) of a loss by these"""
Evaluate = Callable[[NDArray, NDArray], tuple[NDArray, Side, Side]]
"""points x (n, d) and y (m, e) to a loss () and what its gradients follow from"""


def paired_loss_on_host(x: Tensor, z: Tensor) -> Tensor:
    """As `signatures.paired_signature_loss`, for valid x (n, d) and z (n, e) of one precision on the CPU."""
    return cast(Tensor, _Loss.apply(x, z, _paired))


def loss_on_host(x: Tensor, y: Tensor, longest: int | None) -> Tensor:
    """As `signatures.signature_loss`, for valid x (n, d) and y (m, e) of one precision on the CPU."""
    return cast(Tensor, _Loss.apply(x, y, partial(_unpaired, longest=longest or 0)))


class _Loss(torch.autograd.Function):
    """A loss of the lengths of edges in x and in y. Its gradients are found with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, evaluate: Evaluate) -> Tensor:
        clouds = [cloud.detach().contiguous().numpy() for cloud in (x, y)]
        loss, *sides = evaluate(*clouds)
        pulls = zip(ctx.needs_input_grad[:2], clouds, sides, strict=True)
        gradients = (torch.from_numpy(pull_back(points, *side)) if needed else None for needed, points, side in pulls)
        ctx.save_for_backward(x, y, *gradients)
        return torch.from_numpy(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        return _times(ctx, gradient, *ctx.saved_tensors)


@once_differentiable
def _times(
    ctx: Any, gradient: Tensor, x: Tensor, y: Tensor, by_x: Tensor | None, by_y: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    """The gradients by x and y, which are among the arguments for a second derivative to be refused."""
    return None if by_x is None else by_x * gradient, None if by_y is None else by_y * gradient, None


def _paired(x: NDArray, z: NDArray) -> tuple[NDArray, Side, Side]:
    edges = np.concatenate([_tree(x), _tree(z)])
    a, b = measure(x, edges), measure(z, edges)
    loss, by_a = _squared_error(a, b)
    return loss, (edges, a, by_a), (edges, b, -by_a)


def _unpaired(x: NDArray, y: NDArray, longest: int) -> tuple[NDArray, Side, Side]:
    edges_x, edges_y = _tree(x), _tree(y)
    a, b = measure(x, edges_x), measure(y, edges_y)
    loss, by_a, by_b = _transport(a, a.argsort()[-longest:], b, b.argsort()[-longest:])
    return loss, (edges_x, a, by_a), (edges_y, b, by_b)


def _tree(x: NDArray) -> NDArray:
    return minimum_tree_on_host(unit(x))[0]


@njit(nogil=True, cache=True)
def _squared_error(a, b):  # type: ignore[no-untyped-def]
    """|a - b|^2 / n of lengths (2 (n-1),), those of the edges of two trees of n points, and the derivatives by a."""
    n = len(a) // 2 + 1
    loss, by_a = np.zeros((), a.dtype), np.empty_like(a)
    total = 0.0
    for e in range(len(a)):
        difference = a[e] - b[e]
        total += difference * difference
        by_a[e] = 2 * difference / n
    loss[()] = total / n
    return loss, by_a


@njit(nogil=True, cache=True)
def _transport(a, ascending_a, b, ascending_b):  # type: ignore[no-untyped-def]
    """The cost of the monotone transport of equal masses at some of the lengths a to equal masses at some of b.

    `ascending_*` are their indices. Returns the cost and its derivatives by a and b.
    """
    n, m = len(ascending_a), len(ascending_b)
    loss, by_a, by_b = np.zeros((), a.dtype), np.zeros_like(a), np.zeros_like(b)
    total, p, q, done = 0.0, 0, 0, 0  # masses in units of 1 / (n m)
    while p < n:
        end_p, end_q = (p + 1) * m, (q + 1) * n
        end = min(end_p, end_q)
        i, j, mass = ascending_a[p], ascending_b[q], (end - done) / (n * m)
        difference = a[i] - b[j]
        total += mass * difference * difference
        by_a[i] += 2 * mass * difference
        by_b[j] -= 2 * mass * difference
        p, q, done = p + (end == end_p), q + (end == end_q), end
    loss[()] = total
    return loss, by_a, by_b
