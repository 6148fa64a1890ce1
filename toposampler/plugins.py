"""Systems, data sets, networks and metrics from outside the package, and what is known of each kind.

Other packages name theirs as entry points, in the groups `toposampler.systems`, `toposampler.data` (sections of a
configuration), `toposampler.networks` and `toposampler.metrics` (functions):

    [project.entry-points."toposampler.systems"]
    my_gan = "my_package.my_gan:MyGANConfig"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from toposampler.data import SETS
from toposampler.data.base import DataConfig
from toposampler.errors import UserError
from toposampler.metrics.registered import METRICS
from toposampler.nn.families import NETWORKS
from toposampler.registry import Entry, Registry
from toposampler.systems import SYSTEM_CLASSES
from toposampler.systems.base import SystemConfig

T = TypeVar("T")

KINDS: dict[str, Registry[Any]] = {"system": SYSTEM_CLASSES, "data": SETS, "network": NETWORKS, "metric": METRICS}


def register(thing: T, *, network: str | None = None, metric: str | None = None) -> T:
    """Have `thing` known in this process by its name, and return it, so that it also decorates a class.

        @toposampler.register
        class MyGANConfig(SystemConfig):
            name: Literal["my_gan"] = "my_gan"

        toposampler.register(my_blocks, network="my_blocks")
        toposampler.register(largest_gap, metric="largest_gap")

    A configuration may name it from now on: it is validated, described, trained, swept and loaded as the package's
    own. What is registered twice under one name, from one place, is replaced.

    Args:
        thing: a subclass of `SystemConfig` with `build`, a subclass of `DataConfig` with `load`, or a function.
        network: the name of a function that makes networks; see `toposampler.nn.families`.
        metric: the name of a function that measures samples; see `toposampler.metrics.registered`.

    Raises UserError if it is none of these, or if the name is taken.
    """
    if network is not None and metric is not None:
        raise UserError(f"register: network={network!r} and metric={metric!r}: a function is one of them")
    if network is not None:
        NETWORKS.register(thing, network)
    elif metric is not None:
        METRICS.register(thing, metric)
    elif isinstance(thing, type) and issubclass(thing, DataConfig):
        SETS.register(thing)
    elif isinstance(thing, type) and issubclass(thing, SystemConfig):
        SYSTEM_CLASSES.register(thing)
    else:
        raise UserError(
            f"register: {thing!r} is neither a subclass of SystemConfig nor one of DataConfig; a function needs a "
            "name: network=... or metric=..."
        )
    return thing


def systems() -> list[Entry[type[SystemConfig]]]:
    """All systems: name, section, where it comes from, and what its docstring says first (its paper)."""
    return SYSTEM_CLASSES.entries()


def datasets() -> list[Entry[type[DataConfig]]]:
    """All data sets, as `systems` lists systems."""
    return SETS.entries()


def networks() -> list[Entry[Callable[..., Any]]]:
    """All registered networks, as `systems` lists systems."""
    return NETWORKS.entries()


def metrics() -> list[Entry[Callable[..., Any]]]:
    """All registered metrics, as `systems` lists systems."""
    return METRICS.entries()


class Registered:
    """What this process has been told of, for another process: unpickled there, it is known there.

    Entry points are not part of it, as every process finds them itself. Classes of a notebook go by value where they
    are pickled by cloudpickle, as Ray does.
    """

    def __init__(self) -> None:
        self._things = [(kind, *entry) for kind, registry in KINDS.items() for entry in registry.registered()]

    def __reduce__(self) -> tuple[Any, ...]:
        return _known_here, (self._things,)


def _known_here(things: list[tuple[str, str, Any]]) -> Registered:
    for kind, name, thing in things:
        KINDS[kind].register(thing, name)
    return Registered()
