"""NWGAN: Normalized Wasserstein for Mixture Distributions with Applications in Adversarial Learning and Domain
Adaptation.

Balaji, Chellappa, Feizi, ICCV 2019, arXiv 1902.00415. The Wasserstein distance of the data to a mixture of generators,
minimized over generators and weights alike: the weights follow the critic.

| equation | here | logged term |
|---|---|---|
| P_{G, pi} = sum_c pi_c G_c(z), pi = softmax(zeta) | `MixturePrior` | `mass/c` |
| critic: -E_real D + sum_c pi_c E D(G_c) | `critic_loss` | `critic/real`, `critic/fake` |
| its gradient penalty | `critic_loss` | `critic/penalty` |
| generators and pi: -sum_c pi_c E D(G_c) | `generator_loss` | `generator/adversarial` |

All generators make as many samples, which count pi_c: so each weight's gradient is known, however small the weight.
Nothing keeps a weight from falling while its generator has not yet found a place.

Deviations
----------
- The authors' code clips the critic's weights and trains by RMSprop (5e-5, ten critic steps). Here the critic has the
  package's gradient penalty and Adam, or R3GAN's loss (`adversarial: relativistic`).
- No regularizer holds the generators apart, as in the authors' code for points.
- pi is uniform at first; the authors' zeta is uniform noise on (0, 1). Its learning rate is theirs, .01.
- A batch is shared out among the generators, the authors' holds as many samples of each; where K does not divide it,
  the critic's constant adds noise to the gradient by zeta.
- Networks and latents are those of DMGAN's experiments; the authors' generators for points are linear maps.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.losses import mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.mixture import MixturePrior, draw_generators, share_out, weights_of
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import Player, SeparateGeneratorsConfig, System
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.game import GameConfig


class NWGANConfig(GameConfig, SeparateGeneratorsConfig):
    """NWGAN (Balaji et al. 2019): K generators, and weights that follow the critic."""

    name: Literal["nwgan"] = "nwgan"
    masked: ClassVar[bool] = True
    prior: OptimizerConfig = OptimizerConfig(learning_rate=1e-2, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> NWGAN:
        """See `SystemConfig.build`."""
        return NWGAN(self, shape, networks, shard)


class NWGAN(System):
    """K generators {G_c} with weights pi, and a critic D."""

    config: NWGANConfig

    def __init__(
        self, config: NWGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.mixture = MixturePrior(self.K)
        self.logits = ("mixture.zeta",)

    def players(self) -> dict[str, Player]:
        """Critic, then generators and their weights together."""
        players = super().players()
        together = players["generator"].joined_by({"mixture": self.mixture}, self.config.prior)
        return players | {"generator": together}

    def prior(self) -> Tensor:
        """pi: (K,), without gradient."""
        return self.mixture.probabilities()

    def draw(self, batches: int, n: int, rng: Source, training: bool = False) -> Noise:
        """See `System.draw`; in training a sample weighs K pi_c."""
        noise = super().draw(batches, n, rng, training)
        if training:
            noise["weight"] = weights_of(noise["c"], self.prior())
        return noise

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c uniform in training, else c ~ pi: (batches, n)."""
        if training:
            return share_out(self.K, (batches, n), rng)
        return draw_generators(self.prior(), (batches, n), "systematic", rng)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real D + sum_c pi_c E D(G_c) + lambda * penalty."""
        return game.critic_terms(self.critic, batch, self.config)

    def generator_loss(self, batch: Batch) -> Terms:
        """-sum_c pi_c E D(G_c), for generators and weights."""
        losses = game.generator_losses(self.critic, self.critic(self.generate(batch.noise)), batch, self.config)
        return {
            "adversarial": mixture.prior_expectation(
                losses,
                batch.noise["c"],
                self.mixture.log_probabilities(),
                batch.weights,
                batch.constant("n_generators", self.K),
            )
        }
