"""Networks that go by a name: registered in this process, or entry points of the group `toposampler.networks`.

A name stands for a function, or for a family: an object, such as a module, whose `generator` and `critic` are
functions. A generator is made by (shape of a sample, latent_dim), a critic's trunk by (shape), as
`toposampler.nn.custom` says; the key that gives the name says which is wanted.
"""

from __future__ import annotations

from typing import Any

from toposampler.errors import UserError
from toposampler.registry import Registry, function_name


class Families(Registry[Any]):
    """Functions that make networks, and objects with such functions."""

    def checked(self, thing: object, name: str | None) -> tuple[str, Any]:
        """See `Registry.checked`."""
        if not callable(thing) and not any(callable(getattr(thing, part, None)) for part in ("generator", "critic")):
            raise UserError("is no function, and has no function `generator` or `critic`, as a network must")
        return function_name(self.noun, name), thing


NETWORKS = Families("network", "toposampler.networks")
"""all networks that are not the package's"""
