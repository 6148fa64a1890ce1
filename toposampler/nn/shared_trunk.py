"""Generators that have all layers in common but the first: of the networks default, conv and mlp.

Of the family resnet it is `resnet.SharedTrunkGenerators`, whose first layer is a learned map each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OwnFirstLayers(nn.Module):
    """{G_c}: G_c(z) = trunk(W_c z + b_c), with a first layer each, and all others in common.

    In the place of a `GeneratorEnsemble`; a further generator costs its first layer alone. As the trunk belongs to all,
    the generators cannot be spread over workers.

    Args:
        first: the K first layers, alike in size, with a bias.
        trunk: what is behind each of them.
    """

    def __init__(self, first: Sequence[nn.Linear], trunk: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in first]))
        """(K, m, latent_dim)"""
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in first]))
        """(K, m)"""
        self.trunk = trunk

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G_c(z): latents (n, d) and generator ids (n,) int64 in [0, K) to samples (n, *shape)."""
        if len(self.weight) == 1:
            return self.trunk(F.linear(z, self.weight[0], self.bias[0]))
        # One product with the latent in the columns of its generator, 0 in the others: a row of weights for each
        # sample would have to be copied.
        ids = torch.arange(len(self.weight), device=z.device)
        own = (c.to(z.device, non_blocking=True)[:, None] == ids).to(z.dtype)
        columns = (own[:, :, None] * z[:, None, :]).flatten(1)
        hidden = columns @ self.weight.transpose(1, 2).flatten(0, 1) + own @ self.bias
        return self.trunk(hidden)
