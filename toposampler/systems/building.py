"""Which networks a system is built of: the caller's own, or those that its configuration names.

Nothing is imported here by a name that a configuration holds: a stored one must run no code. Who trains resolves
`module:function` first (`toposampler.training.networks`) and gives the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from toposampler.errors import UserError
from toposampler.nn import networks
from toposampler.nn.checks import check_generator, check_trunk
from toposampler.nn.critic import count_features
from toposampler.nn.custom import Shape
from toposampler.nn.ensemble import copies
from toposampler.nn.families import generator_family, trunk_family
from toposampler.nn.networks import Network
from toposampler.nn.resnet import SharedTrunkGenerators
from toposampler.nn.shared_trunk import OwnFirstLayers

if TYPE_CHECKING:
    from toposampler.systems.base import SystemConfig

GeneratorNorm = Literal["none", "layer"]
PAPERS = ("default", "conv")
"""families with the papers' widths and normalization"""


def make_generator(
    keys: SystemConfig, own: object, shape: Shape, n_inputs: int, n_networks: int, checked: bool
) -> nn.Module:
    """A freshly initialized generator, (n, n_inputs) to (n, *shape); by default of the width of one of `n_networks`.

    Args:
        keys: of the system's section.
        own: the function or module that the caller gives; None: what `keys` name.
        shape: of a sample.
        n_inputs: dimensions of the input: the latent's, and a code's beside it.
        n_networks: the generators that there are.
        checked: one like it has been checked already.
    """
    key = "system.generator_network"
    if own is not None:
        _refuse(keys, key, ("generator_width", "generator_depth", "generator_output"))
        make = copies(own, key) if isinstance(own, nn.Module) else _called(own, key, shape, n_inputs)
        network = make()
        if not checked:
            check_generator(network, shape, n_inputs, key)
        return network
    _check_name(keys, keys.generator_network, key)
    name, width = keys.generator_network, keys.generator_width
    if name in PAPERS:
        width = width or networks.default_generator_width(shape, n_networks)
    # A system's own default is for the papers' networks; what is asked for beyond it is passed on, and may be refused.
    norm = keys.generator_norm == "layer"
    norm = norm and (name in PAPERS or type(keys).model_fields["generator_norm"].default == "none")
    options = {"width": width, "depth": keys.generator_depth, "norm": norm or None, "output": keys.generator_output}
    make_family = generator_family(name, key, **options)
    return initialized(keys, make_family(shape, n_inputs))


def shared_generators(
    keys: SystemConfig, own: object, shape: Shape, latent_dim: int, n_generators: int
) -> SharedTrunkGenerators | OwnFirstLayers:
    """K generators with one trunk, of a single generator's width; each begins with maps, or a layer, of its own."""
    if own is not None:
        raise UserError("system.shared_trunk true is for the package's networks: one of your own is a whole generator")
    if keys.generator_network != "resnet":
        network = make_generator(keys, None, shape, latent_dim, 1, True)
        assert isinstance(network, nn.Sequential)
        first, *rest = network
        assert isinstance(first, nn.Linear)
        others = [nn.Linear(first.in_features, first.out_features) for _ in range(n_generators - 1)]
        return OwnFirstLayers([first, *(initialized(keys, layer) for layer in others)], nn.Sequential(*rest))
    options = {"width": keys.generator_width, "depth": keys.generator_depth, "output": keys.generator_output}
    given: dict[str, Any] = {name: option for name, option in options.items() if option is not None}
    return SharedTrunkGenerators(shape, latent_dim, n_generators, **given)


def make_trunk(keys: SystemConfig, own: object, shape: Shape) -> tuple[nn.Module, int]:
    """A critic's trunk, samples (n, *shape) to features (n, f), and f; see `make_generator`. What is made of it is
    `initialized` as a whole."""
    key = "system.critic_network"
    if own is not None:
        _refuse(keys, key, ("critic_width", "critic_depth"))
        network = (copies(own, key) if isinstance(own, nn.Module) else _called(own, key, shape))()
        return network, check_trunk(network, shape, key)
    _check_name(keys, keys.critic_network, key)
    make = trunk_family(keys.critic_network, key, width=keys.critic_width, depth=keys.critic_depth)
    network = make(shape)
    return network, count_features(network, shape)


def initialized(keys: SystemConfig, network: Network) -> Network:
    """`network` with the weights that the configuration asks for at the start."""
    return networks.xavier_(network) if keys.initialization == "xavier" else network


def _called(own: object, key: str, *arguments: Any) -> Callable[[], nn.Module]:
    """A call of the caller's function. Raises UserError if it is none, cannot be called so, or makes no module."""
    if not callable(own):
        raise UserError(f"{key}: {own!r} is neither a function nor a torch.nn.Module")
    try:
        inspect.signature(own).bind(*arguments)
    except TypeError as error:
        raise UserError(f"{key}: {own!r} cannot be called with {arguments}: {error}") from None
    except ValueError:  # a built-in function without a signature: the call will tell
        pass

    def make() -> nn.Module:
        network = own(*arguments)
        if not isinstance(network, nn.Module):
            raise UserError(f"{key}: {own!r} made a {type(network).__name__} of {arguments}, not a torch.nn.Module")
        return network

    return make


def _refuse(keys: SystemConfig, key: str, options: Sequence[str]) -> None:
    """A caller's network has its own sizes and start: keys that it would not heed are refused."""
    for option in options:
        if getattr(keys, option) is not None:
            raise UserError(f"system.{option} is for the package's networks, and {key} is your own: leave it out")
    if keys.initialization == "xavier":
        raise UserError(f"system.initialization xavier is for the networks default, conv and mlp; {key} is your own")


def _check_name(keys: SystemConfig, name: str, key: str) -> None:
    if ":" in name:
        raise UserError(f"{key} {name} is not the package's: give it, networks=Networks(...), when the system is built")
    if keys.initialization == "xavier" and name not in (*PAPERS, "mlp"):
        raise UserError(f"system.initialization xavier is for the networks default, conv and mlp, and {key} is {name}")
