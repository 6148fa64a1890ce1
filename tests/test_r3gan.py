"""R3GAN: its burn-in, its penalties, and several generators with its networks, of which one alone is R3GAN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_systems import make_loop
from torch import Tensor

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.nn.resnet import resnet_trunk
from toposampler.systems import System
from toposampler.systems.game import critic_terms
from toposampler.training import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.run_length import faults

MakeConfig = Callable[..., RunConfig]

SMALL = {
    "system__generator_network": "resnet", "system__critic_network": "resnet", "system__generator_width": 16,
    "system__critic_width": 16, "system__generator_depth": 1, "system__critic_depth": 1, "system__latent__dim": 8,
}  # fmt: skip
ONE = {"system__n_generators": 1, "system__adversarial": "relativistic", "system__penalty__weight": 0.1}


def image_loop(config: RunConfig, shape: tuple[int, ...] = (3, 16, 16)) -> Loop:
    """A loop on 32 random images."""
    data = Dataset(torch.rand(32, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    torch.manual_seed(config.seed)
    system = config.system.build(shape)
    return Loop(system, data, config.training, config.seed, torch.device("cpu"), Placement())


def test_constants_over_a_burn_in(make_config: MakeConfig) -> None:
    """At steps 0, 8, 16 and after 16 of a burn-in of 16 steps: along half a cosine, then constant."""
    keys = {"system__burn_in": 16, "system__penalty": {"weight": 1, "final_weight": 0.1}}
    config = make_config("r3gan", training__ema_decay=0.9, training__learning_rate_decay_from=1, **keys)
    loop = make_loop(config)
    critic, found = loop.players["critic"], []
    for _ in range(20):
        weight = config.system.constants(loop.step, 20)["penalty.weight"]
        decay = loop.ema_decay()
        loop.iteration()
        optimizer = critic.optimizers["critic"]
        found.append((critic.learning_rates[0], *optimizer.betas_at(critic.remaining), weight, decay))
    assert found[0] == (2e-4, 0.0, 0.9, 1.0, 0.0)
    # Half of the way: half of the half-life ln 2 / -ln .9.
    assert found[8] == pytest.approx((1.25e-4, 0.0, 0.945, 0.55, 0.9**2))
    part = (1 - math.cos(math.pi / 4)) / 2
    assert found[4] == pytest.approx((2e-4 - 1.5e-4 * part, 0, 0.9 + 0.09 * part, 1 - 0.9 * part, 0.9 ** (1 / part)))
    for row in found[16:]:
        assert row == pytest.approx((5e-5, 0.0, 0.99, 0.1, 0.9))


def test_adam_takes_the_beta2_and_the_learning_rate_of_the_step(make_config: MakeConfig) -> None:
    """Its moments and steps are those of torch's Adam with the same constants set by hand."""
    loop = make_loop(make_config("r3gan", system__burn_in=6, training__precision="fp64", training__critic_steps=1))
    critic = loop.players["critic"]
    mirror = torch.nn.Parameter(critic.values.clone())
    adam = torch.optim.Adam([mirror], lr=1, betas=(0.0, 0.9))
    descend = critic.descend

    def both(rates: list[float]) -> None:
        left = (1 + math.cos(math.pi * min(loop.step, 6) / 6)) / 2
        adam.param_groups[0] |= {"lr": 5e-5 + 1.5e-4 * left, "betas": (0.0, 0.99 - 0.09 * left)}
        mirror.grad = critic.gradients.clone()
        adam.step()
        descend(rates)

    critic.descend = both  # type: ignore[method-assign, assignment]
    for _ in range(8):
        loop.iteration()
    torch.testing.assert_close(critic.values, mirror.detach(), rtol=0, atol=1e-12)


def test_a_run_without_a_burn_in_follows_its_length_and_one_with_does_not(make_config: MakeConfig) -> None:
    def followed(**keys: Any) -> set[str]:
        config = make_config("r3gan", system__penalty__final_weight=0.01, **keys)
        return {schedule.key for schedule in config.system.schedules(20) if schedule.follows_length_from is not None}

    finals = {f"{player}.final_{what}" for player in ("critic", "generator") for what in ("learning_rate", "beta2")}
    assert followed() == finals | {"penalty.final_weight"}
    assert followed(system__burn_in=5) == set()
    assert any(
        "system.burn_in 21: longer than the run" in fault for fault in faults(make_config("r3gan", system__burn_in=21))
    )


def test_penalties_of_the_residual_critic_are_exact(make_config: MakeConfig) -> None:
    """R1 and R2, and their gradients by the weights, through grouped convolutions, against float64 autograd by hand."""
    loop = image_loop(make_config("r3gan", training__precision="fp64", **SMALL))
    system = loop.system
    for parameter in system.critic.parameters():  # last convolutions of the blocks start at 0
        torch.nn.init.normal_(parameter, std=0.2)
        parameter.requires_grad_()
    (batch,), _ = loop._draw(1)
    batch = replace(batch, fake=loop.data[:8] * 0.7)
    terms = critic_terms(system.critic, batch, system.config)
    for name, x in (("r1", batch.real), ("r2", batch.fakes())):
        at = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(system.critic(at).sum(), at, create_graph=True)
        expected = 0.05 * gradient.square().sum(dim=(1, 2, 3)).mean()
        assert expected > 1e-6
        torch.testing.assert_close(terms[name], expected, rtol=1e-12, atol=0)
        weights = list(system.critic.parameters())
        own, other = (
            torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            for value in (terms[name], expected)
        )
        for a, b in zip(own, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)
    assert any(
        layer.groups == 2 for layer in resnet_trunk((3, 16, 16), 16, 1).modules() if isinstance(layer, torch.nn.Conv2d)
    )


@pytest.mark.parametrize("shared", [False, True])
def test_one_generator_with_a_learned_prior_is_r3gan(shared: bool, make_config: MakeConfig) -> None:
    """Losses, parameters, moments and averages after 3 iterations, to the last bit."""
    optimizer = {"learning_rate": 2e-4, "betas": [0.0, 0.9], "final_learning_rate": 5e-5, "final_beta2": 0.99}
    adam: dict[str, Any] = {"system__generator": optimizer, "system__critic": optimizer}
    keys = SMALL | {"system__burn_in": 4, "training__critic_steps": 1}
    alone = image_loop(make_config("r3gan", **keys))
    mixture = image_loop(make_config("dmgan_pl", **keys, **ONE, **adam, system__shared_trunk=shared))

    def networks(system: System) -> dict[str, Tensor]:
        return {name: x for name, x in system.state_dict().items() if name.startswith(("generators", "critic"))}

    for _ in range(3):
        alone.iteration()
        mixture.iteration()
        terms, other = alone.drain_terms(), mixture.drain_terms()
        assert {name: other[name] for name in terms} == terms
    first, second = networks(alone.system), networks(mixture.system)
    assert sorted(x.numel() for x in first.values()) == sorted(x.numel() for x in second.values())
    for player in ("critic", "generator"):
        n = len(alone.players[player].values)
        assert torch.equal(alone.players[player].values, mixture.players[player].values[:n])
        name = "critic" if player == "critic" else "generators"
        own, theirs = (dict(loop.players[player].moments())[name] for loop in (alone, mixture))
        assert all(torch.equal(own[key], theirs[key]) for key in own)
    assert torch.equal(alone.average, mixture.average)


def test_several_generators_on_a_shared_trunk_learn_bases_of_their_own(make_config: MakeConfig) -> None:
    keys = SMALL | ONE | {"system__n_generators": 3, "system__shared_trunk": True, "training__precision": "fp64"}
    loop = image_loop(make_config("dmgan_pl", **keys))
    before = loop.system.generators.maps.detach().clone()
    for _ in range(2):
        loop.iteration()
    moved = (loop.system.generators.maps.detach() - before).abs().flatten(1).amax(dim=1)
    assert (moved > 0).all()
    z, c = torch.ones(3, 8, dtype=torch.float64), torch.arange(3)
    x = loop.system.generators(z, c)
    assert (x[0] - x[1]).abs().max() > 1e-3


def test_a_game_of_another_kind_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"system\.adversarial"):
        make_config("r3gan", system__adversarial="wasserstein")
