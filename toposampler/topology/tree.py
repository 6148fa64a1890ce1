"""Minimum spanning trees of point clouds: the combinatorial step, without gradient."""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor

from toposampler.topology.boruvka import has_kernels, minimum_tree_on_device
from toposampler.topology.points import as_points, refuse_not_finite, unit, unit_on_device
from toposampler.topology.prim import DIRECT_DIM, minimum_tree
from toposampler.topology.tiles import TILE, minimum_tree_by_tiles

BY_TORCH = range(4097, 16385)
"""numbers of points of which a GPU makes the tree by torch, without Triton: with fewer the host is faster (H200, 64
dimensions), for more the distances need over 8 GiB"""


def spanning_tree(x: Tensor) -> Tensor:
    """The 0-dimensional Vietoris-Rips pairing of points x (n, d) or (b, n, d): their minimum spanning tree.

    Returns edges (n-1, 2) or (b, n-1, 2), int64, ascending in length, on the device of x. Of trees of the same
    length any one. Trees are minimal for squared lengths rounded to `prim.RELATIVE_ERROR`, and to machine
    precision for few dimensions, few points, or more than `tiles.TILE` points.

    Raises:
        ValueError: fewer than 2 points, another shape, or coordinates that are NaN or infinite.
    """
    x = as_points(x.detach()).contiguous()
    if x.is_cuda and (has_kernels() or x.shape[-2] in BY_TORCH):
        refuse_not_finite(x)
        return minimum_tree_on_device(unit_on_device(x))
    if x.dim() == 3:
        return torch.stack([spanning_tree(cloud) for cloud in x])
    return torch.from_numpy(_ascending(unit(x.cpu().numpy()))).to(x.device)


def minimum_tree_on_host(x: NDArray) -> tuple[NDArray, NDArray]:
    """As `prim.minimum_tree`, for any number of points."""
    build = minimum_tree if len(x) <= TILE or x.shape[1] <= DIRECT_DIM else minimum_tree_by_tiles
    return build(x)


def _ascending(x: NDArray) -> NDArray:
    edges, weights = minimum_tree_on_host(x)
    return edges[weights.argsort(kind="stable")]
