"""The papers' networks, by the shape of the data: multilayer perceptrons for points, convolutions for images.

Sizes are those of Khayatkhoei et al. 2018 (DMGAN): a generator of a multi-generator model has a quarter of the single
generator's filters.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

from torch import nn

from toposampler.nn.critic import Critic
from toposampler.nn.pairs import PairFeatures
from toposampler.nn.precision import Head

Shape = tuple[int, ...]
Network = TypeVar("Network", bound=nn.Module)


def xavier_(network: Network) -> Network:
    """Glorot and Bengio's uniform weights and zero biases, the default of TensorFlow and so of DMGAN's authors."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network


def default_generator_width(shape: Shape, n_generators: int) -> int:
    """The paper's width: 64 for points, 32 for images up to 32x32, 128 above; a quarter of it for ensembles."""
    single = 64 if len(shape) == 1 else 32 if max(shape[1:]) <= 32 else 128
    return single if n_generators == 1 else single // 4


def generator(shape: Shape, latent_dim: int, width: int, norm: bool = False) -> nn.Sequential:
    """G: latents (n, latent_dim) to samples (n, *shape): `mlp_generator` for points, `conv_generator` for images."""
    return (
        mlp_generator(shape, latent_dim, width) if len(shape) == 1 else conv_generator(shape, latent_dim, width, norm)
    )


def mlp_generator(shape: Shape, latent_dim: int, width: int, depth: int = 2) -> nn.Sequential:
    """G: latent_dim - 2 width - ... - 2 width - width - d with `depth` >= 1 hidden layers, ReLU between; images, whose
    pixels are the d dimensions, end with tanh. Of two layers the paper's for points."""
    widths = [latent_dim, *[2 * width] * (depth - 1), width]
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    layers.append(nn.Linear(width, math.prod(shape)))
    if len(shape) > 1:
        layers += [nn.Unflatten(1, shape), nn.Tanh()]
    return nn.Sequential(*layers)


def conv_generator(shape: Shape, latent_dim: int, width: int, norm: bool = False) -> nn.Sequential:
    """G for images in (-1, 1) of any size: a linear layer to 4 width maps of about an eighth of each side, then three
    nearest-neighbor enlargements, each with a 5x5 convolution, to 2 width, width and C maps; ReLU between, tanh at the
    end. With `norm` each sample's hidden maps are brought to mean 0 and variance 1 together."""
    channels, *sides = shape
    base, *sizes = ([max(4, math.ceil(side / 2**halvings)) for side in sides] for halvings in (3, 2, 1, 0))
    maps = (4 * width, 2 * width, width, channels)
    layers: list[nn.Module] = [nn.Linear(latent_dim, maps[0] * math.prod(base)), nn.Unflatten(1, (maps[0], *base))]
    for (n_in, n_out), size in zip(itertools.pairwise(maps), sizes, strict=True):
        norms = [nn.GroupNorm(1, n_in)] if norm else []
        layers += [*norms, nn.ReLU(), nn.Upsample(tuple(size)), nn.Conv2d(n_in, n_out, 5, padding=2)]
    return nn.Sequential(*layers, nn.Tanh())


def default_critic_width(shape: Shape) -> int:
    """The paper's width: 64 for points, 32 for images."""
    return 64 if len(shape) == 1 else 32


def critic(shape: Shape, width: int) -> Critic:
    """D: points d - width - 2 width - 1, slope .2; images: 5x5 stride-2 convolutions to width, 2 width and 4 width
    maps, slope .1, and 1."""
    return Critic(*_trunk(shape, width))


def mlp_trunk(shape: Shape, width: int, depth: int = 2) -> nn.Sequential:
    """A critic's trunk: d - width - 2 width - ... - 2 width with `depth` >= 1 hidden layers, slope .2; images as the d
    dimensions of their pixels."""
    return nn.Sequential(*_perceptron(shape, width, depth)[0])


def conv_trunk(shape: Shape, width: int) -> nn.Sequential:
    """A critic's trunk for images: 5x5 stride-2 convolutions to width, 2 width and 4 width maps, slope .1."""
    return nn.Sequential(*_convolutions(shape, width)[0])


def pair_critic(trunk: nn.Module, n_features: int, shape: Shape, latent_dim: int) -> Critic:
    """D(x, z) of `pairs` for images: a trunk, whose features of x meet z in one hidden layer of 128, slope .1."""
    joint = [nn.Linear(n_features + latent_dim, 128), nn.LeakyReLU(0.1)]
    return Critic([PairFeatures(trunk, shape), *joint], 128)


def latent_encoder(trunk: nn.Module, n_features: int, latent_dim: int) -> nn.Sequential:
    """E: samples (n, *shape) to latents (n, latent_dim), a critic's trunk with as many outputs."""
    layers = trunk if isinstance(trunk, nn.Sequential) else [trunk]
    return nn.Sequential(*layers, nn.Linear(n_features, latent_dim))


def _trunk(shape: Shape, width: int) -> tuple[list[nn.Module], int]:
    """The critic's layers up to its features, and how many features come out."""
    return _perceptron(shape, width, 2) if len(shape) == 1 else _convolutions(shape, width)


def _perceptron(shape: Shape, width: int, depth: int) -> tuple[list[nn.Module], int]:
    """See `mlp_trunk`; and how many features come out."""
    layers: list[nn.Module] = [] if len(shape) == 1 else [nn.Flatten()]
    widths = [math.prod(shape), width, *[2 * width] * (depth - 1)]
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
    return layers, widths[-1]


def classifier(shape: Shape, n_classes: int) -> nn.Sequential:
    """Images (n, C, H, W) to logits (n, n_classes): 5x5 stride-2 convolutions to 64, 128 and 256 maps, and one linear
    layer, as the classifier that DMGAN's authors measure with; slope .1, chosen here as in their critic."""
    trunk, n_features = _convolutions(shape, 64)
    return nn.Sequential(*trunk, nn.Linear(n_features, n_classes))


def _convolutions(shape: Shape, width: int) -> tuple[list[nn.Module], int]:
    """5x5 stride-2 convolutions to width, 2 width and 4 width maps, slope .1, and how many features come out."""
    channels, *sides = shape
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise((channels, width, 2 * width, 4 * width)):
        layers += [nn.Conv2d(n_in, n_out, 5, stride=2, padding=2), nn.LeakyReLU(0.1)]
    return [*layers, nn.Flatten()], 4 * width * math.prod(math.ceil(side / 8) for side in sides)


def encoder(n_features: int, n_generators: int, batch_norm: bool) -> Head:
    """Q: the critic's features (n, n_features) to logits (n, K), by one hidden layer of 128, normalized if asked."""
    norm = [nn.BatchNorm1d(128, track_running_stats=False)] if batch_norm else []
    return Head(nn.Linear(n_features, 128), *norm, nn.LeakyReLU(0.2), nn.Linear(128, n_generators))
