"""toposampler: generative models whose data lives on disconnected manifolds."""

__version__ = "0.1.0"
