"""Two samples told apart by their nearest neighbors: against the integral, and where there is nothing to tell."""

from __future__ import annotations

import pytest
import torch

from toposampler.metrics.two_sample import triangular_discrimination


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_estimates_the_integral_of_two_normal_distributions() -> None:
    shift = 1.5
    grid = torch.linspace(-8, 10, 20_001, dtype=torch.float64)
    p, q = ((-0.5 * (grid - m).square()).exp() / (2 * torch.pi) ** 0.5 for m in (0.0, shift))
    exact = 0.5 * float(torch.trapezoid((p - q).square() / (p + q), grid))
    y = normal(2000, 1)
    y[:, 0] += shift
    delta, deviation = triangular_discrimination(normal(2000, 0), y)
    assert delta == pytest.approx(exact, abs=4 * deviation)
    assert exact > 0.3 > 10 * deviation


def test_a_share_of_samples_off_the_support_counts_half_at_least() -> None:
    y = normal(2000, 1)
    y[:400] += 50
    delta, deviation = triangular_discrimination(normal(2000, 0), y)
    assert delta > 0.1 - 3 * deviation
    assert delta < 0.2


def test_the_same_distribution_is_within_chance() -> None:
    found = [triangular_discrimination(normal(500, 2 * i), normal(500, 2 * i + 1)) for i in range(10)]
    assert max(abs(delta) / deviation for delta, deviation in found) < 3.5
    assert sum(delta > 0 for delta, _ in found) not in (0, 10)


def test_disjoint_samples_are_as_far_apart_as_can_be_and_copies_are_not() -> None:
    x = normal(200, 0)
    delta, _ = triangular_discrimination(x, x + 100)
    assert delta == pytest.approx(1, abs=0.1)
    same = torch.zeros(100, 2)
    delta, deviation = triangular_discrimination(same, same)
    assert delta <= 3 * deviation


def test_too_few_points_tell_nothing_and_unequal_numbers_are_refused() -> None:
    assert triangular_discrimination(normal(3, 0), normal(3, 1)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="20 and 10 points"):
        triangular_discrimination(normal(20, 0), normal(10, 1))
