"""Metrics through a classifier: masses of classes, quality, modes of stacked digits, and variety along a class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from toposampler.metrics.classes import confident_classes, inter_mode_jsd, quality_curve, stacked_modes
from toposampler.metrics.geodesic import geodesic_variety, intra_mode_msd

torch.set_num_threads(1)


def sure_of(classes: list[int], probability: float, n_classes: int = 4) -> torch.Tensor:
    """Softmax outputs (n, n_classes) that give `probability` to each of `classes` and share the rest."""
    p = torch.full((len(classes), n_classes), (1 - probability) / (n_classes - 1), dtype=torch.float64)
    p[range(len(classes)), classes] = probability
    return p


def test_a_sample_counts_from_a_probability_of_point_eight_on() -> None:
    p = torch.cat((sure_of([2], 0.8), sure_of([1], 0.79)))
    assert confident_classes(p).tolist() == [2, -1]


def test_inter_mode_jsd_agrees_with_scipy_and_leaves_out_the_unsure() -> None:
    p = torch.cat((sure_of([0] * 5 + [1] * 3 + [2] * 2, 0.9), sure_of([3] * 30, 0.5)))
    found = inter_mode_jsd(p, torch.full((4,), 0.25))
    assert found["jsd_nats_conf0.8"] == pytest.approx(jensenshannon([0.5, 0.3, 0.2, 0], [0.25] * 4) ** 2, abs=1e-12)
    assert found["confident_0.8"] == 0.25
    assert found["jsd_nats_argmax"] == pytest.approx(jensenshannon([0.125, 0.075, 0.05, 0.75], [0.25] * 4) ** 2)


def test_dropping_a_mode_raises_the_jsd_and_order_does_not_matter() -> None:
    real = torch.full((4,), 0.25)
    all_modes, dropped = sure_of([0, 1, 2, 3] * 5, 0.9), sure_of([0, 1, 2, 2] * 5, 0.9)
    assert inter_mode_jsd(all_modes, real)["jsd_nats_conf0.8"] == pytest.approx(0, abs=1e-12)
    assert inter_mode_jsd(dropped, real)["jsd_nats_conf0.8"] > 0.1
    assert inter_mode_jsd(dropped.flip(0), real) == inter_mode_jsd(dropped, real)


def test_without_a_confident_sample_the_jsd_is_its_largest() -> None:
    found = inter_mode_jsd(sure_of([0, 1, 2, 3], 0.5), torch.full((4,), 0.25))
    by_argmax = {"jsd_nats_argmax": 0.0, "mass_tv_argmax": 0.0}
    assert found == {"jsd_nats_conf0.8": math.log(2), "confident_0.8": 0.0, **by_argmax}


def test_quality_curve_counts_who_is_at_least_that_sure() -> None:
    p = torch.cat((sure_of([0], 0.5), sure_of([1, 2], 0.75), sure_of([3], 1.0)))
    assert quality_curve(p, [0.0, 0.5, 0.6, 0.75, 0.9, 1.0]) == [1, 1, 0.75, 0.75, 0.25, 0.25]


def test_stacked_modes_agree_with_numpy_and_scipy() -> None:
    rng = np.random.default_rng(0)
    digits, real = rng.integers(0, 7, (3000, 3)), rng.integers(0, 10, (5000, 3))
    found = stacked_modes(torch.from_numpy(digits), torch.from_numpy(real))
    assert found["modes_of_1000"] == len({tuple(triple) for triple in digits.tolist()})
    p, q = np.zeros((10, 10, 10)), np.ones((10, 10, 10))
    np.add.at(p, tuple(digits.T), 1)
    np.add.at(q, tuple(real.T), 1)
    assert found["mode_kl_nats"] == pytest.approx(entropy(p.ravel(), q.ravel()), abs=1e-12)


def test_stacked_modes_in_closed_form() -> None:
    every = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert stacked_modes(every, every) == {"modes_of_1000": 1000, "mode_kl_nats": pytest.approx(0, abs=1e-12)}
    one = stacked_modes(every[:1].repeat(50, 1), every)
    assert one == {"modes_of_1000": 1, "mode_kl_nats": pytest.approx(math.log(1000))}


def swiss_roll(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (n, 3) of the roll (t cos t, h, t sin t), and the same unrolled isometrically, (n, 2)."""
    rng = np.random.default_rng(seed)
    t, h = rng.uniform(1.5 * np.pi, 4.5 * np.pi, n), rng.uniform(0, 10, n)
    length = (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2  # of the spiral from 0 to t
    roll = np.stack((t * np.cos(t), h, t * np.sin(t)), axis=1)
    return torch.from_numpy(roll), torch.from_numpy(np.stack((length, h), axis=1))


def test_geodesics_on_a_swiss_roll_have_the_length_of_the_unrolled_plane() -> None:
    roll, unrolled = swiss_roll(2000, seed=0)
    analytic = float(torch.nn.functional.pdist(unrolled).square().mean())
    straight = float(torch.nn.functional.pdist(roll).square().mean())
    found = geodesic_variety(roll, k=15)  # paths zigzag, less so the more neighbors
    assert found.unreachable == 0
    assert found.msd == pytest.approx(analytic, rel=0.05)
    assert found.msd > 5 * straight


def test_geodesics_on_a_line_in_closed_form() -> None:
    chain = geodesic_variety(torch.arange(4.0)[:, None], k=2)
    assert chain.msd == pytest.approx((3 * 1 + 2 * 4 + 1 * 9) / 6)
    assert chain.authors_msd == 2 * chain.msd
    assert (chain.unreachable, chain.n) == (0, 4)


def test_unreachable_pairs_are_counted() -> None:
    line = torch.arange(4.0)[:, None]
    apart = geodesic_variety(torch.cat((line, line + 1000)), k=2)
    assert apart.unreachable == pytest.approx(1 - 2 * 12 / 56)
    assert apart.msd == pytest.approx((3 * 1 + 2 * 4 + 1 * 9) / 6)


def test_variety_keeps_under_rotation_and_order_and_scales_with_its_square() -> None:
    roll, _ = swiss_roll(200, seed=1)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    msd = geodesic_variety(roll, k=6).msd
    assert geodesic_variety(roll.flip(0) @ rotation, k=6).msd == pytest.approx(msd, rel=1e-9)
    assert geodesic_variety(3 * roll, k=6).msd == pytest.approx(9 * msd, rel=1e-9)


def test_equal_points_have_no_variety_and_still_reach_each_other() -> None:
    found = geodesic_variety(torch.ones(5, 2), k=6)
    assert (found.msd, found.unreachable) == (0, 0)
    assert geodesic_variety(torch.ones(1, 2), k=6).n == 1


def test_intra_mode_msd_takes_the_first_thousand_confident_images_of_each_class() -> None:
    x = torch.rand(2300, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    p = torch.cat((sure_of([0] * 1100, 0.9, 3), sure_of([0] * 100, 0.5, 3), sure_of([1] * 1100, 0.9, 3)))
    x[1200:] *= 0.5
    first, second, none = intra_mode_msd(x, p, x, p)
    assert (first.samples.n, second.samples.n, none.samples.n) == (1000, 1000, 0)
    assert first.samples == first.real == geodesic_variety(x[:1000].flatten(1), k=6)
    assert second.samples.msd == pytest.approx(first.samples.msd / 4, rel=0.1)
    colored, sure = x[:50].expand(-1, 3, -1, -1), torch.ones(50, 1)
    (color,) = intra_mode_msd(colored, sure, colored, sure)
    assert color.samples == geodesic_variety(colored.flatten(1), k=18)


def test_intra_mode_msd_compares_as_many_samples_as_real_images() -> None:
    x = torch.rand(900, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    (few,) = intra_mode_msd(x[:100], torch.ones(100, 1), x[100:], torch.ones(800, 1))
    assert (few.samples.n, few.real.n, few.n_real) == (100, 100, 800)
    assert few.ratio == pytest.approx(1, abs=0.2)
    (none,) = intra_mode_msd(x[:0], torch.ones(0, 1), x, torch.ones(900, 1))
    assert none.ratio == 0, "a class of the data that is missing"
    (absent,) = intra_mode_msd(x, torch.ones(900, 1), x[:1], torch.ones(1, 1))
    assert absent.ratio is None, "no class of the data"
