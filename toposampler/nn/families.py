"""Networks by name: the package's families, those of installed packages, and functions of the user's own.

A name is `default` (the papers' networks for the data's shape), a family (`mlp`, `conv`, `resnet`), one that was
registered (`toposampler.register(..., network="name")`), an entry point of the group `toposampler.networks`, or
`module:function`. What is registered is a function, or an object with functions `generator(shape, latent_dim)` and
`critic(shape)`, or one of them: a module, or a `nn.custom.Networks`. Options (width, depth) reach a function
that has a parameter of their name; of one that has not they are refused, never ignored.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from toposampler.errors import UserError
from toposampler.nn import networks, resnet
from toposampler.nn.custom import MakeGenerator, MakeTrunk, Networks, Shape
from toposampler.registry import Registry, function_name

PARTS = ("generator", "critic")


def _default_generator(shape: Shape, latent_dim: int, width: int | None = None, norm: bool = False) -> nn.Module:
    width = width or networks.default_generator_width(shape, 1)
    return networks.generator(shape, latent_dim, width, norm)


def _default_trunk(shape: Shape, width: int | None = None) -> nn.Module:
    width = width or networks.default_critic_width(shape)
    return networks.mlp_trunk(shape, width) if len(shape) == 1 else networks.conv_trunk(shape, width)


def _mlp_generator(shape: Shape, latent_dim: int, width: int = 64, depth: int = 2) -> nn.Module:
    return networks.mlp_generator(shape, latent_dim, width, depth)


def _mlp_trunk(shape: Shape, width: int = 64, depth: int = 2) -> nn.Module:
    return networks.mlp_trunk(shape, width, depth)


def _conv_generator(shape: Shape, latent_dim: int, width: int | None = None, norm: bool = False) -> nn.Module:
    _refuse_points("conv", shape)
    return _default_generator(shape, latent_dim, width, norm)


def _conv_trunk(shape: Shape, width: int | None = None) -> nn.Module:
    _refuse_points("conv", shape)
    return _default_trunk(shape, width)


def _refuse_points(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise UserError(f"the networks {name} are for images (C, H, W); these samples have the shape {shape}: take mlp")


FAMILIES = {
    "default": Networks(_default_generator, _default_trunk),
    "mlp": Networks(_mlp_generator, _mlp_trunk),
    "conv": Networks(_conv_generator, _conv_trunk),
    "resnet": Networks(resnet.resnet_generator, resnet.resnet_trunk),
}
"""the package's own"""


class Families(Registry[Any]):
    """Functions that make networks, and objects with such functions."""

    def checked(self, thing: object, name: str | None) -> tuple[str, Any]:
        """See `Registry.checked`."""
        if not callable(thing) and not any(callable(getattr(thing, part, None)) for part in PARTS):
            raise UserError("is no function, and has no function `generator` or `critic`, as a network must")
        return function_name(self.noun, name), thing


NETWORKS = Families("network", "toposampler.networks", FAMILIES.items)
"""all networks that have a name"""


def generator_family(name: str, key: str = "system.generator_network", **options: Any) -> MakeGenerator:
    """The function (shape, latent_dim) to a generator that `name` stands for.

    `options` that are None are left to the function. Raises UserError, naming `key` and `name`, if there is no such
    family or function, it cannot be imported, takes other arguments or not one of the options; and, when it is called,
    if it returns no module.
    """
    return _function(name, key, "generator", ("shape", "latent_dim"), options)


def trunk_family(name: str, key: str = "system.critic_network", **options: Any) -> MakeTrunk:
    """The function (shape) to a critic's trunk that `name` stands for; see `generator_family`."""
    return _function(name, key, "critic", ("shape",), options)


def _function(
    name: str, key: str, part: str, arguments: tuple[str, ...], options: dict[str, Any]
) -> Callable[..., nn.Module]:
    function = imported(name, key) if ":" in name else _of_family(name, key, part)
    options = {option: value for option, value in options.items() if value is not None}
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some built-in functions
        raise UserError(f"{key}: {name} does not say what arguments it takes; give a Python function") from None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise UserError(
            f"{key}: {name} takes {signature}; it is called with ({', '.join(arguments)}): {error}"
        ) from None
    for option in options:
        try:
            signature.bind(*arguments, **{option: None})
        except TypeError:
            raise UserError(f"{key}: {name} takes {signature}, and so no option {option}; leave it out") from None
    return partial(_made, partial(function, **options), key, name)


def _made(function: Callable[..., Any], key: str, name: str, *arguments: Any) -> nn.Module:
    try:
        network = function(*arguments)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"{key}: {name}{arguments} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _of_family(name: str, key: str, part: str) -> Callable[..., Any]:
    try:
        family = NETWORKS.find(name)
    except UserError as error:
        raise UserError(f"{key}: {error}, and module:function") from None
    function = family if inspect.isroutine(family) or isinstance(family, type) else getattr(family, part, None)
    if function is None:
        raise UserError(f"{key}: the networks {name} have no {part}")
    return function


def imported(name: str, key: str) -> Callable[..., Any]:
    """The function that `module:function` refers to; dots after the colon are attributes.

    Call it for names that a user gives, never for one that a stored model holds. Raises UserError, naming `key`, if
    there is none.
    """
    module, _, attribute = name.partition(":")
    found: Any
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a foreign module does when it is imported
        raise UserError(
            f"{key}: {name}: the module {module!r} cannot be imported: {type(error).__name__}: {error}; its folder "
            "must be on PYTHONPATH"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"{key}: {name}: {module} has no {attribute or 'function of an empty name'}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{key}: {name} is a {type(found).__name__}, not a function")
    return found
