"""Divergences of masses and distances of clouds: closed forms, identities, an independent library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, jensenshannon
from torch import Tensor

from toposampler.metrics.distance import (
    energy_distance,
    median_distance,
    mmd2_unbiased_gaussian,
    sliced_wasserstein,
    wasserstein_2,
)
from toposampler.metrics.divergence import jsd, total_variation
from toposampler.metrics.pairwise import mean_distance

torch.set_num_threads(1)

PAIRS_OF_MASSES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8).filter(
    lambda pairs: all(map(sum, zip(*pairs, strict=True)))
)


def masses(counts: tuple[int, ...]) -> Tensor:
    return torch.tensor(counts, dtype=torch.float64) / sum(counts)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(PAIRS_OF_MASSES)
def test_jsd_agrees_with_scipy_and_is_symmetric(pairs: list[tuple[int, int]]) -> None:
    p, q = (masses(counts) for counts in zip(*pairs, strict=True))
    assert jsd(p, q) == pytest.approx(float(np.nan_to_num(jensenshannon(p, q))) ** 2, abs=1e-9)
    assert jsd(p, q) == jsd(q, p)
    assert 0 <= jsd(p, q) <= math.log(2) + 1e-12


@settings(deadline=None)
@given(PAIRS_OF_MASSES)
def test_equal_masses_have_no_divergence(pairs: list[tuple[int, int]]) -> None:
    p = masses(next(zip(*pairs, strict=True)))
    assert jsd(p, p) == pytest.approx(0, abs=1e-15)
    assert total_variation(p, p) == 0


def test_disjoint_masses_are_as_far_apart_as_can_be() -> None:
    p, q = masses((1, 1, 0, 0)), masses((0, 0, 3, 1))
    assert jsd(p, q) == pytest.approx(math.log(2), abs=1e-12)
    assert total_variation(p, q) == 1


def test_total_variation_by_hand() -> None:
    assert total_variation(masses((7, 1, 1, 1)), masses((1, 1, 1, 1))) == pytest.approx(0.45)


@pytest.mark.parametrize("d", [1, 2, 6, 7, 40], ids="d{}".format)
def test_mean_distances_agree_with_scipy(d: int) -> None:
    """In few dimensions and in many, within a block and over several; equal points are 0 apart."""
    x, y = torch.randn(1500, d, generator=seeded()), torch.randn(700, d, generator=seeded(1))
    x[3] = x[1400]
    assert mean_distance(x, y) == pytest.approx(cdist(x.double(), y.double()).mean(), rel=1e-12)
    # A matrix product makes the distance of a point to itself 1e-7 in place of 0.
    assert mean_distance(x, x) == pytest.approx(cdist(x.double(), x.double()).mean(), rel=1e-12 if d < 25 else 1e-10)


def test_energy_distance_of_point_masses() -> None:
    x, y = torch.zeros(3, 2), torch.tensor([[3.0, 4.0]]).expand(5, 2)
    assert energy_distance(x, y) == pytest.approx(10, abs=1e-6)


def test_energy_distance_agrees_with_scipy_on_the_line() -> None:
    x, y = torch.randn(1200, 1, generator=seeded()), 1 + 2 * torch.rand(150, 1, generator=seeded())  # two blocks
    expected = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_energy_distance_identities() -> None:
    x, y = torch.randn(100, 3, generator=seeded()), torch.randn(70, 3, generator=seeded(1)) + 0.5
    value = energy_distance(x, y)
    assert value > 0.1
    assert energy_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-9)
    assert energy_distance(y, x) == pytest.approx(value, rel=1e-9)
    assert energy_distance(x + 7, y + 7) == pytest.approx(value, rel=1e-5)
    assert energy_distance(10 * x, 10 * y) == pytest.approx(10 * value, rel=1e-5)


def test_energy_distance_of_a_collapsed_cloud_far_from_the_origin_keeps_its_digits() -> None:
    x = torch.tensor([[10.0, 10.0]]).expand(100, 2)
    y = x + torch.tensor([0.0, 2.0**-10])
    assert energy_distance(x, y) == pytest.approx(2 * 2.0**-10, rel=1e-3)


def test_sliced_wasserstein_on_the_line_is_the_wasserstein_distance() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [2.0]])
    assert sliced_wasserstein(x, y, 3, seeded()) == pytest.approx(math.sqrt((2**2 + 4**2) / 2))


def test_sliced_wasserstein_of_unequal_sizes_by_hand() -> None:
    x, y = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [3.0], [6.0]])
    # quantiles on [0, 1/3], [1/3, 1/2], [1/2, 2/3], [2/3, 1]: 0-0, 0-3, 3-3, 3-6
    assert sliced_wasserstein(x, y, 3, seeded()) == pytest.approx(math.sqrt(9 / 6 + 9 / 3))


def test_sliced_wasserstein_does_not_see_repetition_or_order() -> None:
    x, y = torch.randn(40, 2, generator=seeded()), torch.randn(40, 2, generator=seeded(1)) + 1
    value = sliced_wasserstein(x, y, 50, seeded(2))
    assert value > 0.5
    assert sliced_wasserstein(x.repeat(3, 1), y.flip(0), 50, seeded(2)) == pytest.approx(value, rel=1e-9)
    assert sliced_wasserstein(x, x.repeat(2, 1), 50, seeded(2)) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_of_a_shift() -> None:
    x = torch.randn(30, 3, generator=seeded())
    shift = torch.tensor([1.0, -2.0, 2.0])
    value = sliced_wasserstein(x, x + shift, 20_000, seeded())
    assert value == pytest.approx(3 / math.sqrt(3), rel=0.02)  # E (u . s)^2 = |s|^2 / d


def test_wasserstein_of_two_points_in_closed_form() -> None:
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert wasserstein_2(x, y) == pytest.approx(math.sqrt((1 + 4) / 2), rel=1e-12)  # straight up, not across


def test_wasserstein_on_a_line_is_that_of_sorted_points() -> None:
    x, y = torch.randn(200, 1, generator=seeded(0)), 2 * torch.randn(200, 1, generator=seeded(1))
    expected = (x.double().sort(dim=0).values - y.double().sort(dim=0).values).square().mean().sqrt()
    assert wasserstein_2(x, y) == pytest.approx(float(expected), rel=1e-12)


def test_wasserstein_of_a_shift_is_its_length_in_any_order_and_rotation() -> None:
    x, y = torch.randn(100, 3, generator=seeded(0)).double(), torch.randn(100, 3, generator=seeded(1)).double()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=seeded(2)).double()).Q
    assert wasserstein_2(x, x.flip(0) + torch.tensor([3.0, 0.0, 4.0])) == pytest.approx(5, rel=1e-12)
    assert wasserstein_2(x.flip(0) @ rotation, y @ rotation) == pytest.approx(wasserstein_2(x, y), rel=1e-12)
    assert wasserstein_2(x, x) == 0


def test_an_assignment_needs_as_many_of_both() -> None:
    with pytest.raises(ValueError, match="as many of both, got 3 and 2 points"):
        wasserstein_2(torch.zeros(3, 2), torch.zeros(2, 2))


def test_mmd_agrees_with_the_mean_over_all_pairs() -> None:
    x, y = (i + torch.randn(n, 3, generator=seeded(i)).double() for i, n in enumerate((1100, 90)))  # x: two blocks

    def kernel(a: Tensor, b: Tensor) -> np.ndarray:
        return np.exp(-cdist(a.numpy(), b.numpy(), "sqeuclidean") / (2 * 1.5**2))

    off_diagonal = [k[~np.eye(len(k), dtype=bool)].mean() for k in (kernel(x, x), kernel(y, y))]
    expected = sum(off_diagonal) - 2 * kernel(x, y).mean()
    assert mmd2_unbiased_gaussian(x, y, bandwidth=1.5) == pytest.approx(expected, rel=1e-9)


def test_mmd_is_unbiased_between_equal_gaussians_and_exact_between_shifted_ones() -> None:
    """For N(0, 1) and N(a, 1) in one dimension, MMD^2 = 2 s / sqrt(s^2 + 2) (1 - exp(-a^2 / (2 (s^2 + 2))))."""
    s, a = 1.0, 1.0
    pairs = [torch.randn(2, 200, 1, generator=seeded(i)) for i in range(40)]
    equal = [mmd2_unbiased_gaussian(x, y, s) for x, y in pairs]
    shifted = [mmd2_unbiased_gaussian(x, y + a, s) for x, y in pairs]
    expected = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-(a**2) / (2 * (s**2 + 2))))
    assert min(equal) < 0 < max(equal)
    for values, mean in ((equal, 0.0), (shifted, expected)):
        assert abs(np.mean(values) - mean) < 4 * np.std(values) / math.sqrt(len(values))


def test_median_distance_of_three_points() -> None:
    assert median_distance(torch.tensor([[0.0], [1.0], [5.0]])) == 4


def test_median_distance_leaves_out_pairs_of_equal_points() -> None:
    assert median_distance(torch.tensor([[0.0]] * 10 + [[3.0]])) == 3
    assert median_distance(torch.zeros(10, 2)) == 0
