"""R3GAN's residual networks without normalization (Huang, Gokaslan, Kuleshov, Tompkin 2024, arXiv 2501.05441).

A residual block is x + W3 a(W2 a(W1 x + b1) + b2): a 1x1 convolution to twice the maps, a grouped 3x3 one and a 1x1 one
back, a the leaky ReLU of slope .2. At the start W3 = 0, so that a block is the identity, and the weights before are
scaled by L^(-1/4), L the number of blocks of the network (Fix-up: Zhang, Dauphin, Ma 2019, arXiv 1901.09321). The
generator starts from learned maps of about 4x4 (`Basis`), which the latent scales map by map; bilinear enlargements
stand between stages of equal width. The critic's trunk is its mirror image.

Deviations
----------
- Images in (-1, 1) end with tanh, as those of the other networks; R3GAN's have no bound.
- Sides are of any size: each stage has half the side of the one above, rounded up, down to 4 to 7 pixels on the shorter
  side. Resampling is `torch`'s bilinear interpolation; at even sides its halving is the mean of 2x2 pixels, where R3GAN
  filters with [1, 2, 1] before.
- All maps are bilinear or linear outside the blocks, as in R3GAN; the 1x1 convolutions from and to colors have a bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.errors import UserError

Shape = tuple[int, ...]

WIDTH = 64
"""maps of every stage, where no width is given"""
BLOCKS = 2
"""residual blocks of a stage, where no number is given: R3GAN's"""
SLOPE = 0.2
GROUP = 16
"""maps, at least, in a group of the 3x3 convolutions"""
LEAST_SIDE = 8


def sizes(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of every stage of images (C, H, W), the smallest first.

    Raises UserError if the data are no images or have fewer than 8 pixels on a side.
    """
    if len(shape) != 3 or min(shape[1:]) < LEAST_SIDE:
        raise UserError(
            f"the networks resnet are for images (C, H, W) of at least {LEAST_SIDE} pixels a side; these samples have "
            f"the shape {shape}: take mlp or default"
        )
    _, height, width = shape
    halvings = int(math.log2(min(height, width) / 4))
    return [(math.ceil(height / 2**i), math.ceil(width / 2**i)) for i in range(halvings, -1, -1)]


class ResidualBlock(nn.Module):
    """x + W3 a(W2 a(W1 x + b1) + b2) on `width` maps, the identity at first; `n_blocks` is L, of the whole network."""

    def __init__(self, width: int, n_blocks: int) -> None:
        super().__init__()
        inner = 2 * width
        group = next(size for size in range(min(GROUP, inner), inner + 1) if inner % size == 0)
        self.n_blocks = n_blocks
        self.expand = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner // group)
        self.reduce = nn.Conv2d(inner, width, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The start of Fix-up."""
        for layer in (self.expand, self.mix):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.weight *= self.n_blocks**-0.25
        nn.init.zeros_(self.reduce.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, H, W) to the same."""
        y = F.leaky_relu(self.expand(x), SLOPE)
        return x + self.reduce(F.leaky_relu(self.mix(y), SLOPE))


class Resample(nn.Module):
    """Bilinear interpolation of maps (n, C, h, w) to (n, C, *size)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.interpolate(x, self.size, mode="bilinear")


class Scales(nn.Linear):
    """A factor for each of `width` maps, a linear function of the latent, at first of the latent's variance."""

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__(latent_dim, width, bias=False)

    def reset_parameters(self) -> None:
        """Normal weights of variance 1 / latent_dim."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, z: Tensor) -> Tensor:
        """(n, latent_dim) to (n, width, 1, 1)."""
        return super().forward(z)[:, :, None, None]


class Basis(nn.Module):
    """Learned maps (width, *size), each scaled by a linear function of the latent (n, latent_dim)."""

    def __init__(self, latent_dim: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(width, *size))
        self.scales = Scales(latent_dim, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard normal maps."""
        nn.init.normal_(self.maps)

    def forward(self, z: Tensor) -> Tensor:
        """(n, latent_dim) to (n, width, *size)."""
        return self.maps * self.scales(z)


class SharedTrunkGenerators(nn.Module):
    """{G_c}: networks with a basis each, G_c(z) = trunk(basis_c(z)), and all other layers in common.

    In the place of a `GeneratorEnsemble`; a further generator costs its maps alone. As the trunk belongs to all, the
    generators cannot be spread over workers.

    Args:
        shape: of an image, (C, H, W).
        latent_dim: of z.
        n_generators: K.
        width: maps of every stage.
        depth: residual blocks of a stage.
    """

    def __init__(
        self, shape: Shape, latent_dim: int, n_generators: int, width: int = WIDTH, depth: int = BLOCKS
    ) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(n_generators, width, *sizes(shape)[0]))
        self.scales = Scales(latent_dim, width)
        nn.init.normal_(self.maps)  # after the scales, as in `Basis`: one generator starts like `resnet_generator`
        self.trunk = _generator_trunk(shape, width, depth)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G_c(z): latents (n, d) and generator ids (n,) int64 in [0, K) to samples (n, *shape)."""
        if len(self.maps) == 1:
            return self.trunk(self.maps[0] * self.scales(z))
        maps = self.maps.index_select(0, c.to(z.device, non_blocking=True))
        return self.trunk(maps * self.scales(z))


def resnet_generator(shape: Shape, latent_dim: int, width: int = WIDTH, depth: int = BLOCKS) -> nn.Sequential:
    """G: latents (n, latent_dim) to images (n, C, H, W), `depth` residual blocks of `width` maps a stage."""
    return nn.Sequential(Basis(latent_dim, width, sizes(shape)[0]), *_generator_trunk(shape, width, depth))


def resnet_trunk(shape: Shape, width: int = WIDTH, depth: int = BLOCKS) -> nn.Sequential:
    """A critic's trunk: images (n, C, H, W) to features (n, width), the mirror image of `resnet_generator`: the last
    layer weighs each map with learned maps as the generator's first layer scales them."""
    *below, _ = sizes(shape)
    layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 1)]
    for size in reversed(below):
        layers += [*_stage(width, depth, len(below) + 1), Resample(size)]
    layers += _stage(width, depth, len(below) + 1)
    return nn.Sequential(*layers, nn.Conv2d(width, width, below[0], groups=width, bias=False), nn.Flatten())


def _generator_trunk(shape: Shape, width: int, depth: int) -> nn.Sequential:
    """Maps (n, width, *smallest size) to images (n, *shape)."""
    _, *stages = sizes(shape)
    layers = _stage(width, depth, len(stages) + 1)
    for size in stages:
        layers += [Resample(size), *_stage(width, depth, len(stages) + 1)]
    return nn.Sequential(*layers, nn.Conv2d(width, shape[0], 1), nn.Tanh())


def _stage(width: int, depth: int, n_stages: int) -> list[nn.Module]:
    return [ResidualBlock(width, depth * n_stages) for _ in range(depth)]
