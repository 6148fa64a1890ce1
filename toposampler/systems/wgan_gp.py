"""WGAN-GP: Improved Training of Wasserstein GANs.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, NeurIPS 2017, arXiv 1704.00028.

| equation | here | logged term |
|---|---|---|
| critic, E_fake D - E_real D (eq. 3, first two terms) | `critic_loss` | `critic/real`, `critic/fake` |
| penalty, lambda E (abs(grad D(x_hat)) - 1)^2 (eq. 3, third term) | `critic_loss` | `critic/penalty` |
| generator, -E_fake D (algorithm 1, line 12) | `generator_loss` | `generator/adversarial` |

Deviations
----------
- `penalty.sides: one-sided` penalizes only gradients longer than 1. The paper uses `two-sided` and mentions the other
  (section 4); DMGAN's authors train all their models with the one-sided penalty, so it is the default here, to keep
  one footing.
- `adversarial: relativistic` puts R3GAN's loss in the place of all three equations (`losses.relativistic`); the critic
  then logs `critic/pairs`, `critic/r1` and `critic/r2`. So do the other systems that take these losses.
- Networks are those of DMGAN's experiments at the single generator's full width, not the paper's.
- Adam's betas are (0, .9) as in the paper; learning rate, penalty weight and latent dimension are config keys.
"""

from __future__ import annotations

from typing import Literal

from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.systems import game
from toposampler.systems.base import System, SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.game import GameConfig


class WGANGPConfig(GameConfig, SystemConfig):
    """WGAN-GP (Gulrajani et al. 2017): one generator, a critic with gradient penalty."""

    name: Literal["wgan_gp"] = "wgan_gp"

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> WGANGP:
        """See `SystemConfig.build`."""
        return WGANGP(self, shape, networks, shard)


class WGANGP(System):
    """One generator G against a critic D."""

    config: WGANGPConfig

    def critic_loss(self, batch: Batch) -> Terms:
        """Equation 3: -E_real D + E_fake D + lambda * penalty."""
        return game.critic_terms(self.critic, batch, self.config)

    def generator_loss(self, batch: Batch) -> Terms:
        """Algorithm 1, line 12: -E_fake D."""
        scores = self.critic(self.generate(batch.noise))
        return {"adversarial": batch.expectation(game.generator_losses(self.critic, scores, batch, self.config))}
