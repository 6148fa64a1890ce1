"""Components by gaps in the tree of mutual reachability: the tree against scipy's, gaps by hand, clouds without one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from toposampler.topology.clusters import find_clusters
from toposampler.topology.reachability import reachability_tree

Cloud = Callable[[np.random.Generator, int], NDArray]


def ring(rng: np.random.Generator, n: int) -> NDArray:
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def swiss_roll(rng: np.random.Generator, n: int) -> NDArray:
    t = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.stack([t * np.cos(t), 21 * rng.random(n), t * np.sin(t)], axis=1)


CONNECTED: dict[str, Cloud] = {
    "segment": lambda rng, n: rng.random((n, 1)),
    "ring": ring,
    "square": lambda rng, n: rng.random((n, 2)),
    "Swiss roll": swiss_roll,
    "exponential": lambda rng, n: rng.exponential(size=(n, 1)),
    "Cauchy": lambda rng, n: rng.standard_t(1, (n, 2)),
    "log-normal": lambda rng, n: np.exp(1.5 * rng.normal(size=(n, 2))),
    **{f"normal {d}": lambda rng, n, d=d: rng.normal(size=(n, d)) for d in (1, 2, 10, 101)},  # type: ignore[misc]
}


@pytest.mark.parametrize(("n", "d", "k"), [(200, 2, 7), (60, 30, 3), (40, 1, 39)])
def test_the_tree_has_the_length_of_scipy_s(n: int, d: int, k: int) -> None:
    x = 1e4 * np.random.default_rng(n).normal(size=(n, d))
    distances = cdist(x, x)
    core = np.sort(distances, axis=1)[:, k]
    reachability = np.maximum(distances, np.maximum(core[:, None], core))
    np.fill_diagonal(reachability, 0)
    edges, lengths, found = reachability_tree(x, k)
    np.testing.assert_allclose(found, core, rtol=1e-12)
    np.testing.assert_allclose(lengths, reachability[edges[:, 0], edges[:, 1]], rtol=1e-12)
    assert (np.diff(lengths) >= 0).all()
    assert lengths.sum() == pytest.approx(minimum_spanning_tree(reachability).sum(), rel=1e-12)
    with pytest.raises(ValueError, match="neighbors"):
        reachability_tree(x, n)


@pytest.mark.parametrize("name", CONNECTED)
@pytest.mark.parametrize("n", [100, 1000])
def test_connected_clouds_have_no_gap(name: str, n: int) -> None:
    for seed in range(10 if n == 100 else 2):
        found = find_clusters(CONNECTED[name](np.random.default_rng(seed), n))
        assert found.count == 1, seed
        assert 0 <= found.rejected < 2.5
        assert (found.labels == 0).all()


def test_components_of_other_density_and_mass_are_found_among_outliers() -> None:
    rng = np.random.default_rng(0)
    sizes, scales = (1000, 300, 100, 30), (1.0, 0.01, 0.1, 0.03)
    parts = [
        [10 * k, 0] + scale * rng.normal(size=(n, 2)) for k, (n, scale) in enumerate(zip(sizes, scales, strict=True))
    ]
    x = np.concatenate([*parts, rng.uniform(-30, 60, (8, 2))])
    found = find_clusters(x)
    assert found.count == 4
    truth = np.repeat(np.arange(4), sizes)
    assert (found.labels[: len(truth)] == truth).all()  # the largest first
    assert len(found.prominences) == 3
    assert find_clusters(x[np.random.default_rng(1).permutation(len(x))]).prominences == pytest.approx(
        found.prominences
    )


def test_of_fewer_components_the_longest_gaps_are_left() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat([0.0, 5.0, 30.0], 50)[:, None] + rng.random((150, 1))
    labels = {k: find_clusters(x, at_most=k).labels[::50].tolist() for k in (1, 2, 3, 4)}
    assert labels[1] == [0, 0, 0]
    assert labels[2] == [0, 0, 1]
    assert len(set(labels[3])) == len(set(labels[4])) == 3


def test_prominence_by_hand() -> None:
    # Core distances with one neighbor: 1 within each side, 2 at the last point of the left one; the gap is 10.
    x = np.array([0, 1, 2, 3, 5, 15, 16, 17, 18, 19])[:, None].astype(float)
    found = find_clusters(x, neighbors=1, smallest=5, prominence=1)
    q50, q95 = np.quantile([1, 1, 1, 1, 2], [0.5, 0.95])
    assert found.prominences == pytest.approx([(10 - q95) / (q95 - q50)])  # of the other side it is infinite
    assert find_clusters(x, neighbors=1, smallest=5, prominence=20).rejected == pytest.approx(found.prominences[0])
    assert find_clusters(x, neighbors=1, smallest=6, prominence=1).count == 1


def test_repeated_points() -> None:
    assert find_clusters(np.zeros((50, 3))).count == 1
    found = find_clusters(np.repeat([[0.0, 0], [1, 0], [0, 1]], 40, axis=0))
    assert found.count == 3
    assert found.prominences == (np.inf, np.inf)
    assert find_clusters(np.arange(5.0)[:, None]).count == 1  # too few to say
    with pytest.raises(ValueError, match="NaN"):
        find_clusters(np.full((20, 2), np.nan))
