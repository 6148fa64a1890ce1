"""Losses against closed forms, and the explicit input gradient against double backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from toposampler.losses import mixture, wasserstein
from toposampler.losses.wasserstein import PenaltyConfig
from toposampler.nn import networks
from toposampler.nn.critic import Critic


def linear_critic(slope: float) -> Critic:
    """D(x) = slope * x_0, written with a trunk that is the identity for x_0 > 0."""
    critic = Critic([nn.Linear(2, 2, bias=False), nn.LeakyReLU(1.0)], 2)
    with torch.no_grad():
        critic.trunk[0].weight.copy_(torch.eye(2))
        critic.head.weight.copy_(torch.tensor([[slope, 0.0]]))
        critic.head.bias.zero_()
    return critic


def test_critic_terms_of_a_linear_critic() -> None:
    real, fake = torch.tensor([[2.0, 5.0], [4.0, 5.0]]), torch.tensor([[1.0, 7.0], [1.0, 9.0]])
    terms = wasserstein.critic_terms(linear_critic(3.0), real, fake, torch.tensor([0.1, 0.9]), PenaltyConfig(weight=10))
    assert terms["real"].item() == pytest.approx(-9.0)
    assert terms["fake"].item() == pytest.approx(3.0)
    assert terms["penalty"].item() == pytest.approx(10 * (3 - 1) ** 2)


@pytest.mark.parametrize(("sides", "expected"), [("one-sided", 0.0), ("two-sided", 0.25)])
def test_only_the_two_sided_penalty_minds_a_flat_critic(sides: wasserstein.Sides, expected: float) -> None:
    gradient = torch.tensor([[0.3, 0.4], [0.0, 0.5]])  # norms .5
    assert wasserstein.gradient_penalty(gradient, sides).item() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (1, 28, 28), (3, 17, 17)])
def test_explicit_input_gradient_equals_double_backward(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    critic = networks.critic(shape, 16).double()
    x = torch.randn(6, *shape, dtype=torch.float64)

    scores, gradient = critic.scores_and_gradient(x, n_gradient=4)
    wasserstein.gradient_penalty(gradient, "two-sided").backward()
    explicit = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in critic.parameters()]

    critic.zero_grad()
    x.requires_grad_()
    (reference,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    wasserstein.gradient_penalty(reference[-4:], "two-sided").backward()

    assert torch.allclose(scores, critic(x), atol=1e-12)
    assert torch.allclose(gradient, reference[-4:], atol=1e-12)
    for ours, parameter in zip(explicit, critic.parameters(), strict=True):
        theirs = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_a_critic_refuses_layers_it_cannot_pull_back() -> None:
    critic = Critic([nn.Linear(2, 3), nn.Tanh()], 3)
    with pytest.raises(TypeError, match="not Tanh"):
        critic.scores_and_gradient(torch.randn(2, 2), n_gradient=1)


def test_information_of_a_blind_and_of_a_certain_encoder() -> None:
    c = torch.tensor([0, 1, 2, 1])
    assert mixture.information(torch.zeros(4, 3), c).item() == pytest.approx(math.log(3))
    certain = 100 * nn.functional.one_hot(c, 3).float()
    assert mixture.information(certain, c).item() == pytest.approx(0.0, abs=1e-6)


def test_cross_entropy_is_least_at_the_mean_posterior() -> None:
    posterior = torch.rand(50, 4).softmax(dim=1)
    best = mixture.cross_entropy(posterior, posterior.mean(0).log())
    assert best.item() == pytest.approx(mixture.entropy(posterior.mean(0).log()).item(), abs=1e-6)
    for _ in range(20):
        other = torch.randn(4).log_softmax(0)
        assert mixture.cross_entropy(posterior, other) > best


def test_entropy_of_uniform_and_of_certain_priors() -> None:
    assert mixture.entropy(torch.full((8,), 1 / 8).log()).item() == pytest.approx(math.log(8))
    assert mixture.entropy(torch.tensor([50.0, 0.0, 0.0]).log_softmax(0)).item() == pytest.approx(0.0, abs=1e-6)
