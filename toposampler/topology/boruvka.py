"""Boruvka's algorithm for GPUs: some log2 n rounds, in each of which every component takes its lightest edge."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

Lightest = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""clouds (b, n, d) and components (b, n) to squared lengths (b, n) and edges (b, n): `kernels.lightest_edges`"""

log = logging.getLogger(__name__)


def minimum_tree_on_device(x: Tensor, lightest: Lightest | None = None) -> Tensor:
    """Minimum spanning trees of points x (n, d) or (b, n, d): edges (n-1, 2) or (b, n-1, 2), ascending in length.

    Every component takes, in each round, its least edge to another one. Edges are ordered by (length, i * n + j with
    i < j), the same seen from both ends: ties cannot close a cycle, and the result is deterministic. The number of
    rounds depends on n alone, so no round waits for the host. `lightest` finds the edges of a round: by default
    Triton's kernels on a GPU, in memory of the size of the points, and else torch, with about 30 n^2 bytes a cloud. Of
    points that are not finite the edges are any.

    Run on CPU tensors by the tests, and in Triton's interpreter; not yet run on a GPU.
    """
    clouds = x.reshape(-1, *x.shape[-2:]).contiguous()
    n = clouds.shape[1]
    if lightest is None:
        lightest = _kernels() if x.is_cuda else None
    lightest = lightest or _by_distances(clouds)
    vertex = torch.arange(n, device=x.device)
    none = n * n
    component = vertex.expand(len(clouds), n).contiguous()
    # A component is named by one of its vertices, which keeps the edge that joined it to another.
    lengths = clouds.new_full((len(clouds), n), torch.inf)
    edges = component.new_full((len(clouds), n), none)
    for _ in range((n - 1).bit_length()):
        least, edge = lightest(clouds, component)
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
    edges = edges.gather(1, order).clamp(max=none - 1)  # what is not finite joins nothing
    pairs = torch.stack([edges.div(n, rounding_mode="floor"), edges % n], dim=2)
    return pairs.view(*x.shape[:-2], n - 1, 2)


def has_kernels() -> bool:
    """Whether there are kernels in Triton for a GPU."""
    return _kernels() is not None


@cache
def _kernels() -> Lightest | None:
    """Triton's kernels; None where there is no Triton, which is said once."""
    try:
        from toposampler.topology.kernels import lightest_edges
    except ImportError as error:
        log.warning("spanning trees on the GPU go by torch, slower and in n^2 memory: no Triton (%s)", error)
        return None
    return lightest_edges


def _by_distances(clouds: Tensor) -> Lightest:
    """The edges of a round from all distances of `clouds`."""
    n = clouds.shape[1]
    distances = torch.cdist(clouds, clouds, compute_mode="donot_use_mm_for_euclid_dist")
    vertex = torch.arange(n, device=clouds.device)
    ids = torch.minimum(vertex, vertex[:, None]) * n + torch.maximum(vertex, vertex[:, None])
    none = n * n

    def lightest(clouds: Tensor, component: Tensor) -> tuple[Tensor, Tensor]:
        outside = distances.masked_fill(component[:, :, None] == component[:, None, :], torch.inf)
        infinite = distances.new_full(component.shape, torch.inf)
        least = infinite.scatter_reduce(1, component, outside.amin(2), "amin")
        ties = outside == least.gather(1, component)[:, :, None]
        nearest = torch.where(ties & outside.isfinite(), ids, none).amin(2)
        return least, torch.full_like(component, none).scatter_reduce(1, component, nearest, "amin")

    return lightest
