"""Networks as a user would write them, outside the package: residual blocks, attention, buffers, skip connections."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualAttentionTrunk(nn.Module):
    """A critic's trunk: each coordinate a token, self-attention among them, then a residual block."""

    def __init__(self, dim: int, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.first, self.second = nn.Linear(dim * width, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.unsqueeze(-1))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        h = F.silu(self.first(tokens.flatten(1)))
        return h + F.silu(self.second(h))


class FourierSkipGenerator(nn.Module):
    """A generator with a buffer of random frequencies, which differs between generators, and a skip connection."""

    def __init__(self, latent_dim: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(latent_dim, 6))
        self.frequencies: Tensor
        self.hidden, self.out, self.skip = nn.Linear(12, 16), nn.Linear(16, dim), nn.Linear(latent_dim, dim)

    def forward(self, z: Tensor) -> Tensor:
        angles = z @ self.frequencies
        h = torch.tanh(self.hidden(torch.cat([angles.sin(), angles.cos()], dim=1)))
        return self.out(h) + self.skip(z)


def trunk(shape: tuple[int, ...]) -> nn.Module:
    return ResidualAttentionTrunk(*shape)


def generator(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return FourierSkipGenerator(latent_dim, *shape)


def batch_normed(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(latent_dim, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, *shape))


def wrong_shape(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return nn.Linear(latent_dim, shape[0] + 1)


class NotANumber(nn.Module):
    """Returns NaN."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z) * torch.nan


def not_a_number(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return NotANumber(latent_dim, *shape)


class Detached(nn.Module):
    """A trunk without a gradient."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.detach())


def detached(shape: tuple[int, ...]) -> nn.Module:
    return Detached(*shape)


NUMBER = 3
