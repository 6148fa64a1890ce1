"""toposampler: generative models whose data lives on disconnected manifolds."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`toposampler.fit` and `load`, imported when they are asked for: torch takes a second, the version none."""
    if name == "load":
        from toposampler.training.lookup import load

        return load
    if name == "fit":
        from toposampler.api import fit

        return fit
    raise AttributeError(f"module 'toposampler' has no attribute {name!r}")
