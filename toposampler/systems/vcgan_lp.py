"""vcGAN with learned probabilities: Virtual Conditional Generative Adversarial Networks.

Shi, Cai, Wang, Shang, He, 2019, arXiv 1901.09822. One decoder for all classes c: it is given the class by a one-hot
vector, amplified so far that the latents of two classes do not touch.

| equation | here | logged term |
|---|---|---|
| c ~ p = softmax(q), q = 0 at first | `draw_generators`, `MixturePrior` | `mass/c` |
| x = G(z, a (e_c - 1/K)) | `CodedGenerator` | |
| critic: -E_real D + E_fake D | `critic_loss` | `critic/real`, `critic/fake` |
| its gradient penalty | `critic_loss` | `critic/penalty` |
| decoder: -E_fake D | `generator_loss` | `generator/adversarial` |
| p: -sum_c p_c E D(G(z, c)) | `prior_loss` | `prior/adversarial` |

Deviations
----------
- c is drawn systematically, which has the mean of the paper's Gumbel-max of log p and none of its noise.
- p is trained by Adam from the first step; the paper's by gradient descent (.01, times .98 every 1,000 steps), from
  step 2,000 of 200,000 on.
- E D(G(z, c)) is taken over the samples of class c in the generator's batch, in the authors' code over those of the
  critic's five batches. A class without samples there counts as the mean of the batch, not as 0, as the critic's
  constant means nothing.
- `amplification` is a key. The authors compute it from the latents' dimension and a separation of two standard
  deviations: 4.06 for 8 dimensions, near the default.
- Constants, networks and penalty are the package's, at the single generator's full width; z is normal, as the paper's,
  which has penalty weight 5, two-sided, and Adam's constants 1e-4 and (.5, .9). `adversarial: relativistic` takes
  R3GAN's loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses.reduction import Terms
from toposampler.nn.coded import CodedGenerator
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.latent import LatentConfig
from toposampler.priors.mixture import MixturePrior, draw_generators
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import EnsembleConfig, Player, System
from toposampler.systems.batch import Batch
from toposampler.systems.game import GameConfig


class VCGANLPConfig(GameConfig, EnsembleConfig):
    """vcGAN with learned probabilities (Shi et al. 2019): one decoder, told of its class by an amplified vector.

    Each of its K classes counts as a generator.
    """

    name: Literal["vcgan_lp"] = "vcgan_lp"
    latent: LatentConfig = LatentConfig(kind="normal")
    amplification: float = Field(4.0, gt=0, json_schema_extra=may(search={"loguniform": [1, 16]}))
    """a: the factor of the one-hot vector beside z"""
    prior: OptimizerConfig = OptimizerConfig(learning_rate=1e-2, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> VCGANLP:
        """See `SystemConfig.build`."""
        return VCGANLP(self, shape, networks, shard)


class VCGANLP(System):
    """A decoder G of K classes with probabilities p, and a critic D."""

    config: VCGANLPConfig

    def __init__(
        self, config: VCGANLPConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.mixture = MixturePrior(self.K)

    def build_generators(self, shape: tuple[int, ...]) -> CodedGenerator:
        """G."""
        network = self.build_network(shape, self.latent.dim + self.K)
        return CodedGenerator(network, self.K, self.config.amplification, centered=True)

    def players(self) -> dict[str, Player]:
        """Critic, decoder, then the probabilities."""
        return super().players() | {
            "prior": Player({"mixture": self.mixture}, {"mixture": self.config.prior}, self.prior_loss),
        }

    def prior(self) -> Tensor:
        """p: (K,), without gradient."""
        return self.mixture.probabilities()

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c ~ p: (batches, n)."""
        return draw_generators(self.prior(), (batches, n), "systematic", rng)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real D + E_fake D + lambda * penalty."""
        return game.critic_terms(self.critic, batch, self.config)

    def sample_losses(self, batch: Batch) -> Tensor:
        """-D of each of the batch's samples, anew: (n,)."""
        return game.generator_losses(self.critic, self.critic(self.generate(batch.noise)), batch, self.config)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake D."""
        return {"adversarial": batch.expectation(self.sample_losses(batch))}

    def prior_loss(self, batch: Batch) -> Terms:
        """-sum_c p_c E D(G(z, c)), by the global batch's means of each class."""
        with torch.no_grad():
            losses = batch.gather(self.sample_losses(batch))
            members = batch.gather(F.one_hot(batch.noise["c"].to(losses.device), self.K).to(losses.dtype))
            counts = members.sum(dim=0)
            sums = (losses.unsqueeze(1) * members).sum(dim=0)  # a matrix product would be rounded to bf16
            means = torch.where(counts > 0, sums / counts.clamp(min=1), losses.mean())
        return {"adversarial": (self.mixture.log_probabilities().exp() * means).sum()}
