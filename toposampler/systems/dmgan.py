"""DMGAN: Disconnected Manifold Learning for Generative Adversarial Networks, with a uniform prior.

Khayatkhoei, Singh, Elgammal, NeurIPS 2018, arXiv 1806.00880. K generators G_c share one latent z; an encoder Q tells
them apart, which keeps each to a part of the data of its own. The learned prior is in the next module, `dmgan_pl`.

| equation | here | logged term |
|---|---|---|
| c ~ r(c) = 1/K, x = G_c(z) | `draw_generators`, `generate` | |
| critic: -E_real D + E_fake D | `critic_loss` | `critic/real`, `critic/fake` |
| its penalty: lambda E max(0, abs(grad D) - 1)^2 | `critic_loss` | `critic/penalty` |
| L_c = -E ln q(c given x), the bound of the mutual information | `losses.mixture.information` | |
| generators: -E_fake D + lambda' L_c | `generator_loss` | `generator/adversarial`, `generator/information` |
| Q: lambda' L_c | `generator_loss` | `generator/information` |

G and Q descend L_c together, so they are one player: one backward serves both, and as Q has no part in the adversarial
term its gradient is that of lambda' L_c alone (Adam is blind to the factor). Q reads the critic's last hidden layer;
its optimizer holds Q's own parameters, so L_c never trains the critic's features (as in the authors' code).

Deviations
----------
- The authors' Q has batch norm before its hidden activation (`encoder_norm: batch`). By default it has none: batch
  statistics make a step depend on how the batch is cut among workers, and differ between the generated samples Q is
  trained on and the real ones the prior asks it about.
- `draw: systematic` (default) draws the generators of a batch by systematic sampling, which has the paper's mean and
  none of its multinomial noise; `draw: random` is the paper's. `draw: equal` has every generator make as many samples
  and weighs them by K r(c) in all expectations over c: the same gradient in the mean, and equal work for all workers of
  a sharded ensemble, at the price of samples that count for little once most generators are switched off.
- `adversarial: relativistic` takes R3GAN's loss (`losses.relativistic`) in place of the Wasserstein critic's.
- Defaults are constants that train well on small data (measured in `benchmarks/lines.py`): penalty weight 1, learning
  rate 1e-3 falling to 0, betas (0, .9), two critic steps, z of few
  dimensions. `configs/lines_dmgan_pl_author.yaml`
  holds the authors' own.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.networks import encoder
from toposampler.priors.mixture import Draw, draw_generators, share_out, weights_of
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import Player, SeparateGeneratorsConfig
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.fitted_start import FittedStartConfig
from toposampler.systems.game import GameConfig
from toposampler.systems.uniform import UniformSystem


class DMGANConfig(FittedStartConfig, GameConfig, SeparateGeneratorsConfig):
    """DMGAN (Khayatkhoei et al. 2018): K generators distinguished by an encoder, uniform prior."""

    name: Literal["dmgan"] = "dmgan"
    masked: ClassVar[bool] = True
    draw: Draw = "systematic"
    """how the generators of a batch are drawn: random (the paper's), systematic (counts within 1 of their mean), or
    equal (all generators make as many samples, weighed by r(c): equal work for the workers of a sharded ensemble)"""
    information_weight: float = Field(1.0, gt=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """lambda', weight of the mutual-information term in the loss of generators and encoder"""
    encoder_norm: Literal["none", "batch"] = "none"
    """batch: the authors' batch norm in Q, for one worker only"""
    encoder: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.9, 0.999))

    @property
    def couples_samples(self) -> bool:
        """See `SystemConfig.couples_samples`."""
        return self.encoder_norm == "batch"

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> DMGAN:
        """See `SystemConfig.build`."""
        return DMGAN(self, shape, networks, shard)


class DMGAN(UniformSystem):
    """K generators {G_c}, a critic D, an encoder Q, and r(c) = 1/K."""

    config: DMGANConfig

    def __init__(
        self, config: DMGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.encoder = self.initialized(encoder(self.critic.head.in_features, self.K, config.couples_samples))
        self.logits = (f"encoder.{len(self.encoder) - 1}.bias",)

    def players(self) -> dict[str, Player]:
        """Critic, then generators and encoder together."""
        players = super().players()
        together = players["generator"].joined_by({"encoder": self.encoder}, self.config.encoder)
        return players | {"generator": together}

    def draw(self, batches: int, n: int, rng: Source, training: bool = False) -> Noise:
        """See `System.draw`; with `draw: equal` a sample weighs K r(c) in training."""
        noise = super().draw(batches, n, rng, training)
        if training and self.config.draw == "equal":
            noise["weight"] = weights_of(noise["c"], self.prior())
        return noise

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c ~ r(c), or with `draw: equal` in training c uniform: (batches, n)."""
        if training and self.config.draw == "equal":
            return share_out(self.K, (batches, n), rng)
        return draw_generators(self.prior(), (batches, n), self.config.draw, rng)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real D + E_fake D + lambda * penalty."""
        return game.critic_terms(self.critic, batch, self.config)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake D + lambda' L_c, for generators and encoder."""
        features = self.critic.features(self.generate(batch.noise))
        information = mixture.information(self.encoder(features), batch.noise["c"], batch.fake_weights)
        losses = game.generator_losses(self.critic, self.critic.score(features), batch, self.config)
        return {
            "adversarial": batch.expectation(losses),
            "information": batch.constant("information_weight", self.config.information_weight) * information,
        } | self.latent_terms(batch, losses)

    def encode(self, x: Tensor) -> Tensor:
        """q(c|x): (n, K)."""
        return self.encoder(self.critic.features(x)).softmax(dim=1)
