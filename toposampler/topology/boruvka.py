"""Boruvka's algorithm in torch, for GPUs: some log2 n rounds of reductions over the distance matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def minimum_tree_on_device(x: Tensor) -> Tensor:
    """Minimum spanning trees of points x (n, d) or (b, n, d): edges (n-1, 2) or (b, n-1, 2), ascending in length.

    Every component takes, in each round, its least edge to another one. Edges are ordered by (length, i * n + j with
    i < j), the same seen from both ends: ties cannot close a cycle, and the result is deterministic. The number of
    rounds depends on n alone, so no round waits for the host. Memory: about 30 n^2 bytes a cloud.

    Run on CPU tensors by the tests; not yet run on a GPU.
    """
    clouds = x.view(-1, *x.shape[-2:])
    n = clouds.shape[1]
    distances = torch.cdist(clouds, clouds, compute_mode="donot_use_mm_for_euclid_dist")
    vertex = torch.arange(n, device=x.device)
    ids = torch.minimum(vertex, vertex[:, None]) * n + torch.maximum(vertex, vertex[:, None])
    none = n * n
    component = vertex.expand(len(clouds), n)
    # A component is named by one of its vertices, which keeps the edge that joined it to another.
    lengths = distances.new_full((len(clouds), n), torch.inf)
    edges = component.new_full((len(clouds), n), none)
    for _ in range((n - 1).bit_length()):
        outside = distances.masked_fill(component[:, :, None] == component[:, None, :], torch.inf)
        least = torch.full_like(lengths, torch.inf).scatter_reduce(1, component, outside.amin(2), "amin")
        ties = outside == least.gather(1, component)[:, :, None]
        nearest = torch.where(ties & outside.isfinite(), ids, none).amin(2)
        edge = torch.full_like(edges, none).scatter_reduce(1, component, nearest, "amin")
        found = edge < none
        ends = component.gather(1, (edge % none).div(n, rounding_mode="floor")), component.gather(1, edge % n)
        target = torch.where(found, torch.where(ends[0] == vertex, ends[1], ends[0]), vertex)
        # Two components that chose the same edge point to each other: the one of lower name stays.
        stays = ~found | ((target.gather(1, target) == vertex) & (vertex < target))
        edges, lengths = torch.where(stays, edges, edge), torch.where(stays, lengths, least)
        target = torch.where(stays, vertex, target)
        for _ in range((n - 1).bit_length()):
            target = target.gather(1, target)
        component = target.gather(1, component)
    order = lengths.argsort(dim=1, stable=True)[:, :-1]  # the last component joined none: its length is infinite
    edges = edges.gather(1, order)
    pairs = torch.stack([edges.div(n, rounding_mode="floor"), edges % n], dim=2)
    return pairs.view(*x.shape[:-2], n - 1, 2)
