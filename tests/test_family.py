"""The family of GANs that a disconnected manifold is tried on: what is particular to a page, on hand-made networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_systems import make_loop
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from toposampler.errors import UserError
from toposampler.nn.coded import CodedGenerator
from toposampler.nn.spectral import SpectralNorm
from toposampler.systems import System
from toposampler.systems.batch import Batch
from toposampler.training import RunConfig

MakeConfig = Callable[..., RunConfig]


class Function(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def batch_of(system: System, n: int) -> Batch:
    """A batch of n for any player: real samples are 1, generated ones 0."""
    noise = {key: x[0] for key, x in system.draw(1, n, torch.Generator().manual_seed(0), training=True).items()}
    return Batch(torch.ones(n, 2), noise, torch.zeros(n, 2), 0, 10)


def spectral_norms(module: nn.Module) -> list[float]:
    """The exact norms of the weights that layers compute with."""
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]


def power_iteration(module: nn.Module) -> list[Tensor]:
    """The vectors u and v of every spectrally normalized layer after one power iteration, in float64."""
    vectors = []
    for norm in [layer for layer in module.modules() if isinstance(layer, parametrize.ParametrizationList)]:
        W = norm.original.detach().flatten(1).double()
        u = F.normalize(W @ norm[0].v.double(), dim=0)
        vectors += [u, F.normalize(W.T @ u, dim=0)]
    return vectors


def assert_same_vectors(module: nn.Module, expected: list[Tensor]) -> None:
    """The buffers u and v of `module` are `expected`.

    An entry of a unit vector W v / ||W v|| is off by n eps ||W||_F / ||W v|| at most, with a sum of n terms that are
    rounded one after the other in float32: 3e-5 for n = 64 and a ratio of 8, the root of the rank.
    """
    found = [x for name, x in module.named_buffers() if name.endswith((".u", ".v"))]
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=0, atol=3e-5)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_layers_of_sn_gan_s_critic_start_with_norm_1_and_a_norm_s_gradient(
    shape: tuple[int, ...], make_config: MakeConfig
) -> None:
    critic = make_config("sn_gan").system.build(shape).critic.double()
    assert spectral_norms(critic) == pytest.approx([1] * len(spectral_norms(critic)), abs=1e-5)
    weight = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    found, exact = SpectralNorm(weight)(weight), weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
    assert torch.allclose(found, exact)
    gradients = [torch.autograd.grad((y * torch.arange(2.0)).sum(), weight)[0] for y in (found, exact)]
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_power_iteration_follows_the_weights_in_critic_steps_and_rests_at_all_other_times(
    precision: str, make_config: MakeConfig
) -> None:
    loop = make_loop(make_config("sn_gan", system__critic__learning_rate=0.01, training__precision=precision))
    for _ in range(20):
        loop.iteration()
    (batch,), _ = loop._draw(1)

    def vectors() -> Tensor:
        return torch.cat([x for _, x in loop.system.critic.named_buffers()]).clone()

    before = vectors()
    assert before.dtype == torch.float32
    loop._move("generator", batch)
    loop.system.critic(batch.real)
    assert torch.equal(vectors(), before)
    expected, norms = power_iteration(loop.system.critic), spectral_norms(loop.system.critic)
    weights = [layer.original.detach().clone() for layer in loop.system.critic.modules() if hasattr(layer, "original")]
    loop._move("critic", replace(batch, fake=batch.real.flip(0)))
    assert not torch.equal(vectors(), before)
    assert_same_vectors(loop.system.critic, expected)
    # For the weights it was made for, an iteration brings a norm nearer to 1 and not below: |u'Wv| <= |W'u| <= ||W||.
    for k, (W, norm) in enumerate(zip(weights, norms, strict=True)):
        u, v = expected[2 * k : 2 * k + 2]
        W = W.flatten(1).double()
        after = float(torch.linalg.matrix_norm(W, 2) / (u @ W @ v))
        assert 1 - 1e-5 < after < norm + 1e-5


def test_mad_gan_s_terms_with_a_critic_that_sees_nothing(make_config: MakeConfig) -> None:
    K, logits = 4, (0.0, 1.0, 2.0, 3.0, 5.0)  # of each generator, and of "real"
    normalizer = math.log(sum(map(math.exp, logits)))
    told = normalizer - sum(logits[:K]) / K
    values = {}
    for form, weight in (("non-saturating", "mean"), ("minimax", "sum")):
        keys = {"n_generators": K, "generator_loss": form, "critic_weight": weight}
        system = make_config("mad_gan", **{f"system__{key}": value for key, value in keys.items()}).system.build((2,))
        nn.init.zeros_(system.critic.head.weight)
        system.critic.head.bias.data = torch.tensor(logits)
        batch = batch_of(system, 8)
        critic, generator = (player.loss(batch) for player in system.players().values())
        values[form] = generator["adversarial"].item()
        assert critic["real"].item() == pytest.approx(normalizer - logits[-1])
        assert critic["fake"].item() == pytest.approx({"mean": 1, "sum": K}[weight] * told)
        assert torch.allclose(system.encode(batch.real), torch.tensor(logits[:K]).softmax(dim=0).expand(8, K))
    undecided = math.log(sum(map(math.exp, logits[:K])))
    assert values == pytest.approx({"non-saturating": normalizer - logits[-1], "minimax": undecided - normalizer})


def test_pacgan_packs_rows_that_one_worker_has(make_config: MakeConfig) -> None:
    """Of 8 rows, packs of 4 are 0 2 4 6 and 1 3 5 7, and worker 1 of 2, with rows 1 3 5 7, has the second."""
    system = make_config("pacgan").system.build((2,))
    system.critic = Function(lambda packs: packs @ torch.tensor([1000.0, 0, 100, 0, 10, 0, 1, 0]))
    x = torch.stack([torch.arange(8.0), torch.zeros(8)], dim=1)
    assert system.scores(x).tolist() == [246, 1357]
    assert system.scores(x[1::2]).tolist() == [1357]
    system.critic = Function(lambda packs: math.log(3) * packs[:, 0])  # probability 3/4 at real samples, 1/2 at others
    terms = system.critic_loss(batch_of(system, 8))
    assert terms["real"].item() == pytest.approx(math.log(4 / 3))
    assert terms["fake"].item() == pytest.approx(math.log(2))


def test_pacgan_refuses_batches_that_workers_would_cut_and_rejection_by_its_critic(make_config: MakeConfig) -> None:
    make_config("pacgan", training__batch_size=24, cluster__num_workers=3)
    faults: list[tuple[dict[str, Any], str]] = [
        (
            {"training__batch_size": 10},
            r"batch_size \(10\) must be a multiple of 4: .* packs of 4 samples \(system.n_packed\)$",
        ),
        ({"training__batch_size": 16, "cluster__num_workers": 3}, r"\(16\) must be a multiple of 12"),
        (
            {"training__batch_size": 16, "cluster__num_workers": 4, "cluster__min_workers": 3},
            r"must be a multiple of 12: .* and 3 workers",
        ),
    ]
    for overrides, message in faults:
        with pytest.raises(UserError, match=message):
            make_config("pacgan", **overrides)
    system = make_config("pacgan").system.build((2,))
    with pytest.raises(UserError, match="scores 4 samples at once"):
        system.score_noise(batch_of(system, 8).noise)
    plain = make_config("pacgan", system__n_packed=1, training__batch_size=9).system.build((2,))
    assert plain.score_noise(batch_of(plain, 9).noise).shape == (9,)


def test_nwgan_weighs_as_many_samples_of_all_generators_by_their_masses(make_config: MakeConfig) -> None:
    system = make_config("nwgan", system__n_generators=4).system.build((2,))
    with torch.no_grad():
        system.mixture.zeta.copy_(torch.tensor([0.4, 0.3, 0.2, 0.1]).log())
    system.generators = Function(lambda z, c: torch.stack([c, c], dim=1).float())
    system.critic = Function(lambda x: 3 * x[:, 0])
    batch = batch_of(system, 8)
    assert torch.bincount(batch.noise["c"]).tolist() == [2] * 4
    assert batch.noise["weight"].tolist() == pytest.approx([1.6, 1.6, 1.2, 1.2, 0.8, 0.8, 0.4, 0.4])
    loss = system.generator_loss(batch)["adversarial"]
    assert loss.item() == pytest.approx(-3 * (0.3 + 2 * 0.2 + 3 * 0.1))
    loss.backward()
    assert system.mixture.zeta.grad.tolist() == pytest.approx(
        [-p * (3 * c - 3) for c, p in enumerate((0.4, 0.3, 0.2, 0.1))], abs=1e-6
    )


def test_vcgan_s_probabilities_follow_the_means_of_their_classes(make_config: MakeConfig) -> None:
    system = make_config("vcgan_lp", system__n_generators=4).system.build((2,))
    system.generators = Function(lambda z, c: torch.stack([c, c], dim=1).float())
    system.critic = Function(lambda x: 3 * x[:, 0])
    c = torch.tensor([0, 0, 1, 3])  # of class 2 there is none: it counts as the mean, 3
    loss = system.prior_loss(Batch(torch.ones(4, 2), {"z": torch.zeros(4, 8), "c": c}, None, 0, 1))["adversarial"]
    assert loss.item() == pytest.approx(-(0 + 3 + 3 + 9) / 4)
    loss.backward()
    assert system.mixture.zeta.grad.tolist() == pytest.approx([-(d - 3.75) / 4 for d in (0, 3, 3, 9)])


def test_vcgan_s_decoder_is_told_its_class_by_an_amplified_vector() -> None:
    generator = CodedGenerator(nn.Identity(), 4, amplification=8.0, centered=True)
    assert generator(torch.ones(1, 2), torch.tensor([2])).tolist() == [[1, 1, -2, -2, 6, -2]]
