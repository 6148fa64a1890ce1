"""VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning.

Srivastava, Valkov, Russell, Gutmann, Sutton, NeurIPS 2017, arXiv 1705.07761. A reconstructor F maps data back to noise:
trained to undo G it cannot map the data that G leaves out to the noise's distribution, and the critic of pairs sees it.

| equation | here | logged term |
|---|---|---|
| critic: -E ln s(D(z, G(z))) - E ln(1 - s(D(F(x), x))) | `bigan` | `critic/real`, `critic/fake` |
| generator: E D(z, G(z)), D being a log ratio of densities | `generator_loss` | `generator/adversarial` |
| G and F: E d(z, F(G(z))), d the squared distance | `generator_loss` | `generator/reconstruction` |

s is the logistic function. D has the other sign here, high for real x, as in all systems of the house. `encoder` is F:
D(z, G(z)) does not depend on it, so that the reconstruction alone trains it.

Deviations
----------
- F and G are functions. The paper describes p(z given x) as a distribution, a Gaussian where d is the squared distance.
  As in `bigan`, `latent.dim` should be no larger than the data's dimension (`configs/ring_veegan.yaml`).
- Networks are those of DMGAN's experiments at the single generator's full width; F has the critic's layers.
- Optimisers' constants are ours.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toposampler.config import OptimiserConfig
from toposampler.losses import reconstruction, wasserstein
from toposampler.losses.batch import Batch, Terms
from toposampler.priors.latent import LatentConfig
from toposampler.systems.bigan import BiGAN, BiGANConfig


class VEEGANConfig(BiGANConfig):
    """VEEGAN (Srivastava et al. 2017): a generator, a reconstructor of its noise, a critic of pairs (x, z)."""

    name: Literal["veegan"] = "veegan"  # type: ignore[assignment]
    reconstruction_weight: float = Field(1.0, gt=0)
    """weight of the squared distance between z and F(G(z))"""
    latent: LatentConfig = LatentConfig(kind="normal")
    generator: OptimiserConfig = OptimiserConfig(learning_rate=1e-3, betas=(0.5, 0.999))
    critic: OptimiserConfig = OptimiserConfig(learning_rate=1e-3, betas=(0.5, 0.999))
    encoder: OptimiserConfig = OptimiserConfig(learning_rate=1e-3, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...]) -> VEEGAN:
        """See `SystemConfig.build`."""
        return VEEGAN(self, shape)


class VEEGAN(BiGAN):
    """A generator G, a reconstructor F, and a critic D of pairs (x, z) that is a log ratio."""

    config: VEEGANConfig

    def generator_loss(self, batch: Batch) -> Terms:
        """-E D(G(z), z) + E |z - F(G(z))|^2, for generator and reconstructor."""
        x, z = self.generate(batch.noise), batch.noise["z"]
        error = reconstruction.squared_error(self.encoder(x), z, batch)
        return {
            "adversarial": wasserstein.generator_term(self.score(x, z), batch),
            "reconstruction": self.config.reconstruction_weight * error,
        }
