"""How far an autoencoder's output is from its input."""

from __future__ import annotations

from torch import Tensor

from toposampler.losses.batch import Batch


def squared_error(output: Tensor, target: Tensor, batch: Batch) -> Tensor:
    """E |output - target|^2, each (n, ...), summed over all dimensions of a row."""
    return batch.mean((output - target).flatten(1).square().sum(dim=1))
