"""Families of networks by name, and the residual ones against closed forms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

from toposampler import registry
from toposampler.errors import UserError
from toposampler.nn import families, networks, resnet
from toposampler.nn.checks import check_generator, check_trunk
from toposampler.nn.critic import Critic

LATENT = 6
IMAGES = [(3, 16, 16), (1, 28, 28), (3, 32, 48), (2, 45, 20)]


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("shape", [(2,), (7,), *IMAGES])
@pytest.mark.parametrize("name", ["default", "mlp", "conv", "resnet"])
def test_every_family_makes_networks_that_can_be_trained(name: str, shape: tuple[int, ...]) -> None:
    make, make_trunk = families.generator_family(name, width=8), families.trunk_family(name, width=8)
    if len(shape) == 1 and name in ("conv", "resnet"):
        for key, call in (("generator", lambda: make(shape, LATENT)), ("critic", lambda: make_trunk(shape))):
            with pytest.raises(UserError, match=rf"system\.{key}_network: the networks {name} are for images"):
                call()
        return
    check_generator(make(shape, LATENT), shape, LATENT)
    assert check_trunk(make_trunk(shape), shape) >= 8


def test_the_default_family_is_todays_networks() -> None:
    for shape in [(2,), (1, 8, 8)]:
        torch.manual_seed(0)
        ours = families.generator_family("default")(shape, LATENT), families.trunk_family("default")(shape)
        torch.manual_seed(0)
        theirs = (
            networks.generator(shape, LATENT, networks.default_generator_width(shape, 1)),
            networks.critic(shape, networks.default_critic_width(shape)).trunk,
        )
        for own, their in zip(ours, theirs, strict=True):
            assert own.state_dict().keys() == their.state_dict().keys()
            assert all(torch.equal(x, their.state_dict()[key]) for key, x in own.state_dict().items())


def test_perceptrons_have_the_width_and_depth_asked_for() -> None:
    generator = families.generator_family("mlp", width=5, depth=4)((3,), LATENT)
    assert [tuple(p.shape) for p in generator.parameters() if p.dim() == 2] == [
        (10, 6),
        (10, 10),
        (10, 10),
        (5, 10),
        (3, 5),
    ]
    trunk = families.trunk_family("mlp", width=5, depth=3)((3,))
    assert [tuple(p.shape) for p in trunk.parameters() if p.dim() == 2] == [(5, 3), (10, 5), (10, 10)]
    images = families.generator_family("mlp", width=5, depth=1)((1, 4, 3), LATENT)(torch.randn(2, LATENT))
    assert images.shape == (2, 1, 4, 3)
    assert images.abs().max() < 1


def test_sizes_of_stages() -> None:
    assert resnet.sizes((1, 16, 16)) == [(4, 4), (8, 8), (16, 16)]
    assert resnet.sizes((3, 28, 28)) == [(7, 7), (14, 14), (28, 28)]
    assert resnet.sizes((3, 32, 48)) == [(4, 6), (8, 12), (16, 24), (32, 48)]
    assert resnet.sizes((3, 128, 128)) == [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64), (128, 128)]
    for shape in [(2,), (1, 7, 16)]:
        with pytest.raises(UserError, match="at least 8 pixels a side"):
            resnet.sizes(shape)


def test_a_block_is_the_identity_at_first_and_its_weights_are_fix_ups() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 5, 4)
    block = resnet.ResidualBlock(32, n_blocks=16)
    assert torch.equal(block(x), x)
    assert block.mix.groups == 64 // 16
    gain = (2 / (1 + 0.2**2)) ** 0.5 / 16**0.25
    assert block.expand.weight.std().item() == pytest.approx(gain / 32**0.5, rel=0.05)
    assert block.mix.weight.std().item() == pytest.approx(gain / (9 * 16) ** 0.5, rel=0.05)
    nn.init.normal_(block.reduce.weight)
    assert (block(x) - x).abs().max() > 0.1


@pytest.mark.parametrize("width", [1, 3, 6, 8, 10, 12, 33])
def test_groups_divide_the_maps_of_any_width(width: int) -> None:
    block = resnet.ResidualBlock(width, 1)
    assert block(torch.randn(1, width, 4, 4)).shape == (1, width, 4, 4)
    assert 2 * width / block.mix.groups >= min(16, 2 * width)


@pytest.mark.parametrize(("shape", "blocks"), [((3, 16, 16), 1), ((1, 28, 28), 2), ((3, 32, 48), 3)])
def test_parameters_counted_by_hand(shape: tuple[int, ...], blocks: int) -> None:
    C, width = shape[0], 16
    stages = resnet.sizes(shape)
    block = (width * 32 + 32) + (9 * 32 * 16 + 32) + 32 * width
    in_blocks = len(stages) * blocks * block
    basis = width * stages[0][0] * stages[0][1]
    generator, trunk = resnet.resnet_generator(shape, LATENT, width, blocks), resnet.resnet_trunk(shape, width, blocks)
    assert n_parameters(generator) == basis + LATENT * width + in_blocks + width * C + C
    assert n_parameters(trunk) == C * width + width + in_blocks + basis
    shared = resnet.SharedTrunkGenerators(shape, LATENT, 5, width, blocks)
    assert n_parameters(shared) == n_parameters(generator) + 4 * basis


def test_largest_images() -> None:
    x = resnet.resnet_generator((3, 128, 128), LATENT, 4, 1)(torch.randn(1, LATENT))
    assert x.shape == (1, 3, 128, 128)
    assert x.abs().max() < 1
    assert resnet.resnet_trunk((3, 128, 128), 4, 1)(x).shape == (1, 4)


def test_generators_on_a_shared_trunk_differ_in_their_basis_alone() -> None:
    shape = (1, 16, 12)
    torch.manual_seed(0)
    shared = resnet.SharedTrunkGenerators(shape, LATENT, 3, 8, 1).double()
    assert len({tuple(maps.flatten().tolist()) for maps in shared.maps}) == 3
    single = resnet.resnet_generator(shape, LATENT, 8, 1).double()
    z, c = torch.randn(6, LATENT, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 0, 2])
    x = shared(z, c)
    assert x.shape == (6, *shape)
    for k in range(3):
        own = {"0.maps": shared.maps[k], "0.scales.weight": shared.scales.weight}
        common = {
            f"{int(name.split('.')[0]) + 1}.{name.split('.', 1)[1]}": p for name, p in shared.trunk.state_dict().items()
        }
        single.load_state_dict(own | common)
        assert torch.allclose(single(z[c == k]), x[c == k], rtol=0, atol=1e-12)
    same = shared(z[:1].expand(3, -1), torch.arange(3))
    assert (same[0] - same[1]).abs().max() > 1e-3
    x[c == 1].sum().backward()
    assert shared.maps.grad is not None
    assert shared.maps.grad.flatten(1).abs().amax(dim=1).gt(0).tolist() == [False, True, False]


def test_residual_networks_repeat_from_a_seed_and_have_exact_gradients() -> None:
    def make() -> tuple[nn.Module, Critic]:
        torch.manual_seed(7)
        generator = resnet.resnet_generator((1, 9, 8), 2, 2, 1).double()
        critic = Critic(resnet.resnet_trunk((1, 9, 8), 2, 1), 2).double()
        for network in (generator, critic):
            for module in network.modules():
                if isinstance(module, resnet.ResidualBlock):
                    nn.init.normal_(module.reduce.weight)
        return generator, critic

    generator, critic = make()
    again, _ = make()
    z = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(generator(z), again(z))
    assert torch.autograd.gradcheck(generator, z, fast_mode=True)
    x = generator(z).detach()
    assert torch.autograd.gradcheck(lambda at: critic.scores_and_gradient(at)[1], x.requires_grad_(), fast_mode=True)


OWN = """
from torch import nn
def generator(shape, latent_dim, *, width=4):
    return nn.Sequential(nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, shape[0]))
def critic(shape):
    return nn.Linear(shape[0], 4)
class Nested:
    make = staticmethod(critic)
number = 3
def one(shape): ...
def three(shape, latent_dim, more): ...
def nothing(shape, latent_dim): return 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_networks.py").write_text(OWN)
    (tmp_path / "broken_networks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("own_networks", "broken_networks"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("own")
def test_functions_of_a_module() -> None:
    generator = families.generator_family("own_networks:generator", width=9)((2,), LATENT)
    assert generator(torch.randn(3, LATENT)).shape == (3, 2)
    assert generator[0].out_features == 9
    assert families.generator_family("own_networks:generator", width=None)((2,), LATENT)[0].out_features == 4
    assert families.trunk_family("own_networks:Nested.make")((2,)).out_features == 4


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnett", {}, "'resnett' is not known. Did you mean 'resnet'\\? There are .*resnet, and module:function"),
        ("missing_module:f", {}, "the module 'missing_module' cannot be imported: ModuleNotFoundError"),
        ("broken_networks:f", {}, "the module 'broken_networks' cannot be imported: ZeroDivisionError: division"),
        ("own_networks:f", {}, "own_networks has no f"),
        ("own_networks:", {}, "own_networks has no function of an empty name"),
        ("own_networks:number", {}, "own_networks:number is a int, not a function"),
        ("own_networks:one", {}, r"own_networks:one takes \(shape\); it is called with \(shape, latent_dim\)"),
        ("own_networks:three", {}, r"missing a required argument: 'more'"),
        ("own_networks:generator", {"depth": 3}, "and so no option depth"),
        ("resnet", {"norm": True}, "and so no option norm"),
        ("own_networks:nothing", {}, r"own_networks:nothing.* returned a int, not a torch.nn.Module"),
    ],
)
def test_names_that_stand_for_nothing(name: str, options: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        families.generator_family(name, **options)((2,), LATENT)
    message = str(caught.value)
    assert message.startswith("system.generator_network: ")
    assert name in message


@pytest.mark.usefixtures("own")
def test_networks_of_installed_packages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    group = "toposampler.networks"
    points = [EntryPoint("mine", "own_networks", group), EntryPoint("broken", "broken_networks:networks", group)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "toposampler.networks" else [])
    monkeypatch.setattr(families.NETWORKS, "_found", None)
    assert [entry.name for entry in families.NETWORKS.entries()] == ["default", "mlp", "conv", "resnet", "mine"]
    assert "broken_networks:networks" in caplog.text
    assert families.generator_family("mine", width=7)((2,), LATENT)[0].out_features == 7
    assert families.trunk_family("mine")((2,)).out_features == 4
    monkeypatch.setattr(sys.modules["own_networks"], "critic", None)
    with pytest.raises(UserError, match=r"system\.critic_network: the networks mine have no critic"):
        families.trunk_family("mine")
