"""Metrics of features: Frechet distance, precision, recall, density, coverage, and copies of the training data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.memorization import memorization
from toposampler.metrics.neighbors import nearest_neighbors
from toposampler.metrics.prdc import precision_recall_density_coverage

torch.set_num_threads(1)


def cloud(seed: int, n: int = 300, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(x: torch.Tensor) -> torch.Tensor:
    """x (n, d) moved to mean 0 and covariance 1 exactly."""
    x = x - x.mean(dim=0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov()).T)


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(cloud(9, d, d)).Q


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    x, y = whitened(cloud(0)), whitened(cloud(1, n=200))
    scale, shift = torch.tensor([2.0, 3.0, 0.5, 1.0]).double(), torch.tensor([1.0, 0.0, 0.0, 2.0]).double()
    expected = float(((scale - 1) ** 2).sum() + (shift**2).sum())
    assert frechet_distance(x, y * scale + shift) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (40, 30, 64)])
def test_frechet_distance_agrees_with_scipys_matrix_root(n: int, m: int, d: int) -> None:
    x, y = cloud(0, n, d), cloud(1, m, d) @ cloud(2, d, d) + 1
    s_x, s_y = np.cov(x.numpy().T), np.cov(y.numpy().T)
    mean_term = float((x.mean(0) - y.mean(0)).square().sum())
    expected = mean_term + np.trace(s_x + s_y - 2 * sqrtm(s_x @ s_y).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1e-160, 1e-11])
def test_frechet_distance_of_a_collapsed_cloud_is_that_of_its_mean(spread: float) -> None:
    x, y = spread * cloud(0, 40).double(), 3 + cloud(1, 50).double()
    expected = y.mean(dim=0).square().sum() + y.var(dim=0).sum()
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_frechet_distance_is_symmetric_invariant_and_zero_on_equals() -> None:
    x, y = cloud(0), 2 * cloud(1)
    distance = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(x.flip(0) @ rotation(4), y @ rotation(4)) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(cloud(0, 5, 50), cloud(0, 5, 50)) == pytest.approx(0, abs=1e-9)


def by_brute_force(x: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The definitions, on whole matrices."""

    def radius(points: np.ndarray, k: int) -> np.ndarray:
        return np.sort(cdist(points, points), axis=1)[:, k]

    between = cdist(x, real)
    return {
        "precision_k3": (between <= radius(real, 3)).any(axis=1).mean(),
        "recall_k3": (between <= radius(x, 3)[:, None]).any(axis=0).mean(),
        "density_k5": (between <= radius(real, 5)).sum(axis=1).mean() / 5,
        "coverage_k5": (between.min(axis=0) <= radius(real, 5)).mean(),
    }


def test_balls_agree_with_brute_force() -> None:
    x, real = 0.8 * cloud(0, 150) + 0.5, cloud(1, 230)
    found = precision_recall_density_coverage(x, real, block=64)
    assert found == pytest.approx(by_brute_force(x.numpy(), real.numpy()), abs=1e-12)
    assert 0.1 < min(found["precision_k3"], found["recall_k3"]) < max(found["precision_k3"], found["recall_k3"]) < 0.99


def test_balls_keep_under_rotation_scale_and_order() -> None:
    x, real = 0.8 * cloud(0, 150), cloud(1, 230)
    found = precision_recall_density_coverage(x, real)
    moved = precision_recall_density_coverage(3 * x.flip(0) @ rotation(4) + 7, 3 * real @ rotation(4) + 7)
    assert moved == pytest.approx(found, abs=1e-12)


def test_noise_lowers_precision_and_a_dropped_mode_recall_and_coverage() -> None:
    centers = torch.tensor([[0.0, 0.0], [50.0, 0.0]]).double()
    real, x = (cloud(seed, 400, 2) + centers.repeat_interleave(200, dim=0) for seed in (0, 1))
    good = precision_recall_density_coverage(x, real)
    noisy = precision_recall_density_coverage(x + 3 * cloud(2, 400, 2), real)
    dropped = precision_recall_density_coverage(x[:200].repeat(2, 1) + 0.1 * cloud(3, 400, 2), real)
    assert min(good.values()) > 0.9
    assert noisy["precision_k3"] < good["precision_k3"] - 0.2
    assert noisy["density_k5"] < good["density_k5"] - 0.2
    assert dropped["recall_k3"] < 0.55
    assert dropped["coverage_k5"] < 0.55
    assert dropped["precision_k3"] > 0.9


def test_too_few_points_for_balls_are_refused() -> None:
    with pytest.raises(ValueError, match="x has 5 points; more than 5 are needed"):
        precision_recall_density_coverage(cloud(0, 5), cloud(1))


def to_train(x: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    return nearest_neighbors(x, train, k=1)[0][:, 0]


def test_copies_are_flagged_and_fresh_draws_are_not() -> None:
    train, test, fresh = cloud(0, 2000), cloud(1, 2000), cloud(2, 2000)
    found = memorization(to_train(fresh, train), to_train(test, train))
    assert found["memorized_q0.05"] == pytest.approx(0.05, abs=0.015)
    assert found["closer_than_test"] == pytest.approx(0.5, abs=0.03)
    copies = memorization(to_train(train[:500], train), to_train(test, train))
    assert copies == {"memorized_q0.05": 1.0, "closer_than_test": 1.0}
    half = memorization(to_train(torch.cat((train[:1000], fresh[:1000])), train), to_train(test, train))
    assert half["memorized_q0.05"] == pytest.approx(0.525, abs=0.02)


def test_closer_than_test_agrees_with_scipys_rank_sum_with_ties() -> None:
    samples = torch.tensor([0.0, 1.0, 1.0, 3.0], dtype=torch.float64)
    test = torch.tensor([1.0, 2.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    expected = mannwhitneyu(test, samples).statistic / 20
    assert memorization(samples, test)["closer_than_test"] == pytest.approx(expected, abs=1e-12)
