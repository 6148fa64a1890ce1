"""Networks that are not the package's: what a model records of them, and how a caller gives them back.

A model is data, and never says what is to be run. It names the networks it was trained with, and they are imported only
if the caller gives them, or names the same `module:function`.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from toposampler.errors import UserError
from toposampler.nn.custom import Networks
from toposampler.nn.families import imported
from toposampler.systems import SystemConfig
from toposampler.training.config import RunConfig
from toposampler.training.manifest import OwnNetwork

ROLES = ("generator", "critic")
Given = Networks | Mapping[str, Any] | Sequence[str] | str | None
"""networks as a caller gives them: by role, or as names, `module:function`, of those that the model names"""

log = logging.getLogger(__name__)


def is_own(name: str) -> bool:
    """Whether `name`, the value of a key `system.*_network`, is a function outside the package."""
    return ":" in name


def given_or_named(config: RunConfig, networks: Networks | None) -> tuple[RunConfig, Networks]:
    """The run of `config` with the networks that a caller gives, and functions for those that it names.

    The configuration names what is given, so that a run says what it was trained with. Its own names, which the user
    wrote, are imported here. Raises UserError if that fails, or if another network is given than is named.
    """
    names, found = {}, {}
    for role in ROLES:
        key, thing, name = f"{role}_network", getattr(networks, role, None), _named(config.system, role)
        if isinstance(thing, str):
            raise UserError(f"networks: {role} is the name {thing!r}: give it as system.{key}")
        if thing is None:
            found[role] = imported(name, f"system.{key}") if is_own(name) else None
        elif name not in ("default", _name_of(thing)):
            raise UserError(f"system.{key} is {name}, and {_name_of(thing)} is given: leave one of them out")
        else:
            found[role], names[key] = thing, _name_of(thing)
    if names:
        config = config.model_copy(update={"system": config.system.model_copy(update=names)})
    return config, Networks(**found)


def source_digest(thing: object) -> str | None:
    """SHA-256 of the source of a function or class, or of a module's class; None where no source can be read."""
    defined = type(thing) if isinstance(thing, nn.Module) else inspect.unwrap(thing) if callable(thing) else thing
    try:
        return hashlib.sha256(inspect.getsource(defined).encode()).hexdigest()  # type: ignore[arg-type]
    except (OSError, TypeError):
        return None


def networks_of(config: SystemConfig, networks: Networks) -> dict[str, OwnNetwork]:
    """What a model records, by role, of the networks that are not the package's.

    Args:
        config: of the system, whose keys name them.
        networks: those that it was built with, in place of the package's.
    """
    found = {}
    for role in ROLES:
        if (thing := getattr(networks, role)) is not None:
            found[role] = OwnNetwork(name=_named(config, role), sha256=source_digest(thing))
    return found


def names_in(config: SystemConfig) -> tuple[str, ...]:
    """The functions outside the package that `config` names: its owner gives them by that."""
    return tuple(dict.fromkeys(name for role in ROLES if is_own(name := _named(config, role))))


def matched(needed: Mapping[str, OwnNetwork], config: SystemConfig, given: Given, place: object) -> Networks:
    """The networks to build the model at `place` with, from those `given`; none where it needs none.

    A network whose source differs from the recorded one is taken, with a warning.

    Args:
        needed: as the model records them, by role.
        config: of the system: what it names needs to be given too, recorded or not.
        given: by the caller. Names that the model does not have are left alone, and not imported.
        place: for messages.

    Raises UserError, naming all that are needed, if one is missing; and if one is given for a role that has the
    package's own.
    """
    unrecorded = {role: name for role in ROLES if is_own(name := _named(config, role)) and role not in needed}
    needed = {**needed, **{role: OwnNetwork(name=name, sha256=None) for role, name in unrecorded.items()}}
    found = _by_role(needed, given)
    if extra := found.keys() - needed.keys():
        raise UserError(f"{place}: its {' and '.join(sorted(extra))} is the package's own; none can be given for it")
    if needed.keys() - found.keys():
        names = ",".join(dict.fromkeys(network.name for network in needed.values()))
        told = ", ".join(f"{role} {network}" for role, network in needed.items())
        raise UserError(
            f"{place}: this model needs networks of its own: {told}; give them: load(..., networks=...) or "
            f"--networks {names}"
        )
    for role, thing in found.items():
        digest = source_digest(thing)
        if needed[role].sha256 is not None and digest != needed[role].sha256:
            log.warning(
                "%s: its %s %s was made by source of SHA-256 %s, and the one given has %s: what comes may differ",
                *(place, role, needed[role].name, needed[role].sha256, digest or "no source that can be read"),
            )
    return Networks(**found)


def _by_role(needed: Mapping[str, OwnNetwork], given: Given) -> dict[str, Any]:
    """The networks `given`, by role; names are imported if they are those of `needed`."""
    if given is None:
        return {}
    if isinstance(given, str):
        given = given.split(",")
    if isinstance(given, Networks):
        given = {role: getattr(given, role) for role in ROLES}
    if isinstance(given, Mapping):
        if unknown := given.keys() - set(ROLES):
            raise UserError(f"networks: {', '.join(sorted(map(str, unknown)))}: there are {' and '.join(ROLES)}")
        return {
            role: imported(thing, f"networks[{role!r}]") if isinstance(thing, str) else thing
            for role, thing in given.items()
            if thing is not None
        }
    for name in given:
        if not isinstance(name, str) or not is_own(name):
            raise UserError(f"networks: {name!r} is not module:function")
    return {role: imported(of.name, "networks") for role, of in needed.items() if of.name in given}


def _named(config: SystemConfig, role: str) -> str:
    """What the configuration names as this role's network."""
    return str(getattr(config, f"{role}_network"))


def _name_of(thing: object) -> str:
    """`thing` as `module:function`; of a module, its class."""
    of = type(thing) if isinstance(thing, nn.Module) else thing
    return f"{getattr(of, '__module__', '?')}:{getattr(of, '__qualname__', type(of).__qualname__)}"
