"""Weights divided by their spectral norm, which power iteration follows as they move (Miyato et al. 2018, algorithm 1).

`nn.isometric` takes the norm from singular values, which has no state; for the wide convolutions of a critic that would
cost more than the critic. `torch.nn.utils.parametrizations.spectral_norm` iterates whenever a weight is read, in the
generator's step and in evaluation too, twice in a pass that also takes the input's gradient. Here the system says when.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

Network = TypeVar("Network", bound=nn.Module)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SpectralNorm(nn.Module):
    """W / (u' W v), with u and v the first singular vectors of W (out, in * kernel): exact at first, then followed."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        # in float64, as float32 singular vectors differ between processors in their last digits, and so would a run
        U, _, Vh = torch.linalg.svd(weight.detach().flatten(1).double(), full_matrices=False)
        self.register_buffer("u", U[:, 0].to(weight.dtype))
        self.register_buffer("v", Vh[0].to(weight.dtype))
        self.u: Tensor
        self.v: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in, ...) to (out, in, ...); the norm's gradient is u v', as of the norm itself."""
        return weight / (weight.flatten(1) * torch.outer(self.u, self.v)).sum()

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One power iteration, in place; without matrix products, which autocast would round."""
        W = weight.flatten(1)
        self.u.copy_(F.normalize((W * self.v).sum(dim=1), dim=0))
        self.v.copy_(F.normalize((W.mT * self.u).sum(dim=1), dim=0))


def spectrally_normalized(network: Network) -> Network:
    """`network` with the weight of every linear layer and convolution divided by its spectral norm, biases free.

    A weight that is parametrized already stays as it is.
    """
    for layer in list(network.modules()):
        if isinstance(layer, LAYERS) and not parametrize.is_parametrized(layer, "weight"):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return network


def advance(network: nn.Module) -> None:
    """One power iteration of every layer of `network` that is spectrally normalized; nothing, if none is."""
    for layer in network.modules():
        if isinstance(layer, parametrize.ParametrizationList) and isinstance(layer[0], SpectralNorm):
            layer[0].advance(layer.original)
