"""Losses on the CPU: lengths, loss and gradients by compiled loops, in one node of the graph.

At 64 points the calls of the torch operations that such a loss is made of would cost more than the trees. The loops are
an operator of torch's, whose shapes are known without running it: it can be traced, and batched by `vmap`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from toposampler.topology.device_losses import unpaired_on_device
from toposampler.topology.edge_lengths import measure, pull_back
from toposampler.topology.points import refuse_not_finite, unit
from toposampler.topology.tree import minimum_tree_on_host

Side = tuple[NDArray, NDArray, NDArray]
"""edges (e, 2) of a cloud, their lengths (e,), and the derivatives (e,) of a loss by these"""
PAIRED = -1
"""in place of a number of bars: the loss of paired clouds"""


def paired_loss_on_host(x: Tensor, z: Tensor) -> Tensor:
    """As `signatures.paired_signature_loss`, for valid x (n, d) and z (n, e) of one precision on the CPU."""
    return _loss(x, z, PAIRED, True)


def loss_in_one_node(x: Tensor, y: Tensor, longest: int | None, strict: bool) -> Tensor:
    """As `signatures.signature_loss`, for x (n, d) and y (m, e) of one precision on one device."""
    return _loss(x, y, longest or 0, strict)


def _loss(x: Tensor, y: Tensor, longest: int, strict: bool) -> Tensor:
    loss, *_ = _Loss.apply(x, y, longest, strict, *_needed(x, y))
    return cast(Tensor, loss)


def _needed(*clouds: Tensor) -> list[bool]:
    """Of which clouds the gradients are needed; inside `vmap` a tensor does not tell."""
    return [torch.is_grad_enabled() and cloud.requires_grad for cloud in clouds]


def _on_host(x: Tensor, y: Tensor, longest: int, strict: bool, by_x: bool, by_y: bool) -> list[Tensor]:
    """The losses (...) of clouds x (..., n, d) and y (..., m, e), and their gradients by x and y, where needed.

    Where a coordinate is not finite: ValueError, or unless `strict` NaN.
    """
    clouds = [cloud.contiguous().numpy() for cloud in (x, y)]
    batch = x.shape[:-2]
    loss = x.new_empty(batch)
    gradients = [torch.empty_like(cloud) if by else cloud.new_empty(0) for cloud, by in ((x, by_x), (y, by_y))]
    for i in np.ndindex(*batch):
        points = (clouds[0][i], clouds[1][i])
        if not strict and not all(np.isfinite(cloud).all() for cloud in points):
            for result in (loss, *gradients):
                result[i if result.numel() else ...] = torch.nan
            continue
        value, *sides = _paired(*points) if longest == PAIRED else _unpaired(*points, longest)
        loss[i] = torch.from_numpy(value)
        for gradient, cloud, side in zip(gradients, points, sides, strict=True):
            if gradient.numel():
                gradient[i] = torch.from_numpy(pull_back(cloud, *side))
    return [loss, *gradients]


def _on_device(x: Tensor, y: Tensor, longest: int, strict: bool, by_x: bool, by_y: bool) -> list[Tensor]:
    assert longest != PAIRED, "paired clouds are compared on the CPU alone"
    for cloud in (x, y) if strict else ():
        refuse_not_finite(cloud)
    return unpaired_on_device(x, y, longest, by_x, by_y)


def _shaped(x: Tensor, y: Tensor, longest: int, strict: bool, by_x: bool, by_y: bool) -> list[Tensor]:
    gradients = [torch.empty_like(cloud) if by else cloud.new_empty(0) for cloud, by in ((x, by_x), (y, by_y))]
    return [x.new_empty(x.shape[:-2]), *gradients]


# As `torch.library.custom_op` would, whose operator imports torch's compiler when it is called first: two seconds.
NAME = "toposampler::signature_loss"
torch.library.define(NAME, torch.library.infer_schema(_on_host, mutates_args=()))
torch.library.impl(NAME, "cpu", _on_host)
torch.library.impl(NAME, "cuda", _on_device)
torch.library.register_fake(NAME, _shaped)


class _Loss(torch.autograd.Function):
    """A loss of the lengths of edges in x and in y. Its gradients are found with it."""

    @staticmethod
    def forward(
        x: Tensor, y: Tensor, longest: int, strict: bool, by_x: bool, by_y: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, *gradients = torch.ops.toposampler.signature_loss(x.detach(), y.detach(), longest, strict, by_x, by_y)
        return loss, *gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[:2], *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (*_times(ctx, gradient, *ctx.saved_tensors), None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        clouds = [
            cloud.expand(info.batch_size, *cloud.shape) if place is None else cloud.movedim(place, 0)
            for cloud, place in zip(arguments[:2], in_dims, strict=False)
        ]
        needed = _needed(*clouds)
        outputs = _Loss.apply(*clouds, *arguments[2:4], *needed)
        return outputs, tuple(0 if present else None for present in (True, *needed))


@once_differentiable
def _times(
    ctx: Any, gradient: Tensor, x: Tensor, y: Tensor, by_x: Tensor, by_y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients by x and y, which are among the arguments for a second derivative to be refused."""
    return tuple(by * gradient[..., None, None] if by.numel() else None for by in (by_x, by_y))  # type: ignore[return-value]


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
