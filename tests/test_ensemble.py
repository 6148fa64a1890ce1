"""The batched ensemble equals K networks run one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from toposampler.errors import UserError
from toposampler.nn import networks, resnet
from toposampler.nn.ensemble import GeneratorEnsemble, Shard, copies

K, LATENT = 5, 6


def one_by_one(members: list[nn.Module], z: Tensor, c: Tensor) -> Tensor:
    """The reference: every generator on the full batch, then a mask (the authors' way)."""
    everything = torch.stack([member(z) for member in members])
    return everything[c, torch.arange(len(z))]


def members_and_ensemble(shape: tuple[int, ...]) -> tuple[list[nn.Module], GeneratorEnsemble]:
    return members_and_ensemble_of(lambda: networks.generator(shape, LATENT, 4))


def members_and_ensemble_of(make: Callable[[], nn.Module]) -> tuple[list[nn.Module], GeneratorEnsemble]:
    torch.manual_seed(0)
    members = [make().double() for _ in range(K)]
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


class Skips(nn.Module):
    """A skip connection, a buffer that differs between generators, a shared layer and a constant that is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(LATENT, LATENT)
        self.again = self.shared
        self.last = nn.Linear(LATENT, 2, bias=False)
        self.register_buffer("frequencies", torch.randn(LATENT))
        self.register_buffer("order", torch.randperm(LATENT))
        self.register_buffer("gain", torch.tensor(0.5), persistent=False)
        self.frequencies: Tensor
        self.gain: Tensor
        self.order: Tensor

    def forward(self, z: Tensor) -> Tensor:
        h = z + self.gain * torch.sin(self.frequencies * self.shared(z))
        return self.last((h + self.again(h))[:, self.order].view(-1, LATENT))


class Attentive(nn.Module):
    """Self-attention among four tokens made from the latent, then a normalization of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.tokens = nn.Linear(LATENT, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, z: Tensor) -> Tensor:
        return self.norm(self.attention(self.tokens(z).view(-1, 4, 8)).flatten(1))


class Half(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


def perceptron(*activations: nn.Module, bias: bool = True) -> nn.Sequential:
    layers = [layer for activation in activations for layer in (nn.Linear(LATENT, LATENT, bias=bias), activation)]
    return nn.Sequential(nn.Sequential(*layers), nn.Linear(LATENT, 2, bias=bias))


GENERATORS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "nested": (lambda: perceptron(nn.GELU(), nn.SiLU(), nn.Softplus(), nn.ReLU(inplace=True), nn.Identity()), True),
    "without bias": (lambda: perceptron(nn.ELU(), nn.Tanh(), bias=False), True),
    "prelu": (lambda: perceptron(nn.PReLU(), nn.PReLU(LATENT)), False),
    "subclass": (lambda: nn.Sequential(Half(LATENT, 4), nn.ReLU(), Half(4, 2)), False),
    "skips and buffers": (Skips, False),
    "attention": (Attentive, False),
    "resnet": (lambda: resnet.resnet_generator((1, 8, 8), LATENT, 4, 1), False),
    "batch norm in evaluation mode": (lambda: nn.Sequential(nn.Linear(LATENT, 4), nn.BatchNorm1d(4)).eval(), False),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_any_network_in_an_ensemble_is_the_network_itself(name: str) -> None:
    """Samples, and gradients by latents and parameters; whole and as two shards."""
    make, packed = GENERATORS[name]
    members, ensemble = members_and_ensemble_of(make)
    assert (ensemble._packed_layers is not None) == packed
    z, c = torch.randn(9, LATENT, dtype=torch.float64, requires_grad=True), torch.tensor([3, 0, 0, 4, 1, 2, 0, 3, 1])
    expected, x = one_by_one(members, z, c), ensemble(z, c)
    assert torch.allclose(x, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(x)
    by_z, *reference = torch.autograd.grad(
        (expected * weights).sum(), [z, *(p for member in members for p in member.parameters())]
    )
    found_by_z, *found = torch.autograd.grad((x * weights).sum(), [z, *ensemble.parameters()])
    assert torch.allclose(found_by_z, by_z, rtol=0, atol=1e-10)
    n = len(found)
    for i, gradient in enumerate(found):
        assert torch.allclose(gradient, torch.stack(reference[i::n]), rtol=0, atol=1e-10)

    for rank in range(2):
        made = iter(members)
        shard = GeneratorEnsemble(lambda made=made: next(made), K, Shard(rank, 2))
        rows = c % 2 == rank
        assert torch.allclose(shard(z[rows], c[rows]), expected[rows], rtol=0, atol=1e-12)
        assert shard(z[:0], c[:0]).shape == (0, *x.shape[1:])


def test_buffers_are_stacked_kept_and_moved_with_the_weights() -> None:
    members, ensemble = members_and_ensemble_of(Skips)
    state = ensemble.state_dict()
    assert list(state) == [*(f"stacked.{i}" for i in range(3)), "stacked_buffers.0", "stacked_buffers.1"]
    assert torch.equal(state["stacked_buffers.0"], torch.stack([m.get_buffer("frequencies") for m in members]))
    assert state["stacked_buffers.1"].dtype == torch.int64
    assert len({tuple(row) for row in state["stacked_buffers.0"].tolist()}) == K
    _, other = members_and_ensemble_of(lambda: Skips())
    for buffer in other.stacked_buffers.buffers():
        buffer.zero_()
    other.load_state_dict(state)
    z, c = torch.randn(5, LATENT, dtype=torch.float64), torch.arange(5)
    assert torch.allclose(one_by_one(members, z, c), ensemble(z, c))
    assert ensemble.float().stacked_buffers.get_buffer("0").dtype == torch.float32
    assert ensemble(z.float(), c).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ensemble(z.float(), c)
    assert 1e-4 < (rounded.double() - one_by_one(members, z, c)).abs().max() < 0.1


def test_the_members_follow_the_mode_of_the_ensemble() -> None:
    ensemble = GeneratorEnsemble(lambda: nn.Sequential(nn.Linear(LATENT, 2), nn.Dropout(0.5)), K).eval()
    z, c = torch.randn(20, LATENT), torch.arange(20) % K
    assert torch.equal(ensemble(z, c), ensemble(z, c))
    ensemble.train()
    assert not torch.equal(ensemble(z, c), ensemble(z, c))


def test_copies_of_a_prototype_start_anew() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(3))

    torch.manual_seed(0)
    prototype = nn.Sequential(Attentive(), nn.Sequential(nn.Linear(32, 2), nn.GroupNorm(1, 2)), nn.PReLU())
    before = {name: x.clone() for name, x in prototype.state_dict().items()}
    ensemble = GeneratorEnsemble(copies(prototype), K)
    for name, stack in zip(ensemble._names, ensemble.stacked, strict=True):
        if "norm" not in name and "bias" not in name and stack[0].dim() > 1:
            assert len({tuple(row.flatten().tolist()) for row in stack} | {tuple(before[name].flatten().tolist())}) > K
    assert all(torch.equal(x, before[name]) for name, x in prototype.state_dict().items())

    block = resnet.ResidualBlock(8, 4)
    nn.init.ones_(block.reduce.weight)
    assert copies(block)().reduce.weight.abs().max() == 0, "a block's own start comes after that of its layers"
    with pytest.raises(UserError, match=r"Sequential cannot be copied .* its 0, a Embedded, has parameters and no"):
        copies(nn.Sequential(Embedded()))


def test_generators_of_two_architectures_and_of_no_parameters_are_refused() -> None:
    widths = iter([4, 4, 5, 4, 4])
    with pytest.raises(UserError, match=r"of one architecture; two of these differ in 0\.bias"):
        GeneratorEnsemble(lambda: nn.Sequential(nn.Linear(3, next(widths))), K)
    with pytest.raises(UserError, match="needs parameters to train; Tanh has none"):
        GeneratorEnsemble(nn.Tanh, K)


@pytest.mark.parametrize("size", [(8, 20), (28, 28), (32, 48), (45, 17), (128, 100)])
def test_convolutions_fit_every_size(size: tuple[int, int]) -> None:
    shape = (3, *size)
    x = networks.conv_generator(shape, LATENT, 2)(torch.randn(2, LATENT))
    assert x.shape == (2, *shape)
    assert networks.critic(shape, 2)(x).shape == (2,)
    assert networks.latent_encoder(networks.conv_trunk(shape, 2), 8 * -(-size[0] // 8) * -(-size[1] // 8), LATENT)(
        x
    ).shape == (2, LATENT)
