"""Losses of InfoGAN, DeLiGAN, MGAN, BiGAN, VEEGAN and MDGAN on hand-made networks, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.losses import reconstruction
from toposampler.nn import networks
from toposampler.nn.coded import CodedGenerator
from toposampler.nn.critic import Critic
from toposampler.nn.pairs import pairs
from toposampler.rejection.training import train_weights
from toposampler.systems.batch import Batch
from toposampler.systems.deligan import MixtureLatents
from toposampler.training import Model, RunConfig

MakeConfig = Callable[..., RunConfig]

REAL = torch.tensor([[1.0, 7.0], [3.0, 8.0]])
Z = torch.tensor([[0.5, -1.0], [-0.5, 2.0]])
C = torch.tensor([0, 2])


class Function(nn.Module):
    """Stands for {G_c}: any function of latents and ids."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.function(z, c)


def affine(weight: Sequence[Sequence[float]], bias: Sequence[float]) -> nn.Linear:
    """x to weight x + bias."""
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def linear_critic(*slopes: float) -> Critic:
    """D(x) = slopes . x, its features x itself."""
    critic = Critic([], len(slopes))
    critic.head = affine([slopes], [0.0])
    return critic


def build(make_config: MakeConfig, name: str, **overrides: Any) -> Any:
    return make_config(name, system__latent__dim=2, **overrides).system.build((2,))


def batch(fake: Tensor | None = None) -> Batch:
    return Batch(REAL, {"z": Z, "c": C}, fake, 0, 1)


def softplus(*values: float) -> float:
    """The mean of ln(1 + exp(v))."""
    return sum(math.log1p(math.exp(v)) for v in values) / len(values)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def test_infogan_terms(make_config: MakeConfig) -> None:
    system = build(make_config, "infogan", system__n_categories=3, system__information_weight=2.0)
    system.generators = Function(lambda z, c: z)
    system.critic = linear_critic(3.0, 0.0)
    bias = (1.0, 0.5, -1.0)
    system.encoder = affine([[0.0, 0.0]] * 3, bias)
    assert values(system.critic_loss(batch(Z))) == pytest.approx(
        {"real": softplus(-3, -9), "fake": softplus(1.5, -1.5)}
    )
    normalizer = math.log(sum(map(math.exp, bias)))
    assert values(system.generator_loss(batch())) == pytest.approx(
        {"adversarial": softplus(-1.5, 1.5), "information": 2 * (normalizer - (bias[0] + bias[2]) / 2)}
    )
    assert system.encode(REAL)[0].tolist() == pytest.approx([math.exp(b - normalizer) for b in bias])


def test_infogan_s_generator_reads_the_category_beside_the_noise() -> None:
    x = CodedGenerator(nn.Identity(), 3)(Z, C)
    assert x.tolist() == [[0.5, -1.0, 1.0, 0.0, 0.0], [-0.5, 2.0, 0.0, 0.0, 1.0]]


def test_deligan_s_latents_and_the_regularizer_of_their_spread(make_config: MakeConfig) -> None:
    system = build(make_config, "deligan", system__n_components=3, system__sigma=0.2)
    assert values(system.generator_loss(batch()))["spread"] == pytest.approx(0.1 * 0.8**2)
    latents = MixtureLatents(nn.Identity(), 3, 2, sigma=0.2)
    with torch.no_grad():
        latents.mu.copy_(torch.tensor([[1.0, 2.0], [9.0, 9.0], [3.0, 4.0]]))
        latents.sigma[2, 1] = 0.5
    assert latents(Z, C).tolist() == [pytest.approx([1.1, 1.8]), pytest.approx([2.9, 5.0])]
    system.generators, system.critic = latents, linear_critic(3.0, 0.0)
    terms = system.generator_loss(batch())
    assert values(terms) == pytest.approx(
        {"adversarial": softplus(-3.3, -8.7), "spread": 0.1 * (5 * 0.8**2 + 0.5**2) / 6}
    )
    sum(terms.values()).backward()
    by_critic = -3 * torch.sigmoid(torch.tensor([-3.3, -8.7])) / 2  # d softplus(-3 x) / dx
    assert latents.mu.grad == pytest.approx(torch.tensor([[by_critic[0], 0], [0, 0], [by_critic[1], 0]]), abs=1e-6)
    assert latents.sigma.grad[1] == pytest.approx([-0.1 * 2 * 0.8 / 6] * 2)


def test_mgan_terms(make_config: MakeConfig) -> None:
    system = build(make_config, "mgan", system__n_generators=3, system__diversity=0.125)
    system.generators = Function(lambda z, c: z)
    system.critic = linear_critic(3.0, 0.0)
    system.classifier = affine([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]], [0.0, 0.0, 0.0])
    logits = ((0.5, 0.0, -2.0), (-0.5, 0.0, 4.0))
    told = [math.log(sum(map(math.exp, row))) - row[c] for row, c in zip(logits, C.tolist(), strict=True)]
    classification = sum(told) / 2
    assert values(system.critic_loss(batch(Z))) == pytest.approx(
        {"real": softplus(-3, -9), "fake": softplus(1.5, -1.5), "classification": classification}
    )
    assert values(system.generator_loss(batch())) == pytest.approx(
        {"adversarial": softplus(-1.5, 1.5), "classification": 0.125 * classification}
    )


def test_mgan_s_generators_differ_in_their_first_layer_alone(make_config: MakeConfig) -> None:
    generators = build(make_config, "mgan", system__n_generators=3).generators
    weight, bias = generators.first.stacked
    for c in range(3):
        expected = generators.common(F.linear(Z, weight[c], bias[c]))
        assert torch.allclose(generators(Z, torch.tensor([c, c])), expected, atol=1e-6)
    assert len(weight) == 3
    assert sum(p.numel() for p in generators.common.parameters()) == (128 * 64 + 64) + (64 * 2 + 2)


def test_bigan_terms(make_config: MakeConfig) -> None:
    system = build(make_config, "bigan")
    system.generators = Function(lambda z, c: 2 * z)
    system.encoder = affine([[0.0, 0.0]] * 2, [0.5, 0.25])
    system.critic = linear_critic(1.0, 0.0, 2.0, 4.0)  # D(x, z) = x_0 + 2 z_0 + 4 z_1
    real, fake = (3.0, 5.0), (1 + 1 - 4.0, -1 - 1 + 8.0)
    assert values(system.critic_loss(batch(2 * Z))) == pytest.approx(
        {"real": softplus(*(-s for s in real)), "fake": softplus(*fake)}
    )
    terms = system.generator_loss(batch())
    assert values(terms) == pytest.approx({"adversarial": softplus(*(-s for s in fake)), "encoder": softplus(*real)})
    sum(terms.values()).backward()
    slope = (
        torch.sigmoid(torch.tensor(real)).mean().item()
    )  # the encoder goes down where the critic takes pairs for real
    assert system.encoder.bias.grad == pytest.approx([2 * slope, 4 * slope])
    assert system.score_noise(batch().noise).tolist() == pytest.approx(list(fake))


def test_a_critic_of_image_pairs_sees_image_and_latent() -> None:
    torch.manual_seed(0)
    x, z, alone = torch.rand(5, 1, 8, 8), torch.randn(5, 3), torch.randn(5, 3)
    critic = networks.pair_critic(networks.conv_trunk((1, 8, 8), 4), 16, (1, 8, 8), 3)
    beside, first, _ = critic.trunk
    features = torch.cat([beside.features(x), z], dim=1)
    assert torch.allclose(critic(pairs(x, z)), critic.head(F.leaky_relu(first(features), 0.1)).squeeze(1), atol=1e-6)
    assert (critic(pairs(x, z)) != critic(pairs(x, alone))).all()
    assert (critic(pairs(x, z)) != critic(pairs(x.flip(0), z))).any()


def test_veegan_terms(make_config: MakeConfig) -> None:
    system = build(make_config, "veegan", system__reconstruction_weight=3.0, system__encoder_noise=0.5)
    system.generators = Function(lambda z, c: 2 * z)
    system.encoder = affine([[0.25, 0.0], [0.0, 0.25]], [0.0, 0.0])  # F(G(z)) = z / 2
    system.critic = linear_critic(1.0, 0.0, 2.0, 4.0)
    fake = (1 + 1 - 4.0, -1 - 1 + 8.0)
    terms = system.generator_loss(batch())
    error = float(Z.square().sum()) / 4 / 2
    assert values(terms) == pytest.approx({"adversarial": -sum(fake) / 2, "reconstruction": 3 * error})
    (by_critic,) = torch.autograd.grad(terms["adversarial"], system.encoder.weight, allow_unused=True)
    assert by_critic is None
    real = (1 + 0.5 + 7.0 + 0.5 * 2 * 3, 3 + 1.5 + 8.0 - 0.5 * 4)
    told = batch(2 * Z)
    told.noise["eta"] = torch.tensor([[3.0, 0.0], [0.0, -1.0]])
    assert values(system.critic_loss(told)) == pytest.approx(
        {"real": softplus(*(-s for s in real)), "fake": softplus(*fake)}
    )


def test_squared_error_is_that_of_whole_rows() -> None:
    x = torch.zeros(2, 1, 2, 2)
    assert reconstruction.squared_error(x + 0.5, x).item() == pytest.approx(4 * 0.25)


def test_mdgan_terms(make_config: MakeConfig) -> None:
    system = build(make_config, "mdgan", system__reconstruction_weight=3.0, system__manifold_weight=0.5)
    system.generators = Function(lambda z, c: 2 * z)
    system.encoder = affine([[0.25, 0.0], [0.0, 0.25]], [0.0, 0.0])  # G(E(x)) = x / 2
    system.manifold_critic, system.critic = linear_critic(1.0, 0.0), linear_critic(2.0, 0.0)
    assert values(system.critic_loss(batch(2 * Z))) == pytest.approx(
        {
            "real": softplus(-1, -3),
            "reconstructed": softplus(0.5, 1.5),
            "diffused": softplus(-1, -3),
            "fake": softplus(2, -2),
        }
    )
    terms = system.generator_loss(batch())
    assert values(terms) == pytest.approx(
        {
            "adversarial": softplus(-2, 2),
            "manifold": 0.5 * softplus(-0.5, -1.5),
            "reconstruction": 3 * float(REAL.square().sum()) / 4 / 2,
        }
    )
    (by_diffusion,) = torch.autograd.grad(terms["adversarial"], system.encoder.weight, allow_unused=True)
    assert by_diffusion is None


def test_latent_rs_refuses_a_critic_of_pairs(make_config: MakeConfig, tmp_path: Any) -> None:
    config = make_config("bigan")
    model = Model(config, config.system.build((2,)), 0, (2,), "")
    with pytest.raises(UserError, match="that of bigan does not score samples alone"):
        train_weights(model, tmp_path / "w.pt", steps=1)
