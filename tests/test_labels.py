"""Smoothed and noisy labels of logistic games: the critic's loss by hand, when they are drawn, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_systems import make_loop

from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.losses import gan
from toposampler.systems.batch import Batch
from toposampler.systems.labels import LabelConfig, critic_terms
from toposampler.training import RunConfig

MakeConfig = Callable[..., RunConfig]
LOGISTIC = ("bigan", "deligan", "infogan", "mdgan", "mgan", "pacgan", "veegan")
SCORES = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def batch(exchanged: list[list[bool]] | None = None) -> Batch:
    noise = {} if exchanged is None else {"exchanged": torch.tensor(exchanged)}
    return Batch(torch.zeros(2, 1), noise, torch.zeros(2, 1), 0, 1)


def cross_entropy(t: float, score: float) -> float:
    p = 1 / (1 + math.exp(-score))
    return -t * math.log(p) - (1 - t) * math.log(1 - p)


def test_smoothed_labels_are_of_real_samples_alone() -> None:
    terms = critic_terms(*SCORES, batch(), LabelConfig(label_smoothing=0.2))
    assert float(terms["real"]) == pytest.approx((cross_entropy(0.8, 2) + cross_entropy(0.8, -1)) / 2)
    assert float(terms["fake"]) == pytest.approx((cross_entropy(0, 0.5) + cross_entropy(0, -3)) / 2)


def test_exchanged_labels_are_those_of_the_other_kind() -> None:
    """The first real sample has a generated one's label, the second generated one a smoothed real one's."""
    keys = LabelConfig(label_smoothing=0.1, label_noise=0.3)
    terms = critic_terms(*SCORES, batch([[True, False], [False, True]]), keys)
    assert float(terms["real"]) == pytest.approx((cross_entropy(0, 2) + cross_entropy(0.9, -1)) / 2)
    assert float(terms["fake"]) == pytest.approx((cross_entropy(0, 0.5) + cross_entropy(0.9, -3)) / 2)


def test_plain_labels_are_goodfellow_s_loss_to_the_last_bit() -> None:
    terms, plain = critic_terms(*SCORES, batch(), LabelConfig()), gan.critic_terms(*SCORES)
    assert {name: float(x) for name, x in terms.items()} == {name: float(x) for name, x in plain.items()}


@pytest.mark.parametrize("system", LOGISTIC)
def test_the_loss_of_each_logistic_system_changes_and_its_generators_do_not(
    system: str, make_config: MakeConfig
) -> None:
    keys = {"system__adversarial__label_smoothing": 0.2, "system__adversarial__label_noise": 0.4}
    plain, other = make_loop(make_config(system)), make_loop(make_config(system, **keys))
    (drawn, *_), noise = other._draw(other.config.critic_steps + 1)
    assert noise["exchanged"].dtype == torch.bool
    assert "exchanged" not in plain.system.draw(1, 8, plain.rng, training=True)
    assert "exchanged" not in other.system.draw(1, 8, other.rng)
    given = replace(drawn, fake=other.system.generate(drawn.noise).detach())
    losses = [float(sum(loop.system.critic_loss(given).values())) for loop in (plain, other)]
    assert abs(losses[0] - losses[1]) > 1e-3
    of_generators = [float(loop.system.generator_loss(drawn)["adversarial"]) for loop in (plain, other)]
    assert of_generators[0] == of_generators[1]
    other.iteration()


def test_as_many_labels_are_exchanged_as_asked_for(make_config: MakeConfig) -> None:
    system = make_loop(make_config("pacgan", system__adversarial__label_noise=0.1)).system
    drawn = system.draw(1, 20_000, torch.Generator().manual_seed(0), training=True)["exchanged"]
    assert drawn.shape == (1, 20_000, 2)
    assert drawn.double().mean(dim=(0, 1)).tolist() == pytest.approx([0.1, 0.1], abs=0.01)


@pytest.mark.parametrize("system", ["wgan_gp", "dmgan_pl", "component_gan", "r3gan", "sn_gan", "mad_gan"])
def test_other_games_refuse_labels(system: str, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=rf"label_smoothing: the critic of {system} has no labels.*pacgan"):
        make_config(system, system__adversarial__label_smoothing=0.1)


def test_labels_that_mean_nothing_are_refused() -> None:
    for keys in ({"label_noise": 0.5}, {"label_smoothing": -0.1}):
        with pytest.raises(UserError, match=next(iter(keys))):
            validate(LabelConfig, keys)
