"""Nearest real points: agreement with scikit-learn, and what a perfect and a collapsed sampler score."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from toposampler.metrics.neighbors import covered_k5, nearest_neighbors, off_support_nn99

torch.set_num_threads(1)


def cloud(seed: int, n: int = 300, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_neighbors_agree_with_scikit_learn() -> None:
    x, points = cloud(0), cloud(1, n=200)
    distance, index = nearest_neighbors(x, points, k=3, block=64)
    expected_distance, expected_index = NearestNeighbors(n_neighbors=3).fit(points).kneighbors(x)
    assert torch.equal(index, torch.from_numpy(expected_index))
    assert torch.allclose(distance, torch.from_numpy(expected_distance).double(), atol=1e-6)


def test_nearest_neighbors_gives_all_points_when_there_are_fewer() -> None:
    distance, index = nearest_neighbors(cloud(0), cloud(1, n=2), k=6)
    assert distance.shape == index.shape == (300, 2)


def test_the_first_neighbor_among_themselves_is_the_point_itself() -> None:
    x = cloud(0, d=784)
    distance, index = nearest_neighbors(x, x, k=2)
    assert torch.equal(index[:, 0], torch.arange(300))
    assert distance[:, 0].max() < 1e-5
    assert distance[:, 1].min() > 1


def test_off_support_counts_what_is_farther_than_99_percent() -> None:
    among_real = torch.arange(101, dtype=torch.float64)
    assert off_support_nn99(torch.tensor([0.0, 98.9, 99.1, 500.0], dtype=torch.float64), among_real) == 0.5


def test_a_perfect_sampler_is_on_the_support() -> None:
    real, x = cloud(0, n=3000, d=2), cloud(1, n=3000, d=2)
    among_real, _ = nearest_neighbors(real, real, k=2)
    to_real, _ = nearest_neighbors(x, real, k=1)
    assert off_support_nn99(to_real[:, 0], among_real[:, 1]) == pytest.approx(0.01, abs=0.006)


def test_coverage_is_closed_at_the_edge_of_the_ball() -> None:
    covered = covered_k5(torch.tensor([0.5, 1.0, 1.5]), torch.ones(3))
    assert covered.tolist() == [True, True, False]
