"""`toposampler.fit` where nothing but the data is given: the number of components, their masses, how sure that is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import toposampler
from toposampler.data.digits import DigitsConfig
from toposampler.errors import UserError
from toposampler.fitted import Fitted
from toposampler.training import load_config

TINY = {"training__generator_steps": 3, "training__batch_size": 8, "training__evaluation_samples": 100}
Fit = Callable[..., Fitted]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`toposampler.fit` of three steps, into a folder of the test's own, without figures, most of its time."""
    monkeypatch.setattr("toposampler.training.run.draw_figures", lambda *_: None)
    return lambda data, **keys: toposampler.fit(data, output=tmp_path, **{**TINY, **keys})


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def two(n: int = 400, m: int = 200) -> np.ndarray:
    """Two blobs in units of their own, (n + m, 2)."""
    return np.concatenate([normal(n, 2), normal(m, 2, seed=1) + 30]) * [1, 1000] + [50, -3]


def test_points_get_as_many_generators_as_components_and_the_text_says_how_sure(fit: Fit) -> None:
    data = two()
    fitted = fit(data)
    assert fitted.prior == pytest.approx([2 / 3, 1 / 3])
    text = repr(fitted)
    assert re.match(r"component_gan fitted to 600 points in 2 dimensions: nothing to train, \d+ s\n", text)
    assert "\nfound       2 components in 600 samples (in 100% of random halves too; least prominence " in text
    assert "\nmasses      66.67% [62.80%, 70.32%], 33.33% [29.68%, 37.20%]\n" in text
    assert "\nagainst     a component of less than 2.50% of the data would not be found (600 looked at)" in text
    samples = fitted.sample(2000)
    right = samples[:, 0] > 65
    assert right.mean() == pytest.approx(1 / 3, abs=0.04)
    for side, real in ((samples[~right], data[:400]), (samples[right], data[400:])):
        assert np.abs(side.mean(axis=0) - real.mean(axis=0)).max() < 0.2 * real.std(axis=0).max()
        assert side.std(axis=0) == pytest.approx(real.std(axis=0), rel=0.15)
    system = load_config(fitted.path / "config.yaml").system
    assert (system.name, system.critic_width) == ("component_gan", 128)  # the preset of all points


def test_data_without_a_gap_get_one_generator_and_a_message(fit: Fit) -> None:
    fitted = fit(normal(500, 2))
    assert fitted.prior == pytest.approx([1])
    text = repr(fitted)
    assert "\nagainst     no gap: the most prominent one has " in text
    assert "so all data are taken as one component" in text
    assert "start       no game: samples of the start are like held-out data" in text


def test_images_without_a_gap_get_a_generator_for_each_community(fit: Fit) -> None:
    fitted = fit(DigitsConfig().load().x[:500])
    assert fitted.model.config.system.name == "component_gan"
    assert 5 <= fitted.model.system.K <= 15
    assert fitted.model.config.system.latent.dim == 13, "90 % of the variance within communities"
    assert "principal coordinates of each component; kept as it is, as game is never" in repr(fitted)
    assert f"\ncut         into {fitted.model.system.K} communities of the neighbor graph (modularity" in repr(fitted)


@pytest.mark.parametrize("n", [2, 9])
def test_images_fewer_than_the_report_has_columns(n: int, fit: Fit, drawn: None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    fitted = fit(images)
    assert (fitted.path.parent / "fit" / "figures" / "report.html").stat().st_size > 10_000


def test_images_and_named_systems_are_as_they_are_asked_for(fit: Fit) -> None:
    images = torch.randint(0, 256, (20, 8, 8), dtype=torch.uint8)
    assert fit(images, system="dmgan_pl", system__n_generators=2).model.config.system.name == "dmgan_pl"
    assert fit(images, system__n_generators=2).model.config.system.name == "component_gan"
    points = two(60, 40)
    assert fit(points, system="wgan_gp").model.config.system.name == "wgan_gp"
    assert fit(points, **{"system.name": "dmgan_pl", "system.prior.entropy_decay": 0.9}).model.system.K == 10
    asked = fit(points, system__n_generators=3, system__critic_width=16)
    assert asked.model.system.K == 3
    assert asked.model.config.system.critic_width == 16
    assert "2 components in 100 samples" in repr(asked)
    assert "cut or joined to 3 parts as asked" in repr(asked)


def test_networks_of_one_s_own_are_given_the_component(fit: Fit) -> None:
    def critic(shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Linear(*shape, 16), nn.ReLU())

    fitted = fit(two(60, 40), critic=critic)
    assert fitted.model.system.critic.trunk[0].in_features == 2 + 2
    message = r"input of shape \(4, 4\): .*; component_gan's critic is also given the component, as 2 columns beside "
    with pytest.raises(UserError, match=message + r"the sample's 2: a function \(shape\) to a module fits any number"):
        fit(two(60, 40), critic=critic((2,)))
    assert fit(normal(60, 2), critic=critic((2,))).model.system.K == 1  # of one component the critic is given none


def test_few_points_and_equal_ones(fit: Fit) -> None:
    fitted = fit(two(2, 1))
    text = repr(fitted)
    assert fitted.sample(4).shape == (4, 2)
    assert "3 samples are too few for more than one component: each needs 15 (system.partition.smallest)" in text
    assert "start       it is trained: it has too few samples to tell" in text
    equal = fit(np.full((50, 2), 3.0))
    assert equal.prior == pytest.approx([1])
    assert equal.sample(5) == pytest.approx(np.full((5, 2), 3.0))
    with pytest.raises(UserError, match=r"system\.n_generators 3 is too many: the data have 2 different samples"):
        fit(np.repeat([[0.0, 0], [1, 1]], 20, axis=0), system__n_generators=3)


def test_what_is_not_finite_is_named(fit: Fit, tmp_path: Path) -> None:
    data = two()
    data[38, 1] = np.nan
    with pytest.raises(UserError, match="NaN or infinite values in 1 samples, the first at index 38"):
        fit(data)
    assert not list(tmp_path.iterdir())


def test_ten_thousand_dimensions(fit: Fit) -> None:
    data = np.concatenate([normal(40, 10_000), normal(20, 10_000, seed=1) + 3]).astype(np.float32)
    fitted = fit(data)
    assert fitted.prior == pytest.approx([2 / 3, 1 / 3])
    places = fitted.sample(300).mean(axis=1)
    assert (np.minimum(np.abs(places), np.abs(places - 3)) < 0.2).all(), "each at one of the two, none between"
    assert (places > 1.5).mean() == pytest.approx(1 / 3, abs=0.1)
