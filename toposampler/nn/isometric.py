"""Generators that cannot stretch: 1-Lipschitz as in TopoSampler, and truly isometric.

Dey and Das, TopoSampler, NeurIPS 2020 workshop "TDA and Beyond". Their generator is built of 1-Lipschitz pieces: linear
layers divided by their spectral norm, and 1-Lipschitz activations. All hidden layers have the width of the latent
space; the jump to the data's dimension is made by the last layer alone. A learned factor on the output, which the
slides have not, is the Lipschitz constant of the whole.

A spectral norm of 1 bounds a layer from above: it may shrink as much as it likes. What keeps lengths is an orthogonal
weight between activations that only permute their inputs (GroupSort: Anil, Lucas and Grosse 2019, arXiv 1811.05381):
such a network's Jacobian has orthonormal columns wherever it exists, as long as the data has at least as many
dimensions as the latent space.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toposampler.config import Section
from toposampler.errors import UserError

MOST = 1000.0
"""factor beyond which an untrained network counts as constant"""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class IsometricConfig(Section):
    """How a generator is kept from stretching."""

    kind: Literal["plain", "spectral", "orthogonal"] = "plain"
    """plain: the DMGAN paper's network, free to stretch, the only one that `generator_width` and `initialization` are
    for; spectral: every layer divided by its spectral norm, at most 1-Lipschitz (the slides); orthogonal: orthogonal
    layers and GroupSort, which keep lengths"""
    activation: Literal["elu", "relu", "leaky_relu", "tanh", "sigmoid"] = "leaky_relu"
    """between the layers of the spectral kind; others: unused"""
    depth: int = Field(3, ge=0, le=1000)
    """hidden layers of the spectral and orthogonal kind, each as wide as the latent space; 0: one linear map, which for
    the orthogonal kind is a rigid motion"""
    scale: bool = True
    """learn one factor for all of the output (of the spectral and orthogonal kind); false: none, as on the slides"""


class GroupSort(nn.Module):
    """Sorts each pair of features (i, i + d // 2) to (larger, smaller); of an odd d the last stays (MaxMin)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) to (n, d), with the Jacobian of a permutation."""
        half = x.shape[1] // 2
        a, b = x[:, :half], x[:, half : 2 * half]
        return torch.cat((torch.maximum(a, b), torch.minimum(a, b), x[:, 2 * half :]), dim=1)


class Scale(nn.Module):
    """x times a learned positive factor: the Lipschitz constant of a network whose other layers have 1."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.tensor([math.log(factor)]))

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) to (n, d)."""
        return x * self.log_factor.exp()


class UnitSpectralNorm(nn.Module):
    """W / sigma_max(W), by singular values: unlike `torch`'s power iteration it has no state that evaluation,
    averaging of weights or the number of forward passes could change."""

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) to (out, in), with a largest singular value of 1."""
        return weight / torch.linalg.matrix_norm(weight, 2)


class Orthonormal(nn.Module):
    """The orthonormal factor of W = QR with positive diag R: orthonormal columns, or rows if there are fewer.

    `torch.nn.utils.parametrizations.orthogonal` solves a system as large as the larger side: 32 x 784, forward and
    backward, takes 125 times as long, and its state holds a matrix in single precision whatever the weights are in.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """(..., out, in) to (..., out, in)."""
        tall = weight.shape[-2] >= weight.shape[-1]
        Q, R = torch.linalg.qr(weight if tall else weight.mT)
        Q = Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        return Q if tall else Q.mT


def _spectral(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    parametrize.register_parametrization(layer, "weight", UnitSpectralNorm())
    return layer


def _orthogonal(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(layer.weight)
    parametrize.register_parametrization(layer, "weight", Orthonormal())
    return layer


@torch.no_grad()
def _factor_that_keeps_variance(network: nn.Module, dim: int) -> float:
    """What the outputs for standard normal inputs (n, dim) must be multiplied by to vary as much as the inputs.

    Layers of spectral norm 1 shrink most directions: untrained, with three hidden ones and data of 3 dimensions, they
    leave a 25th (3 latent dimensions) to a 200th (101) of the spread, which Adam's steps on the logarithm of the factor
    would take thousands of iterations to undo. Raises UserError if next to nothing is left.
    """
    variance = float(network(torch.randn(1024, dim)).var(dim=0).sum())
    if variance * MOST**2 < dim:
        raise UserError(
            f"system.network: untrained, this generator leaves less than 1/{MOST:g} of the spread of its {dim} latent "
            "dimensions. Choose a smaller depth, activation leaky_relu or elu, a larger system.latent.dim, another "
            "seed, or scale false"
        )
    return math.sqrt(dim / variance)


def isometric_generator(config: IsometricConfig, shape: tuple[int, ...], latent_dim: int) -> nn.Sequential:
    """G: latents (n, latent_dim) to samples (n, *shape); images end with tanh, which is 1-Lipschitz too.

    `config.kind` is spectral or orthogonal. Raises UserError if the untrained network is next to constant.
    """
    linear = _spectral if config.kind == "spectral" else _orthogonal
    activation = ACTIVATIONS[config.activation] if config.kind == "spectral" else GroupSort
    layers: list[nn.Module] = []
    for _ in range(config.depth):
        layers += [linear(latent_dim, latent_dim), activation()]
    layers.append(linear(latent_dim, math.prod(shape)))
    if config.scale:
        layers.append(Scale(_factor_that_keeps_variance(nn.Sequential(*layers), latent_dim)))
    if len(shape) > 1:
        layers += [nn.Unflatten(1, shape), nn.Tanh()]
    return nn.Sequential(*layers)
