"""Losses against closed forms, and the explicit input gradient against double backward."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import nn

from toposampler.losses import gan, mixture, wasserstein
from toposampler.nn import networks
from toposampler.nn.critic import ClassCritic, Critic
from toposampler.systems import game
from toposampler.systems.batch import Batch
from toposampler.systems.game import GameConfig, PenaltyConfig


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
    batch = Batch(real, {"epsilon": torch.tensor([0.1, 0.9])}, fake, 0, 1)
    terms = game.critic_terms(linear_critic(3.0), batch, GameConfig(penalty=PenaltyConfig(weight=10)))
    assert terms["real"].item() == pytest.approx(-9.0)
    assert terms["fake"].item() == pytest.approx(3.0)
    assert terms["penalty"].item() == pytest.approx(10 * (3 - 1) ** 2)


def test_terms_of_logits_and_of_hinges_against_their_closed_forms() -> None:
    weights = torch.tensor([0.5, 1.5]) / 2
    real, fake = torch.tensor([0.0, math.log(3)]), torch.tensor([math.log(3), 0.0])  # probabilities 1/2 and 3/4

    terms = gan.critic_terms(real, fake, fake_weights=weights)
    assert terms["real"].item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert terms["fake"].item() == pytest.approx((0.5 * math.log(4) + 1.5 * math.log(2)) / 2)
    assert gan.generator_loss(fake, weights).item() == pytest.approx((0.5 * math.log(4 / 3) + 1.5 * math.log(2)) / 2)
    assert gan.saturating_generator_loss(fake, weights).item() == pytest.approx(-terms["fake"].item())

    terms = gan.hinge_critic_terms(torch.tensor([0.25, 2.0]), torch.tensor([-3.0, 0.5]), fake_weights=weights)
    assert terms["real"].item() == pytest.approx((0.75 + 0) / 2)
    assert terms["fake"].item() == pytest.approx((0.5 * 0 + 1.5 * 1.5) / 2)


def test_relativistic_terms_of_a_linear_critic() -> None:
    real, fake = torch.tensor([[2.0, 5.0], [4.0, 5.0]]), torch.tensor([[1.0, 7.0], [1.0, 9.0]])
    batch = Batch(real, {"weight": torch.tensor([0.5, 1.5])}, fake, 0, 1)
    critic = linear_critic(3.0)
    relativistic = GameConfig(adversarial="relativistic", penalty=PenaltyConfig(weight=0.1))
    terms = game.critic_terms(critic, batch, relativistic)
    assert terms["pairs"].item() == pytest.approx((0.5 * math.log1p(math.exp(-3)) + 1.5 * math.log1p(math.exp(-9))) / 2)
    assert terms["r1"].item() == pytest.approx(0.05 * 9)
    assert terms["r2"].item() == pytest.approx(0.05 * 9)
    losses = game.generator_losses(critic, critic(fake), batch, relativistic)
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(3)), math.log1p(math.exp(9))])


def finite(epsilon: float = 0.01) -> GameConfig:
    penalty = PenaltyConfig(weight=0.1, gradient="finite_difference", epsilon=epsilon)
    return GameConfig(adversarial="relativistic", penalty=penalty)


def test_finite_differences_of_a_linear_critic_are_exact() -> None:
    real, fake = torch.tensor([[2.0, 5.0], [4.0, 5.0]]), torch.tensor([[1.0, 7.0], [1.0, 9.0]])
    directions = torch.tensor([[[1.0, 3.0], [2.0, 3.0]], [[-1.0, 3.0], [0.5, 3.0]]])  # (n, real and fake, 2)
    terms = game.critic_terms(linear_critic(3.0), Batch(real, {"direction": directions}, fake, 0, 1), finite())
    assert terms["r1"].item() == pytest.approx(0.05 * (3**2 + 3**2) / 2, rel=1e-4)
    assert terms["r2"].item() == pytest.approx(0.05 * (6**2 + 1.5**2) / 2, rel=1e-4)


def test_finite_differences_are_within_5_percent_of_the_exact_penalty() -> None:
    """At the default epsilon: over 40,000 directions, whose own error is 1.5 % here."""
    torch.manual_seed(0)
    critic = Critic(nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU()), 32).double()
    x, e = torch.randn(1, 3, dtype=torch.float64), torch.randn(40_000, 3, dtype=torch.float64)
    _, slopes = game.scores_and_slopes(critic, x.expand(len(e), -1), e, PenaltyConfig().epsilon)
    _, gradient = critic.scores_and_gradient(x)
    assert slopes.square().mean().item() == pytest.approx(gradient.square().sum().item(), rel=0.05)


def test_the_bias_of_finite_differences_is_the_formulas() -> None:
    """Of a quadratic function, whose third derivatives are 0."""
    torch.manual_seed(0)
    b, H, e = (torch.randn(*size, dtype=torch.float64) for size in ((3,), (3, 3), (400_000, 3)))
    H = H + H.T
    _, slopes = game.scores_and_slopes(lambda at: at @ b + (at @ H * at).sum(1) / 2, torch.zeros_like(e), e, 0.5)
    bias = 0.25 * (H.square().sum() / 2 + H.trace().square() / 4)
    assert bias > b.square().sum() / 4
    assert slopes.square().mean().item() == pytest.approx((b.square().sum() + bias).item(), rel=0.01)


def test_finite_differences_are_of_a_relativistic_game() -> None:
    with pytest.raises(ValueError, match=r"penalty\.gradient finite_difference is for adversarial relativistic"):
        GameConfig(penalty=PenaltyConfig(gradient="finite_difference"))


def test_a_penalty_goes_to_its_final_weight_along_half_a_cosine() -> None:
    def weight(step: int, penalty: PenaltyConfig) -> float:
        return penalty.weight_at(Batch(torch.zeros(1, 2), {}, None, step, 12))

    falls = PenaltyConfig(weight=1, final_weight=0.1)
    assert [weight(step, falls) for step in (0, 4, 6, 12)] == pytest.approx([1, 0.1 + 0.9 * 0.75, 0.55, 0.1])
    assert weight(6, PenaltyConfig(weight=7)) == 7


@pytest.mark.parametrize("adversarial", ["wasserstein", "relativistic"])
def test_a_lazy_penalty_has_its_mean_weight_and_is_not_computed_between(
    adversarial: Literal["wasserstein", "relativistic"], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = torch.tensor([[2.0, 5.0], [4.0, 5.0]]), torch.tensor([[1.0, 7.0], [1.0, 9.0]])
    critic, found = linear_critic(3.0), {}
    for every in (1, 3):
        rules = GameConfig(adversarial=adversarial, penalty=PenaltyConfig(weight=10, every=every))
        batches = [Batch(real, {"epsilon": torch.tensor([0.1, 0.9])}, fake, step, 6) for step in range(6)]
        found[every] = [game.critic_terms(critic, batch, rules) for batch in batches]
    names = ["penalty"] if adversarial == "wasserstein" else ["r1", "r2"]
    for name in names:
        lazy, eager = ([terms[name].item() for terms in found[every]] for every in (3, 1))
        assert [value > 0 for value in lazy] == [True, False, False] * 2
        assert sum(lazy) == pytest.approx(sum(eager))
    monkeypatch.setattr(Critic, "input_gradient", None)
    monkeypatch.setattr(Critic, "scores_and_gradient", None)
    assert game.critic_terms(critic, batches[1], rules).keys() == found[1][0].keys()


@pytest.mark.parametrize(("sides", "expected"), [("one-sided", 0.0), ("two-sided", 0.25)])
def test_only_the_two_sided_penalty_minds_a_flat_critic(sides: wasserstein.Sides, expected: float) -> None:
    gradient = torch.tensor([[0.3, 0.4], [0.0, 0.5]])  # norms .5
    assert wasserstein.gradient_penalties(gradient, sides).tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("shape", "classes"), [((2,), 0), ((1, 8, 8), 0), ((1, 28, 28), 0), ((3, 17, 17), 0), ((2,), 3), ((1, 8, 8), 3)]
)
@pytest.mark.parametrize("with_scores", [False, True])
def test_explicit_input_gradient_equals_double_backward(
    shape: tuple[int, ...], classes: int, with_scores: bool
) -> None:
    torch.manual_seed(1)
    critic = networks.critic(shape, 16)
    if classes:
        critic = ClassCritic([*critic.trunk], critic.head.in_features, classes)
    critic = critic.double()
    x = torch.randn(6, *shape, dtype=torch.float64)

    gradient = critic.scores_and_gradient(x)[1] if with_scores else critic.input_gradient(x)
    wasserstein.gradient_penalties(gradient, "two-sided").mean().backward()
    explicit = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in critic.parameters()]

    critic.zero_grad()
    x.requires_grad_()
    (reference,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    wasserstein.gradient_penalties(reference, "two-sided").mean().backward()

    assert torch.allclose(gradient, reference, atol=1e-12)
    for ours, parameter in zip(explicit, critic.parameters(), strict=True):
        theirs = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_information_of_a_blind_and_of_a_certain_encoder() -> None:
    c = torch.tensor([0, 1, 2, 1])
    assert mixture.information(torch.zeros(4, 3), c).item() == pytest.approx(math.log(3))
    certain = 100 * nn.functional.one_hot(c, 3).float()
    assert mixture.information(certain, c).item() == pytest.approx(0.0, abs=1e-6)


def test_expectation_over_a_mixture_and_its_gradient_by_the_weights() -> None:
    r, zeta = [0.5, 0.3, 0.2], torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().requires_grad_()
    values, means = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]).double(), [1.5, 3.5, 7.0]
    found = mixture.prior_expectation(values, torch.tensor([0, 0, 1, 1, 2, 2]), zeta.log_softmax(0))
    expected = sum(p * m for p, m in zip(r, means, strict=True))
    assert found.item() == pytest.approx(expected)
    found.backward()
    assert zeta.grad is not None
    assert zeta.grad.tolist() == pytest.approx([p * (m - expected) for p, m in zip(r, means, strict=True)])


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


def test_shares_of_a_batch_add_up_however_unequal_and_weights_make_an_expectation() -> None:
    values, weight = torch.randn(6), torch.tensor([0.5, 1.0, 1.5, 1.0, 2.0, 0.0])
    parts = []
    for rows in (slice(0, 0), slice(0, 1), slice(1, 6)):  # three workers, one of which has nothing to do
        real = torch.zeros(6, 2)[rows]
        batch = Batch(real, {"weight": weight[rows]}, None, 0, 1, equal_share=6 / 3)
        parts.append(torch.stack([batch.mean(values[rows]), batch.expectation(values[rows])]))
    mean, expectation = torch.stack(parts).mean(dim=0)
    assert mean == pytest.approx(values.mean().item(), abs=1e-6)
    assert expectation == pytest.approx((weight * values).mean().item(), abs=1e-6)
