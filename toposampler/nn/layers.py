"""What can be known of a network from its layers: which they are exactly, and in which order they run."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils import parametrize


def plain_layers(network: nn.Module) -> list[nn.Module] | None:
    """The layers that `network` runs one after the other, or None if that is not known.

    It is known of a `Sequential`, nested to any depth, whose forward and whose layers' forward are those of their
    classes: no subclass of Sequential, no hooks, no forward put on an object. What each layer computes is for the
    caller to tell by its exact type (`exact_type`) and its options.
    """
    if _has_any_global_hook() or "forward" in vars(network) or _has_hooks(network):
        return None
    if type(network) is not nn.Sequential:
        return [network]
    layers = []
    for child in network:
        below = plain_layers(child)
        if below is None:
            return None
        layers += below
    return layers


def exact_type(layer: nn.Module, pure: tuple[type[nn.Module], ...] = ()) -> type[nn.Module] | None:
    """The class whose forward `layer` runs: of a layer with parametrized weights the class it was before.

    None if a parametrization is of another type than those in `pure`: read twice it may give two different weights.
    """
    if not parametrize.is_parametrized(layer):
        return type(layer)
    chains = layer.parametrizations.values()  # type: ignore[operator]
    known = all(type(step) in pure for chain in chains for step in chain)
    return parametrize.type_before_parametrizations(layer) if known else None


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
