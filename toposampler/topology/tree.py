"""Minimum spanning trees of point clouds: the combinatorial step, without gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toposampler.topology.boruvka import minimum_tree_on_device
from toposampler.topology.points import as_points
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
    x = as_points(x.detach())
    largest = x.abs().max().item()
    if not math.isfinite(largest):
        bad = int((~x.isfinite()).sum())
        raise ValueError(f"{bad} of {x.numel()} coordinates are NaN or infinite")
    x = x * 2.0 ** -math.frexp(max(largest, torch.finfo(x.dtype).tiny))[1]  # exact, and no square can overflow
    if x.device.type != "cpu" and x.shape[-2] <= DEVICE_MAX:
        return minimum_tree_on_device(x)
    points = x.cpu().contiguous().numpy()
    if x.dim() == 2:
        return torch.from_numpy(_sorted_tree(points)).to(x.device)
    return torch.from_numpy(np.stack([_sorted_tree(cloud) for cloud in points])).to(x.device)


def _sorted_tree(x: NDArray) -> NDArray:
    build = minimum_tree if len(x) <= TILE or x.shape[1] <= DIRECT_DIM else minimum_tree_by_tiles
    edges, weights = build(x)
    return edges[weights.argsort(kind="stable")]
