"""The batched ensemble equals K networks run one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from toposampler.nn import networks
from toposampler.nn.ensemble import GeneratorEnsemble

K, LATENT = 5, 6


def one_by_one(members: list[nn.Sequential], z: Tensor, c: Tensor) -> Tensor:
    """The reference: every generator on the full batch, then a mask (the authors' way)."""
    everything = torch.stack([member(z) for member in members])
    return everything[c, torch.arange(len(z))]


def members_and_ensemble(shape: tuple[int, ...]) -> tuple[list[nn.Sequential], GeneratorEnsemble]:
    torch.manual_seed(0)
    members = [networks.generator(shape, LATENT, 4).double() for _ in range(K)]
    made = iter(members)
    return members, GeneratorEnsemble(lambda: next(made), K)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 28, 28)])
@pytest.mark.parametrize("c", [[3, 0, 0, 4, 1, 2, 0, 3], [2, 2, 2, 2, 2, 2, 2, 2], [4, 0, 4, 0, 4, 0, 0, 0]])
def test_samples_and_gradients_equal_those_of_single_networks(shape: tuple[int, ...], c: list[int]) -> None:
    members, ensemble = members_and_ensemble(shape)
    z, ids = torch.randn(8, LATENT, dtype=torch.float64), torch.tensor(c)
    expected, x = one_by_one(members, z, ids), ensemble(z, ids)
    assert torch.allclose(x, expected, rtol=0, atol=1e-12)

    weights = torch.randn_like(x)
    (expected * weights).sum().backward()
    (x * weights).sum().backward()
    for i, stacked in enumerate(ensemble.stacked):
        reference = torch.stack(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in (list(m.parameters())[i] for m in members)]
        )
        assert (stacked.grad - reference).abs().max() < 1e-10
        assert reference.abs().max() > 1e-6  # the comparison is not of zeros


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, K - 1), min_size=1, max_size=40))
def test_any_mix_of_generators_keeps_the_order_of_samples(c: list[int]) -> None:
    members, ensemble = members_and_ensemble((2,))
    z, ids = torch.randn(len(c), LATENT, dtype=torch.float64), torch.tensor(c)
    assert torch.allclose(ensemble(z, ids), one_by_one(members, z, ids), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2,), (1, 28, 28)])
def test_one_generator_is_the_network_itself(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = networks.generator(shape, LATENT, 4)
    ensemble = GeneratorEnsemble(lambda: network, 1)
    z = torch.randn(7, LATENT)
    assert torch.equal(ensemble(z, torch.zeros(7, dtype=torch.long)), network(z))


@pytest.mark.parametrize("side", [8, 16, 28, 32, 45, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_networks_fit_every_side(side: int, channels: int) -> None:
    shape = (channels, side, side)
    x = networks.generator(shape, LATENT, 4)(torch.randn(2, LATENT))
    assert x.shape == (2, *shape)
    assert x.abs().max() <= 1
    assert networks.critic(shape, 16)(x).shape == (2,)
