"""How far an autoencoder's output is from its input."""

from __future__ import annotations

from torch import Tensor

from toposampler.losses.reduction import expectation


def squared_error(output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """E |output - target|^2, each (n, ...), summed over all dimensions of a sample."""
    return expectation((output - target).flatten(1).square().sum(dim=1), weights)
