"""The default objective of a sweep: mode dropping must never look better than covering all, however sharp it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from toposampler.data.base import Dataset
from toposampler.data.lines import LinesConfig
from toposampler.metrics import evaluate
from toposampler.metrics.score import score

UNBALANCED = (0.7, 0.1, 0.1, 0.1)


@pytest.mark.parametrize("dropped", range(4))
def test_dropping_a_mode_is_worse_than_covering_all_with_many_samples_off_the_manifold(dropped: int) -> None:
    data = LinesConfig(weights=UNBALANCED).load()
    again = LinesConfig(n=4000, weights=UNBALANCED, seed=1).load()
    assert again.labels is not None
    sharp = evaluate(data, again.x[again.labels != dropped], None, None, seed=0)
    noisy_x = again.x.clone()
    noisy_x[::2] += 0.3 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))  # a third is off
    noisy = evaluate(data, noisy_x, None, None, seed=0)
    assert sharp["off_manifold_0.05"] == 0
    assert noisy["off_manifold_0.05"] > 0.3
    assert sharp["score"] == pytest.approx(1 + UNBALANCED[dropped], abs=0.02)
    assert noisy["score"] < sharp["score"] / 2


def test_each_of_the_three_counts() -> None:
    perfect = {"off_manifold_0.05": 0.0, "coverage_0.05_min": 1.0, "mass_tv": 0.0}
    assert score(perfect) == 0
    assert score(perfect | {"off_manifold_0.05": 0.25}) == 0.25
    assert score(perfect | {"coverage_0.05_min": 0.75}) == 0.25
    assert score(perfect | {"mass_tv": 0.25}) == 0.25


def test_a_perfect_sampler_scores_nearly_zero_with_and_without_exact_geometry() -> None:
    data = LinesConfig(weights=UNBALANCED).load()
    again = LinesConfig(n=4000, weights=UNBALANCED, seed=1).load()
    scores = evaluate(data, again.x, None, None, seed=0)
    assert scores["score"] == pytest.approx(0, abs=1e-9)
    by_neighbors = evaluate(replace(data, manifold=None), again.x, None, None, seed=0)
    terms = by_neighbors["off_support_nn99"] + 1 - by_neighbors["coverage_k5_min"] + by_neighbors["mass_tv_nn1"]
    assert by_neighbors["score"] == pytest.approx(terms)
    assert 0 < by_neighbors["score"] < 0.3, "4,000 samples reach few of the 5-neighbor balls of 10,000 points"
    assert evaluate(Dataset(data.x), again.x, None, None, seed=0)["score"] < 0.3


def test_a_data_set_of_few_points_has_no_score() -> None:
    """Among two points all samples lie within the distance from one to the other: each candidate would be perfect."""
    two = Dataset(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    samples = 0.3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    metrics = evaluate(two, samples, None, None, seed=0)
    assert "score" not in metrics
    assert {"off_support_nn99", "coverage_k5"} <= metrics.keys()
    few = Dataset(torch.randn(20, 2, generator=torch.Generator().manual_seed(1)))
    assert "score" in evaluate(few, samples, None, None, seed=0)
