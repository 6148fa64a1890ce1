"""Spanning trees by Triton's kernels in its interpreter, against Prim's.

`TRITON_INTERPRET=1 python interpreted_trees.py quick|all`. A process of its own: Triton reads the variable when it
is imported."""

from __future__ import annotations

import sys

import numpy as np
import torch
from test_topology_tree import KINDS, cloud, connects, distances, numpy_prim

from toposampler.topology import kernels
from toposampler.topology.boruvka import minimum_tree_on_device


def check(kind: str, n: int, d: int, dtype: torch.dtype) -> None:
    """The tree connects all points, with the lengths of Prim's."""
    x = cloud(kind, n, d)
    scaled = (x / x.abs().max().clamp_min(1e-38)).to(dtype)
    edges = minimum_tree_on_device(scaled, kernels.lightest_edges).numpy()
    assert connects(edges, n), kind
    lengths, expected = np.sort(distances(x)[tuple(edges.T)]), numpy_prim(distances(x))
    tolerance = 2e-7 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(lengths, expected, rtol=tolerance, atol=1e-12 * expected.max(), err_msg=kind)


def check_batch() -> None:
    """Clouds of a batch know nothing of each other; ties are broken as by distances."""
    x = torch.stack([cloud("grid", 11, 2, seed).float() for seed in range(2)])
    x[1, 3] = torch.nan
    edges = minimum_tree_on_device(x, kernels.lightest_edges)
    assert torch.equal(edges[0], minimum_tree_on_device(x[0], kernels.lightest_edges))
    assert torch.equal(edges[0], minimum_tree_on_device(x[0]))
    assert int(edges.min()) >= 0, "an edge of a cloud that is not finite ends at a point"
    assert int(edges.max()) < 11


if __name__ == "__main__":
    kernels.ROWS, kernels.COLUMNS = 8, 16  # so that small clouds take several tiles
    check_batch()
    if sys.argv[1] == "quick":
        for kind in ("normal", "grid", "duplicates", "equal"):
            check(kind, 17, 2, torch.float32)
    else:
        for kind in KINDS:
            for dtype in (torch.float32, torch.float64):
                for n, d in ((2, 3), (33, 1), (50, 5)):
                    check(kind, n, d, dtype)
    print("all trees are minimal")
