"""The dictionary of metrics: a perfect sampler, a mode-dropping one, and what the data cannot tell."""

from __future__ import annotations

import math

import pytest
import torch

from toposampler.data.base import DataConfig, Dataset, SyntheticConfig
from toposampler.data.circles import CirclesConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.lines import LinesConfig
from toposampler.data.spheres import SpheresConfig
from toposampler.metrics import evaluate
from toposampler.metrics.evaluate import evaluation
from toposampler.topology import estimate_components

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("whole_metrics")

UNBALANCED = (0.7, 0.1, 0.1, 0.1)


def blobs(seed: int = 0) -> Dataset:
    """Two labeled clouds of 600 and 200 points in the corners of images, without exact geometry."""
    labels = torch.arange(800) // 600
    x = 0.1 * torch.randn(800, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    x[labels == 1] += 0.5
    return Dataset(x, labels, torch.tensor([0.75, 0.25], dtype=torch.float64))


@pytest.mark.parametrize("weights", [None, UNBALANCED])
def test_a_perfect_sampler_of_lines(weights: tuple[float, ...] | None) -> None:
    data = LinesConfig(weights=weights).load()
    again = LinesConfig(n=4000, weights=weights, seed=1).load()
    assert data.weights is not None
    scores = evaluate(data, again.x, again.labels, data.weights.float(), seed=0)
    assert scores["off_manifold_0.05"] == 0
    assert scores["off_manifold_0.1"] == 0
    assert scores["coverage_0.05_min"] == 1
    assert scores["coverage_0.05_mean"] == 1
    assert scores["jsd_nats"] == pytest.approx(0, abs=1e-12)
    assert scores["prior_tv"] == pytest.approx(0, abs=1e-6)
    assert scores["prior_error_max"] == pytest.approx(0, abs=1e-6)
    assert scores["active_generators"] == 4
    assert [scores[f"mode_mass_{k}"] for k in range(4)] == data.weights.tolist()
    assert 0 < scores["energy_distance_root"] < 0.03
    assert 0 < scores["sliced_wasserstein_2"] < 0.05
    assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize("config", [LinesConfig(), CirclesConfig()], ids=repr)
def test_dropping_a_component_costs_coverage_and_mass_but_not_the_off_manifold_rate(config: DataConfig) -> None:
    data = config.load()
    assert data.labels is not None
    assert data.weights is not None
    kept = data.x[data.labels != 0][:4000]
    scores = evaluate(data, kept, None, None, seed=0)
    assert scores["off_manifold_0.05"] == 0
    assert scores["coverage_0.05_component_0"] == scores["coverage_0.05_min"] == 0
    assert scores["coverage_0.05_component_1"] == 1
    n = len(data.weights)
    assert scores["coverage_0.05_mean"] == pytest.approx((n - 1) / n)
    p = 1 / n  # closed form of the divergence of (0, 1/(n-1), ...) from (1/n, ...), up to the draw of 4,000
    q, m = 1 / (n - 1), (p + 1 / (n - 1)) / 2
    jsd = p * math.log(2) / 2 + (n - 1) / 2 * (p * math.log(p / m) + q * math.log(q / m))
    assert scores["jsd_nats"] == pytest.approx(jsd, rel=0.02)
    assert scores["mode_mass_0"] == 0


@pytest.mark.parametrize(
    ("config", "n_components"),
    [(LinesConfig, 4), (CirclesConfig, 2), (SpheresConfig, 2), (GaussiansConfig, 8)],
)
def test_a_perfect_sampler_has_the_shape_of_the_data(config: type[SyntheticConfig], n_components: int) -> None:
    data, again = config().load(), config(n=2000, seed=1).load()
    assert again.labels is not None
    in_order = again.x[again.labels.argsort()]  # as a system may give them
    scores = evaluate(data, in_order, None, None, seed=0)
    assert scores["components_found"] == scores["components_found_real"] == n_components
    dropped = evaluate(data, again.x[again.labels != 0], None, None, seed=0)
    assert dropped["components_found"] == n_components - 1
    assert dropped["mtop_div_100_1000"] > scores["mtop_div_100_1000"]
    noisy = in_order + 0.1 * torch.randn(in_order.shape, generator=torch.Generator().manual_seed(0))
    assert evaluate(data, noisy, None, None, seed=0)["diagram0_w1_1000"] > 5 * scores["diagram0_w1_1000"]


def test_stray_samples_are_no_components() -> None:
    data = CirclesConfig().load()
    x = CirclesConfig(n=1000, seed=1).load().x
    x[:5] = torch.tensor([[0.0, 0], [0, 2], [0, -2], [-2, 0], [2, 0]])
    assert evaluate(data, x, None, None, seed=0)["components_found"] == 2


def test_samples_off_the_manifold_are_counted_at_each_tau() -> None:
    data = LinesConfig().load()
    outward = data.x[:1000] + 0.07 / math.sqrt(2) * data.x[:1000].sign()
    scores = evaluate(data, outward, None, None, seed=0)
    assert scores["off_manifold_0.05"] == 1
    assert scores["off_manifold_0.1"] == 0
    assert scores["coverage_0.05_mean"] == 0


def test_gaussians_are_judged_by_veegans_protocol() -> None:
    data = GaussiansConfig(layout="grid").load()
    assert data.labels is not None
    scores = evaluate(data, GaussiansConfig(layout="grid", n=5000, seed=1).load().x, None, None, seed=0)
    assert scores["high_quality_3sd"] == pytest.approx(1 - math.exp(-4.5), abs=0.005)
    assert scores["modes_covered_3sd"] == 25
    one_mode = evaluate(data, data.x[data.labels == 7], None, None, seed=0)
    assert one_mode["modes_covered_3sd"] == 1
    assert one_mode["mode_mass_7"] == 1


def test_a_component_without_mass_is_no_part_of_the_support() -> None:
    data = LinesConfig(weights=(0.5, 0.5, 0, 0)).load()
    everywhere = LinesConfig(n=4000).load().x
    scores = evaluate(data, everywhere, None, None, seed=0)
    assert scores["off_manifold_0.1"] == 0.5
    assert scores["coverage_0.05_min"] == 1
    assert "coverage_0.05_component_2" not in scores
    assert scores["mode_mass_2"] == 0


def test_a_wrong_prior_is_measured_by_component() -> None:
    data = LinesConfig(weights=UNBALANCED).load()
    assert data.labels is not None
    ids = torch.where(data.labels == 0, data.labels + 4 * (torch.arange(50_000) % 2), data.labels)  # 0 and 4 share
    prior = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.3, 0.0])
    scores = evaluate(data, data.x[:4000], ids[:4000], prior, seed=0)
    assert scores["prior_tv"] == pytest.approx(0.1, abs=1e-6)
    assert scores["prior_error_max"] == pytest.approx(0.1, abs=1e-6)
    assert scores["active_generators"] == 5


def test_prior_of_a_generator_without_samples_is_wrong_in_full() -> None:
    data = LinesConfig(weights=UNBALANCED).load()
    assert data.labels is not None
    prior = torch.tensor([*(0.8 * w for w in UNBALANCED), 0.2])
    scores = evaluate(data, data.x[:4000], data.labels[:4000], prior, seed=0)
    assert scores["prior_tv"] == pytest.approx(0.2, abs=1e-6)


def test_data_without_geometry_are_judged_by_their_neighbors() -> None:
    data, again = blobs(), blobs(seed=1)
    scores = evaluate(data, again.x, again.labels, data.weights, seed=0)
    assert scores["off_support_nn99"] == pytest.approx(0.01, abs=0.01)
    assert scores["coverage_k5"] > 0.9
    assert scores["jsd_nats_nn1"] == pytest.approx(0, abs=1e-12)
    assert scores["mode_mass_nn1_1"] == 0.25
    assert scores["prior_tv"] == pytest.approx(0, abs=1e-12)
    assert not any(key.startswith(("off_manifold", "coverage_0")) for key in scores)
    assert "jsd_nats" not in scores


def test_dropping_a_label_costs_its_coverage() -> None:
    data, again = blobs(), blobs(seed=1)
    scores = evaluate(data, again.x[:600], None, None, seed=0)
    assert scores["coverage_k5_component_0"] > 0.9
    assert scores["coverage_k5_component_1"] == scores["coverage_k5_min"] == 0
    assert scores["coverage_k5"] == pytest.approx(0.75 * scores["coverage_k5_component_0"])
    assert scores["coverage_k5_mean"] == pytest.approx(0.5 * scores["coverage_k5_component_0"])
    assert scores["mode_mass_nn1_1"] == 0


def test_of_many_components_none_is_named() -> None:
    x = torch.randn(404, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    named, unnamed = (
        evaluate(Dataset(x, labels, torch.bincount(labels).double() / 404), x, None, None, seed=0)
        for labels in (torch.arange(404) % 100, torch.arange(404) % 101)
    )
    assert {f"mode_mass_nn1_{k}" for k in range(100)} | {
        f"coverage_k5_component_{k}" for k in range(100)
    } < named.keys()
    assert not any(key.startswith(("mode_mass", "coverage_k5_component")) for key in unnamed)
    assert unnamed["coverage_k5_min"] == unnamed["coverage_k5_mean"] == 1
    assert unnamed["mass_tv_nn1"] == pytest.approx(0, abs=1e-12)


def test_what_the_data_cannot_tell_is_absent() -> None:
    data = Dataset(blobs().x)
    scores = evaluate(data, data.x, torch.zeros(800, dtype=torch.long), torch.ones(1), seed=0)
    assert scores.keys() == {
        "energy_distance_root",
        "sliced_wasserstein_2",
        "diagram0_w1_800",
        "mtop_div_100_800",
        "off_support_nn99",
        "coverage_k5",
        "active_generators",
        "score",
    }


def test_components_are_counted_of_points_alone() -> None:
    data, names = blobs(), {"components_found", "components_found_real"}
    points = Dataset(data.x.flatten(1), data.labels, data.weights)
    assert names <= evaluate(points, points.x, None, None, seed=0).keys()
    assert not names & evaluate(data, data.x, None, None, seed=0).keys()


def test_the_clouds_are_those_that_components_were_counted_of() -> None:
    data = GaussiansConfig().load()
    found = evaluation(data, data.x[data.labels != 0], None, None, seed=0)
    for cloud, name, count in ((found.real_cloud, "components_found_real", 8), (found.cloud, "components_found", 7)):
        assert cloud.shape == (1000, 2)
        assert estimate_components(cloud).count == found.metrics[name] == count


def test_a_label_lost_among_the_chosen_real_points_is_absent() -> None:
    data = blobs()
    data = Dataset(torch.cat((data.x, data.x[:1])), torch.cat((data.labels, torch.tensor([2]))), torch.ones(3) / 3)
    scores = evaluate(data, data.x, None, None, seed=0, max_real=20)
    assert all(math.isfinite(value) for value in scores.values())
    assert "coverage_k5_component_2" not in scores


def test_the_same_seed_gives_the_same_scores() -> None:
    data, x = LinesConfig().load(), torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert evaluate(data, x, None, None, seed=0) == evaluate(data, x, None, None, seed=0)
    assert evaluate(data, x, None, None, seed=0) != evaluate(data, x, None, None, seed=1)


def test_a_perfect_copy_is_at_no_distance() -> None:
    data = LinesConfig(n=1000).load()
    scores = evaluate(data, data.x, None, None, seed=0)
    assert scores["energy_distance_root"] == pytest.approx(0, abs=1e-4)
    assert scores["sliced_wasserstein_2"] == pytest.approx(0, abs=1e-9)
    assert scores["diagram0_w1_1000"] == pytest.approx(0, abs=1e-9)
    assert scores["mtop_div_100_1000"] == pytest.approx(0, abs=1e-6)


def test_badly_scaled_samples_are_judged_all_the_same() -> None:
    data = LinesConfig().load()
    for scale in (1e-30, 1e30):
        scores = evaluate(data, scale * data.x[:500], None, None, seed=0)
        assert all(math.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    x = torch.zeros(10, 2)
    x[3, 1] = x[5, 0] = value
    with pytest.raises(ValueError, match="2 of 10 samples are not finite"):
        evaluate(LinesConfig().load(), x, None, None, seed=0)
