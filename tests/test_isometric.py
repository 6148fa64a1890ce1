"""Generators that cannot stretch: Lipschitz constants, isometry, and the learned scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev, vmap

from toposampler.errors import UserError
from toposampler.nn.isometric import ACTIVATIONS, GroupSort, IsometricConfig, Orthonormal, isometric_generator

DIM = 6
ROUNDING = 1e-10


def jacobian_singular_values(generator: nn.Module, z: Tensor) -> Tensor:
    """Singular values (n, min(d, D)) of dG/dz at each of z (n, d)."""
    jacobians = vmap(jacrev(lambda one: generator(one.unsqueeze(0)).flatten()))(z)
    return torch.linalg.svdvals(jacobians)


def generator(shape: tuple[int, ...] = (9,), **keys: object) -> nn.Sequential:
    torch.manual_seed(0)
    return isometric_generator(IsometricConfig(scale=False, **keys), shape, DIM).double()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_spectral_generator_is_1_lipschitz_and_shrinks(activation: str) -> None:
    network = generator(kind="spectral", activation=activation)
    z, w = torch.randn(2, 500, DIM, dtype=torch.float64)
    ratio = (network(z) - network(w)).norm(dim=1) / (z - w).norm(dim=1)
    assert 1e-6 < ratio.max() <= 1
    assert ratio.min() < 0.9  # a bound from above is no isometry
    for layer in network:
        if isinstance(layer, nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("shape", [(6,), (7,), (9,)])
def test_the_orthogonal_generator_keeps_lengths_wherever_it_is_smooth(depth: int, shape: tuple[int, ...]) -> None:
    network = generator(shape, kind="orthogonal", depth=depth)
    values = jacobian_singular_values(network, torch.randn(50, DIM, dtype=torch.float64))
    assert values.min().item() == pytest.approx(1, abs=ROUNDING)
    assert values.max().item() == pytest.approx(1, abs=ROUNDING)


def test_with_fewer_data_than_latent_dimensions_it_projects() -> None:
    values = jacobian_singular_values(generator((2,), kind="orthogonal"), torch.randn(50, DIM, dtype=torch.float64))
    assert values.shape == (50, 2)
    assert values.sub(1).abs().max() < ROUNDING


def test_the_isometry_survives_training() -> None:
    network = generator(kind="orthogonal")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    target = torch.randn(64, 9, dtype=torch.float64)
    z = torch.randn(64, DIM, dtype=torch.float64)
    losses = []
    for _ in range(30):
        loss = (network(z) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert jacobian_singular_values(network, z).sub(1).abs().max() < ROUNDING


@pytest.mark.parametrize("kind", ["spectral", "orthogonal"])
def test_the_scale_starts_where_the_spread_is_kept_and_multiplies_the_lipschitz_constant(kind: str) -> None:
    torch.manual_seed(0)
    network = isometric_generator(IsometricConfig(kind=kind), (9,), DIM)
    spread = network(torch.randn(20_000, DIM)).var(dim=0).sum()
    assert spread.item() == pytest.approx(DIM, rel=0.15)
    z = torch.randn(10, DIM)
    before = network(z)
    with torch.no_grad():
        network[-1].log_factor += 1
    assert torch.allclose(network(z), before * torch.e)


def test_a_generator_that_is_constant_before_training_is_refused() -> None:
    """Spectral layers can die out; over 100 seeds the factor is either refused or moderate."""
    refused = 0
    for seed in range(100):
        torch.manual_seed(seed)
        try:
            network = isometric_generator(IsometricConfig(kind="spectral", activation="relu"), (3,), 2)
        except UserError as error:
            assert "leaves less than 1/1000 of the spread of its 2 latent dimensions" in str(error)  # noqa: PT017
            refused += 1
        else:
            assert 0 < network[-1].log_factor.item() < 7
    assert 5 < refused < 60


@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7), (5, 4, 4)])
def test_orthonormal_columns_or_rows_whatever_the_weight(shape: tuple[int, ...]) -> None:
    W = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    Q = Orthonormal()(W)
    small = Q.mT @ Q if shape[-2] >= shape[-1] else Q @ Q.mT
    assert (small - torch.eye(min(shape[-2:]), dtype=torch.float64)).abs().max() < 1e-12
    assert torch.allclose(Orthonormal()(Q), Q)  # what is orthonormal stays as it is
    assert torch.autograd.gradcheck(Orthonormal(), W)


@pytest.mark.parametrize("kind", ["spectral", "orthogonal"])
def test_images_stay_in_their_range_and_1_lipschitz(kind: str) -> None:
    network = generator((1, 4, 4), kind=kind)
    x = network(torch.randn(20, DIM, dtype=torch.float64))
    assert x.shape == (20, 1, 4, 4)
    assert x.abs().max() < 1
    values = jacobian_singular_values(network, torch.randn(20, DIM, dtype=torch.float64))
    assert 1e-6 < values.max() <= 1 + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 100))
def test_group_sort_permutes(dim: int, seed: int) -> None:
    x = torch.randn(5, dim, generator=torch.Generator().manual_seed(seed))
    y = GroupSort()(x)
    assert torch.equal(y.sort(dim=1).values, x.sort(dim=1).values)
    half = dim // 2
    assert (y[:, :half] >= y[:, half : 2 * half]).all()
    assert torch.equal(y[:, 2 * half :], x[:, 2 * half :])
