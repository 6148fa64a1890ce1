"""Minimum spanning trees of point clouds: the combinatorial step, without gradient."""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor

from toposampler.topology.boruvka import minimum_tree_on_device
from toposampler.topology.points import as_points, unit
from toposampler.topology.prim import DIRECT_DIM, minimum_tree
from toposampler.topology.tiles import TILE, minimum_tree_by_tiles

DEVICE_MAX = 16384
"""most points for which a GPU holds all distances (8 GiB); more go to the host"""


def spanning_tree(x: Tensor) -> Tensor:
    """The 0-dimensional Vietoris-Rips pairing of points x (n, d) or (b, n, d): their minimum spanning tree.

    Returns edges (n-1, 2) or (b, n-1, 2), int64, ascending in length, on the device of x. Of trees of the same
    length any one. Trees are minimal for squared lengths rounded to `prim.RELATIVE_ERROR`, and to machine
    precision for few dimensions, few points, or more than `tiles.TILE` points.

    Raises:
        ValueError: fewer than 2 points, another shape, or coordinates that are NaN or infinite.
    """
    x = as_points(x.detach()).contiguous()
    if x.dim() == 2 and (x.device.type == "cpu" or len(x) > DEVICE_MAX):
        return torch.from_numpy(_ascending(unit(x.cpu().numpy()))).to(x.device)
    if x.device.type == "cpu" or x.shape[-2] > DEVICE_MAX:
        return torch.stack([spanning_tree(cloud) for cloud in x])
    clouds = x.view(-1, *x.shape[-2:])
    return minimum_tree_on_device(torch.stack([unit(cloud) for cloud in clouds]).view_as(x))  # each has its own scale


def minimum_tree_on_host(x: NDArray) -> tuple[NDArray, NDArray]:
    """As `prim.minimum_tree`, for any number of points."""
    build = minimum_tree if len(x) <= TILE or x.shape[1] <= DIRECT_DIM else minimum_tree_by_tiles
    return build(x)


def _ascending(x: NDArray) -> NDArray:
    edges, weights = minimum_tree_on_host(x)
    return edges[weights.argsort(kind="stable")]
