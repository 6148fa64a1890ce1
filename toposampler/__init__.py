"""toposampler: generative models whose data lives on disconnected manifolds."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`toposampler.load`, imported when it is asked for: torch takes a second, and the version needs none of it."""
    if name == "load":
        from toposampler.lookup import load

        return load
    raise AttributeError(f"module 'toposampler' has no attribute {name!r}")
