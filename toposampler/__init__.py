"""toposampler: generative models whose data lives on disconnected manifolds."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {"load": "toposampler.lookup", "register": "toposampler.plugins"}


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for: torch takes a second, the version needs none of it."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'toposampler' has no attribute {name!r}")
