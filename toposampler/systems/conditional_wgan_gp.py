"""Conditional WGAN-GP: one generator and one critic that are given the label of a sample.

The game is Gulrajani et al. 2017 (arXiv 1704.00028), the conditioning Mirza and Osindero 2014 (arXiv 1411.1784): both
networks read the class y as a one-hot vector beside their input. Disconnected data whose components are labeled need
no encoder and no learned prior: the label says which component to make.

| equation | here | logged term |
|---|---|---|
| critic: -E D(x, y) + E D(G(z, y), y) | `critic_loss` | `critic/real`, `critic/fake` |
| penalty: lambda E (abs(grad_x D(x_hat, y)) - 1)^2 | `critic_loss` | `critic/penalty` |
| generator: -E D(G(z, y), y) | `generator_loss` | `generator/adversarial` |

In training a generated sample takes the label of the real sample beside it, so that classes have the data's
frequencies, and x_hat lies between two samples of one class. The frequencies of the labels seen are counted; samples
draw y from them.

Deviations
----------
- Sides of the penalty, networks and constants are those of `wgan_gp`. The critic reads y of an image as constant maps.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from toposampler.data.base import Dataset
from toposampler.errors import UserError
from toposampler.losses import wasserstein
from toposampler.losses.reduction import Terms
from toposampler.nn.coded import CodedGenerator
from toposampler.nn.critic import Critic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.mixture import draw_generators
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import System, SystemConfig
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.game import PenaltyConfig


class ConditionalWGANGPConfig(SystemConfig):
    """Conditional WGAN-GP (Gulrajani et al. 2017, Mirza and Osindero 2014): generator and critic read the labels."""

    name: Literal["conditional_wgan_gp"] = "conditional_wgan_gp"
    n_classes: int = Field(10, ge=1, le=10_000)
    """K, the number of labels; those of the data lie in [0, K)"""
    penalty: PenaltyConfig = PenaltyConfig()

    def rhythm(self, step: int) -> Hashable:
        """See `SystemConfig.rhythm`."""
        return step % self.penalty.every == 0

    @property
    def K(self) -> int:
        """The number of classes; each counts as a generator."""
        return self.n_classes

    def check_data(self, dataset: Dataset) -> None:
        """See `SystemConfig.check_data`: the data need labels in [0, K)."""
        if dataset.all_labels is None:
            raise UserError("system.name conditional_wgan_gp needs labels, and these data have none: give data.labels")
        if (most := int(dataset.all_labels.max())) >= self.n_classes:
            raise UserError(f"system.n_classes {self.n_classes} is too small: the data have labels 0 to {most}")

    def build(
        self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> ConditionalWGANGP:
        """See `SystemConfig.build`."""
        return ConditionalWGANGP(self, shape, networks, shard)


class ConditionalWGANGP(System):
    """A generator G(z, y) and a critic D(x, y)."""

    uses_labels = True
    scores_samples = False

    config: ConditionalWGANGPConfig

    def __init__(
        self,
        config: ConditionalWGANGPConfig,
        shape: tuple[int, ...],
        networks: Networks | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.register_buffer("counts", torch.zeros(self.K, dtype=torch.int64))
        self.counts: Tensor

    def build_generators(self, shape: tuple[int, ...]) -> CodedGenerator:
        """G(z, y)."""
        return CodedGenerator(self.build_network(shape, self.latent.dim + self.K), self.K)

    def build_critic(self, shape: tuple[int, ...]) -> Critic:
        """D(x, y), of samples with K further coordinates, or maps of an image."""
        return super().build_critic((shape[0] + self.K, *shape[1:]))

    def prior(self) -> Tensor:
        """The frequencies of the labels seen in training, uniform before: (K,)."""
        counts = self.counts.to(next(self.parameters()).dtype)
        return counts / counts.sum() if counts.any() else torch.full_like(counts, 1 / self.K)

    def condition(self, noise: Noise, labels: Tensor) -> Noise:
        """A generated sample has the label of the real one beside it; see `System.condition`."""
        self.counts += labels.flatten().bincount(minlength=self.K)
        return noise | {"c": labels.cpu()}

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """y ~ the labels' frequencies: (batches, n)."""
        return draw_generators(self.prior(), (batches, n), "systematic", rng)

    def labeled(self, x: Tensor, labels: Tensor) -> Tensor:
        """x (n, d) or (n, C, H, W) beside the one-hot labels (n,), as coordinates or constant maps."""
        code = F.one_hot(labels.to(x.device), self.K).to(x.dtype).view(len(x), self.K, *(1,) * (x.dim() - 2))
        return torch.cat([x, code.expand(-1, -1, *x.shape[2:])], dim=1)

    def score_noise(self, noise: Noise) -> Tensor:
        """See `System.score_noise`."""
        return self.critic(self.labeled(self.generate(noise), noise["c"]))

    def critic_loss(self, batch: Batch) -> Terms:
        """-E D(x, y) + E D(G(z, y), y) + lambda * penalty."""
        assert batch.labels is not None
        real, fake = (self.labeled(x, batch.labels) for x in (batch.real, batch.fakes()))
        n, penalty = len(real), self.config.penalty
        scores = self.critic(torch.cat([real, fake]))
        gradient = game.penalty_gradient(self.critic, real, fake, batch, penalty)[:, : batch.real.shape[1]]
        return wasserstein.critic_terms(
            scores[:n],
            scores[n:],
            gradient,
            penalty.weight_at(batch, self.config.burn_in),
            penalty.sides,
            batch.weights,
            batch.fake_weights,
        )

    def generator_loss(self, batch: Batch) -> Terms:
        """-E D(G(z, y), y)."""
        return {"adversarial": wasserstein.generator_loss(self.score_noise(batch.noise), batch.fake_weights)}
