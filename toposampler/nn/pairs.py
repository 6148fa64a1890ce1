"""Pairs (x, z) of a sample and a latent, as one row each, so that a `Critic` scores them as it scores points."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pairs(x: Tensor, z: Tensor) -> Tensor:
    """Samples (n, *shape) beside latents (n, d): (n, size of a sample + d)."""
    return torch.cat([x.flatten(1), z], dim=1)


class PairFeatures(nn.Module):
    """The features of x beside z: `pairs` (n, size + d) to (n, n_features + d).

    Args:
        features: samples (n, *shape) to features (n, n_features).
        shape: of a sample.
    """

    def __init__(self, features: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = features
        self.shape = torch.Size(shape)

    def forward(self, pairs: Tensor) -> Tensor:
        """See the class."""
        x, z = pairs.tensor_split([self.shape.numel()], dim=1)
        return torch.cat([self.features(x.unflatten(1, self.shape)), z], dim=1)
