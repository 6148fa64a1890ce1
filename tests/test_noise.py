"""The noise module: what a continuous one cannot do, what a gate does, and where its gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from toposampler.priors.noise import NoiseConfig, NoiseGate, NoiseModule, NoiseNetwork
from toposampler.topology import Components, estimate_components, signature_loss

DIM = 3


def draw(n: int, seed: int, branches: int = 2) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, DIM, generator=rng), torch.randint(branches, (n,), generator=rng)


def build(**keys: object) -> NoiseModule:
    torch.manual_seed(0)
    return NoiseConfig(**keys).build(DIM)


def two_spheres(n: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=1)
    x[:, 0] += 4 * torch.randint(2, (n,), generator=rng) - 2
    return x


def pieces(module: NoiseModule) -> Components:
    """What 1,000 latents look like to the barcode."""
    with torch.no_grad():
        return estimate_components(module(*draw(1000, seed=99)))


def train(module: NoiseModule, steps: int = 250) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, betas=(0.0, 0.9))
    for step in range(steps):
        loss = signature_loss(module(*draw(128, seed=step)), two_spheres(128, seed=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_none_is_the_identity_without_parameters() -> None:
    module = build(kind="none")
    z, c = draw(5, seed=0)
    assert module(z, c) is z
    assert list(module.parameters()) == []


@pytest.mark.parametrize("choice", ["random", "straight-through"])
@pytest.mark.parametrize("branch", ["affine", "orthogonal"])
def test_a_gate_takes_one_branch_for_each_sample(choice: str, branch: str) -> None:
    gate = build(kind="gate", branches=3, choice=choice, branch=branch)
    assert isinstance(gate, NoiseGate)
    z, c = draw(200, seed=0, branches=3)
    k = c if gate.cut is None else (z @ gate.cut.weight.T).argmax(dim=1)
    assert set(k.tolist()) == {0, 1, 2}
    expected = torch.einsum("ned,nd->ne", gate.matrix[k], z) + gate.offset[k]
    assert torch.allclose(gate(z, c), gate.log_scale.exp() * expected, atol=1e-5)


def test_the_gradient_of_a_cut_is_that_of_the_softmax() -> None:
    torch.manual_seed(0)
    gate = NoiseConfig(kind="gate", choice="straight-through").build(DIM).double()
    assert isinstance(gate, NoiseGate)
    z, weights = torch.randn(2, 20, DIM, dtype=torch.float64)
    (gate(z, torch.zeros(20, dtype=torch.long)) * weights).sum().backward()

    branches = torch.einsum("nd,ked->nke", z, gate.matrix.detach()) + gate.offset.detach()
    cut = torch.nn.Linear(DIM, 2).double()
    cut.load_state_dict(gate.cut.state_dict())
    (torch.einsum("nk,nke->ne", cut(z).softmax(dim=1), branches) * weights).sum().backward()
    for name in ("weight", "bias"):
        gradient = gate.cut.get_parameter(name).grad
        assert torch.allclose(gradient, cut.get_parameter(name).grad, atol=1e-12)
        assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 5, 10])
@pytest.mark.parametrize("dim", [1, 2, 3, 101])
def test_the_pieces_of_a_gate_start_apart(n: int, dim: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        gate = NoiseConfig(kind="gate", branches=n).build(dim)
        assert isinstance(gate, NoiseGate)
        assert gate.offset.shape == (n, dim)
        if n > 1:
            least = torch.pdist(gate.offset.detach()).min().item() / dim**0.5
            assert least == pytest.approx(5.657, rel=1e-3)  # radii of z: room for two of them between pieces


@pytest.mark.parametrize("choice", ["random", "straight-through"])
def test_autocast_does_not_round_the_places_of_the_pieces(choice: str) -> None:
    gate = build(kind="gate", choice=choice)
    assert isinstance(gate, NoiseGate)
    with torch.no_grad():
        gate.offset.copy_(torch.tensor([[100.3, 0, 0], [200.7, 0, 0]]))  # bf16 would have 100.5 and 201
    z, c = draw(200, seed=0)
    z = z * 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gate(z, c)
    assert torch.allclose(rounded, gate(z, c), rtol=0, atol=1e-4)


def test_orthogonal_branches_keep_distances_up_to_the_common_scale() -> None:
    gate = build(kind="gate", branch="orthogonal")
    train(gate, steps=20)
    assert isinstance(gate, NoiseGate)
    z = torch.randn(100, DIM)
    for image in torch.einsum("nd,ked->kne", z, gate.matrix):
        assert torch.allclose(torch.pdist(image), torch.pdist(z), atol=1e-4)


def test_a_continuous_module_stretches_but_cannot_tear() -> None:
    """The finding of the slides, on two spheres a distance of 2 apart."""
    assert estimate_components(two_spheres(1000, seed=99)).count == 2
    module = build(kind="network")
    assert isinstance(module, NoiseNetwork)
    train(module)
    assert pieces(module).count == 1
    latents = module(*draw(1000, seed=99)).detach()
    spread = torch.linalg.svdvals(latents - latents.mean(dim=0))
    assert spread[0] > 1.5 * spread[-1]  # z itself is round


@pytest.mark.parametrize("choice", ["random", "straight-through"])
def test_a_gate_tears_and_moves_its_pieces_to_the_data_s_distance(choice: str) -> None:
    module = build(kind="gate", choice=choice)
    start = pieces(module)
    train(module)
    end = pieces(module)
    assert start.count == end.count == 2
    assert start.separating > 3.5
    assert end.separating == pytest.approx(2, abs=0.8)
