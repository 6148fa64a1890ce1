"""SN-GAN: Spectral Normalization for Generative Adversarial Networks.

Miyato, Kataoka, Koyama, Yoshida, ICLR 2018, arXiv 1802.05957.

| equation | here | logged term |
|---|---|---|
| every layer of the critic: W / sigma(W) (eq. 8) | `nn.spectral` | |
| sigma by one power iteration a critic step (algorithm 1) | `nn.spectral.advance` | |
| critic: E_real max(0, 1 - D) + E_fake max(0, 1 + D) (eq. 16) | `critic_loss` | `critic/real`, `critic/fake` |
| generator: -E_fake D (eq. 17) | `generator_loss` | `generator/adversarial` |

The vectors of the power iteration are buffers: a checkpoint holds them, and as every worker advances them on the same
weights they are the same on all. Nothing but a critic step moves them: in the generator's step, in evaluation and in
sampling the critic is a constant function.

Deviations
----------
- The vectors start at the singular vectors, the paper's at random.
- Networks and latents are those of DMGAN's experiments at the single generator's full width. The paper's are for
  images only, with batch norm in the generator, here `generator_norm: layer`.
- Adam's constants are the paper's (2e-4, betas (0, .9)), which takes five critic steps; for shorter runs
  `configs/ring_sn_gan.yaml` has others.
"""

from __future__ import annotations

from typing import Literal

import torch

from toposampler.config import OptimizerConfig
from toposampler.losses import gan, wasserstein
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.spectral import advance, spectrally_normalized
from toposampler.systems.base import System, SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm


class SNGANConfig(SystemConfig):
    """SN-GAN (Miyato et al. 2018): one generator, a critic with spectral normalization, hinge loss."""

    name: Literal["sn_gan"] = "sn_gan"
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.0, 0.9))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.0, 0.9))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> SNGAN:
        """See `SystemConfig.build`."""
        return SNGAN(self, shape, networks, shard)


class SNGAN(System):
    """One generator G against a critic D whose layers have spectral norm 1."""

    config: SNGANConfig

    def __init__(
        self, config: SNGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        spectrally_normalized(self.critic)

    def critic_loss(self, batch: Batch) -> Terms:
        """Equation 16: E_real max(0, 1 - D) + E_fake max(0, 1 + D), after one power iteration."""
        advance(self.critic)
        real, fake = self.critic(torch.cat([batch.real, batch.fakes()])).chunk(2)
        return gan.hinge_critic_terms(real, fake, batch.weights, batch.fake_weights)

    def generator_loss(self, batch: Batch) -> Terms:
        """Equation 17: -E_fake D."""
        return {"adversarial": wasserstein.generator_loss(self.critic(self.generate(batch.noise)), batch.fake_weights)}
