"""R3GAN: The GAN is dead; long live the GAN! A Modern Baseline GAN.

Huang, Gokaslan, Kuleshov, Tompkin, NeurIPS 2024, arXiv 2501.05441. One generator and a critic that scores pairs of a
real and a generated sample, with gradient penalties at both; no other trick.

| equation | here | logged term |
|---|---|---|
| critic: E softplus(D(G(z)) - D(x)) (eq. 2) | `critic_loss` | `critic/pairs` |
| R1: gamma / 2 E_real abs(grad D)^2 (eq. 3) | `critic_loss` | `critic/r1` |
| R2: gamma / 2 E_fake abs(grad D)^2 (eq. 4) | `critic_loss` | `critic/r2` |
| generator: E softplus(D(x) - D(G(z))) | `generator_loss` | `generator/adversarial` |
| learning rate, beta2, gamma and half-life of the average over a burn-in (appendix) | `burn_in`, `final_*` | |
| residual networks without normalization, Fix-up start (section 4, Config E) | `nn.resnet` | |

The penalties are exact and are taken at every step: lazy ones fail on stacked MNIST. The formulas are in
`losses.relativistic`. Several generators behind one critic are `dmgan_pl` and `component_gan` with `adversarial:
relativistic` and the same networks; with one generator `dmgan_pl` equals this system, to the last bit.

Deviations
----------
- The generator's loss is that of the authors' code; equation 2 is zero-sum.
- Networks are `resnet` where `generator_network` and `critic_network` say so (`configs/cifar10_r3gan.yaml`); by default
  those of DMGAN's experiments, which points need. All stages have one width, where the authors halve it at the sides
  from 64 pixels on; see `nn.resnet` for the rest.
- The burn-in is counted in generator steps, not in images, and the half-life of the average too.
- The authors' constants are other ones for each data set (gamma from 0.05 to 0.005 on CIFAR-10, 1 to 0.1 on stacked
  MNIST, 2 to 0.2 on FFHQ-64). The default here is constant; the configurations have the schedules.
- The authors augment with a probability that grows along the burn-in; here it is `training.augmentation`.
"""

from __future__ import annotations

from typing import Literal

from toposampler.config import OptimizerConfig
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.systems.game import PenaltyConfig
from toposampler.systems.wgan_gp import WGANGP, WGANGPConfig

ADAM = OptimizerConfig(learning_rate=2e-4, betas=(0.0, 0.9), final_learning_rate=5e-5, final_beta2=0.99)


class R3GANConfig(WGANGPConfig):
    """R3GAN (Huang et al. 2024): relativistic pairs, gradient penalties at real and at generated samples."""

    name: Literal["r3gan"] = "r3gan"  # type: ignore[assignment]
    adversarial: Literal["relativistic"] = "relativistic"
    penalty: PenaltyConfig = PenaltyConfig(weight=0.1)
    generator: OptimizerConfig = ADAM
    critic: OptimizerConfig = ADAM

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> R3GAN:
        """See `SystemConfig.build`."""
        return R3GAN(self, shape, networks, shard)


class R3GAN(WGANGP):
    """One generator G against a critic D of pairs."""

    config: R3GANConfig
