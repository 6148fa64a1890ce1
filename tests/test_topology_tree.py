"""Minimum spanning trees by every way there is, against gudhi, scipy and twenty lines of numpy."""

from __future__ import annotations

from itertools import permutations

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from toposampler.topology import edge_lengths, prim, spanning_tree, tiles
from toposampler.topology.boruvka import minimum_tree_on_device
from toposampler.topology.products import squared_distances

WAYS = ["direct", "product", "tiles", "boruvka"]
KINDS = ["normal", "grid", "duplicates", "line", "equal", "collapsed", "clusters", "tiny", "huge"]


def cloud(kind: str, n: int, d: int, seed: int = 0) -> Tensor:
    """Points (n, d) float64 of a kind that breaks careless code; all coordinates are float32 numbers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    if kind == "grid":
        x = (1.5 * x).round()
    elif kind == "duplicates":
        x = x[torch.randint(0, max(n // 3, 1), (n,), generator=generator)]
    elif kind == "line":
        x = torch.randint(-50, 50, (n, 1), generator=generator) * torch.arange(1.0, d + 1)
    elif kind == "equal":
        x = x[:1].repeat(n, 1)
    elif kind in ("collapsed", "clusters"):  # below what a float32 product can tell, and somewhat above
        x = {"collapsed": 1e-3, "clusters": 0.1}[kind] * x + 100 * (torch.arange(n) % 2).unsqueeze(1)
    return (x * {"tiny": 1e-30, "huge": 1e30}.get(kind, 1.0)).double()


def distances(x: Tensor) -> NDArray:
    """(n, n) float64, from differences of the points."""
    x = x.double()
    return torch.linalg.vector_norm(x.unsqueeze(1) - x, dim=2).numpy()


def numpy_prim(distance: NDArray) -> NDArray:
    """The sorted lengths of a minimum spanning tree, from a distance matrix."""
    outside = np.ones(len(distance), bool)
    best = np.full(len(distance), np.inf)
    lengths, i = [], 0
    for _ in range(len(distance) - 1):
        outside[i] = False
        best = np.minimum(best, distance[i])
        i = int(np.where(outside, best, np.inf).argmin())
        lengths.append(best[i])
    return np.sort(lengths)


def gudhi_lengths(distance: NDArray) -> NDArray:
    complex_ = gudhi.RipsComplex(distance_matrix=distance).create_simplex_tree(max_dimension=1)
    bars = complex_.persistence(homology_coeff_field=2, min_persistence=-1, persistence_dim_max=False)
    return np.sort([death for dimension, (_, death) in bars if dimension == 0 and np.isfinite(death)])


def scipy_lengths(distance: NDArray) -> NDArray:
    scale = distance.max() or 1.0
    lifted = np.triu(distance / scale + 1, 1)  # scipy reads a number near 0 as no edge
    return scale * (np.sort(minimum_spanning_tree(lifted).data) - 1)


def tree_lengths(x: Tensor, way: str, monkeypatch: pytest.MonkeyPatch) -> NDArray:
    """The sorted lengths of the edges that `spanning_tree` chooses when made to go one way, checked to be a tree."""
    with monkeypatch.context() as patch:
        patch.setattr(prim, "DIRECT_DIM", 10**6 if way == "direct" else 0)
        patch.setattr(prim, "DIRECT_WORK", 0)
        patch.setattr("toposampler.topology.tree.DIRECT_DIM", 10**6 if way == "direct" else 0)
        for module in ("tiles", "tree"):
            patch.setattr(f"toposampler.topology.{module}.TILE", 7 if way == "tiles" else 4096)
        edges = minimum_tree_on_device(x / x.abs().max().clamp_min(1e-38)) if way == "boruvka" else spanning_tree(x)
    assert edges.shape == (len(x) - 1, 2)
    assert edges.dtype == torch.int64
    i, j = edges.numpy().T
    assert connects(edges.numpy(), len(x))
    lengths = distances(x)[i, j]
    assert np.all(np.diff(lengths) >= -1e-6 * lengths[1:])  # ascending, to float32's rounding
    return np.sort(lengths)


def connects(edges: NDArray, n: int) -> bool:
    label = np.arange(n)
    for i, j in edges:
        label[label == label[i]] = label[j]
    return bool((label == label[0]).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_those_of_three_independent_programs(
    kind: str, way: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, d in ((2, 3), (40, 2), (60, 70)):
        x = cloud(kind, n, d)
        distance = distances(x)
        lengths = tree_lengths(x.to(dtype), way, monkeypatch)
        tolerance = 2e-7 if dtype == torch.float32 else 1e-12
        if way == "product" and dtype == torch.float32:
            tolerance = prim.RELATIVE_ERROR / 2
        for expected in (numpy_prim(distance), gudhi_lengths(distance), scipy_lengths(distance)):
            np.testing.assert_allclose(lengths, expected, rtol=tolerance, atol=1e-12 * distance.max())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(WAYS), st.integers(2, 40), st.integers(1, 20), st.integers(0, 2**31))
def test_any_cloud_by_any_way(kind: str, way: str, n: int, d: int, seed: int) -> None:
    x = cloud(kind, n, d, seed)
    with pytest.MonkeyPatch.context() as patch:
        lengths = tree_lengths(x, way, patch)
    distance = distances(x)
    np.testing.assert_allclose(lengths, numpy_prim(distance), rtol=1e-12, atol=1e-12 * distance.max())


@pytest.mark.parametrize("way", ["product", "tiles"])
def test_blocks_and_tiles_that_are_really_full(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = cloud("normal", 700, 20).float()
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "TILE", 300)
        patch.setattr(tiles, "CAPACITY", 1000)  # is full many times
        patch.setattr(prim, "DIRECT_DIM", 0)
        build = tiles.minimum_tree_by_tiles if way == "tiles" else prim.minimum_tree
        edges, squares = build((x / 8).numpy())
    assert connects(edges, len(x))
    np.testing.assert_allclose(np.sort(8 * np.sqrt(squares)), numpy_prim(distances(x)), rtol=1e-6)


def test_points_closer_than_a_product_can_tell_take_no_more_edges_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two collapsed clusters: with a first tree by rounded distances all pairs of a cluster would be kept."""
    kept = []

    def improved(tree: tuple[NDArray, NDArray], edges: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
        kept.append(len(edges))
        return original(tree, edges, lengths)

    original = tiles._improved
    monkeypatch.setattr(tiles, "TILE", 300)
    monkeypatch.setattr(tiles, "_improved", improved)
    x = cloud("collapsed", 1200, 20).float()
    _, squares = tiles.minimum_tree_by_tiles((x / 128).numpy())
    assert sum(kept) < 20 * len(x)
    np.testing.assert_allclose(np.sort(128 * np.sqrt(squares)), numpy_prim(distances(x)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "grid", "collapsed", "clusters"])
@pytest.mark.parametrize("d", [5, 800])
def test_products_are_as_exact_as_they_say_wherever_the_points_lie(kind: str, d: int, dtype: torch.dtype) -> None:
    x = cloud(kind, 120, d)
    x = (x / x.abs().max()).to(dtype)
    matrix, error = squared_distances(x.numpy(), x[:50].numpy())
    long = x.numpy().astype(np.longdouble)
    off = np.abs(matrix - np.square(long[:, None] - long[:50]).sum(2)).max()
    assert error / 100 < off < error
    _, error_far_away = squared_distances((x + 100).numpy(), (x[:50] + 100).numpy())
    assert error_far_away == pytest.approx(error, rel=1e-3)


def test_ties_close_no_cycle_in_any_numbering() -> None:
    """A hexagon of alternating sides, three pairs with equal sides between, of which two may be taken; and a tip."""
    corners = torch.tensor([[0.0, 1, 3], [1, 0, 3], [3, 0, 1], [3, 1, 0], [1, 3, 0], [0, 3, 1], [9, 9, 9]])
    x = torch.stack([corners[[*order, 6]] for order in permutations(range(6))])
    edges = minimum_tree_on_device(x)
    expected = torch.tensor([2.0, 2, 2, 8, 8, 181]).sqrt()
    assert torch.allclose(edge_lengths(x, edges), expected.expand(720, 6), rtol=1e-6, atol=0)
    assert all(connects(tree.numpy(), 7) for tree in edges)


def test_a_batch_is_a_loop() -> None:
    x = torch.stack([cloud(kind, 30, 5) for kind in ("normal", "grid", "duplicates")]).float()
    each = torch.stack([spanning_tree(one) for one in x])
    assert torch.equal(spanning_tree(x), each)
    lengths = torch.stack([edge_lengths(one, edges) for one, edges in zip(x, each, strict=True)])
    assert torch.equal(edge_lengths(x, each), lengths)
    assert torch.allclose(edge_lengths(x, minimum_tree_on_device(x)), lengths, rtol=1e-6, atol=0)
    scales = torch.tensor([1e-25, 1.0, 1e25]).view(3, 1, 1)
    scaled = x * scales  # squares of the least vanish beside the greatest: each cloud has a scale of its own
    assert torch.allclose(edge_lengths(scaled, spanning_tree(scaled)), lengths * scales[:, 0], rtol=1e-5, atol=0)


def test_no_gradient_and_no_change_of_the_points() -> None:
    x = cloud("normal", 20, 70).float().requires_grad_()
    before = x.detach().clone()
    assert not spanning_tree(x).requires_grad
    assert torch.equal(x, before)


def test_views_of_any_stride() -> None:
    x = cloud("normal", 30, 8)
    assert torch.equal(spanning_tree(x.T.contiguous().T), spanning_tree(x))
    assert torch.equal(spanning_tree(x[::2, 1:]), spanning_tree(x[::2, 1:].clone()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_autocast_is_ignored(dtype: torch.dtype) -> None:
    x = cloud("normal", 100, 70).to(dtype)
    assert torch.equal(spanning_tree(x), spanning_tree(x.float()))
    expected = spanning_tree(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spanning_tree(x.float()), expected)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3), "expected at least 2 points, got 1"),
        (torch.zeros(5), r"expected points of shape \(n, d\) or \(b, n, d\), got \(5,\)"),
        (torch.zeros(2, 2, 2, 2), r"expected points of shape \(n, d\) or \(b, n, d\), got \(2, 2, 2, 2\)"),
        (torch.zeros(4, 0), r"expected points of shape \(n, d\) or \(b, n, d\), got \(4, 0\)"),
        (torch.zeros(4, 2, dtype=torch.int64), "expected floating-point coordinates, got torch.int64"),
        (torch.tensor([[0.0, torch.nan], [1.0, torch.inf]]), "2 of 4 coordinates are NaN or infinite"),
        (torch.tensor([[0.0], [-torch.inf]]), "1 of 2 coordinates are NaN or infinite"),
    ],
)
def test_what_is_not_a_cloud_is_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        spanning_tree(x)
