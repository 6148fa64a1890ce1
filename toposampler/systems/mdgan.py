"""MDGAN: Mode Regularized Generative Adversarial Networks, in manifold and diffusion steps.

Che, Li, Jacob, Bengio, Li, ICLR 2017, arXiv 1612.02136. (Not MD-GAN, which spreads critics over workers.) An encoder E
gives every real sample a latent, so that G gets a gradient for every mode: first G(E(x)) is brought to the data's
manifold, then the mass of G(z) is spread over that of G(E(x)).

| equation | here | logged term |
|---|---|---|
| manifold critic: -E ln D1(x) - E ln(1 - D1(G(E(x)))) | `critic_loss` | `critic/real`, `critic/reconstructed` |
| diffusion critic: -E ln D2(G(E(x))) - E ln(1 - D2(G(z))) | `critic_loss` | `critic/diffused`, `critic/fake` |
| G and E: l1 E abs(x - G(E(x)))^2 | `generator_loss` | `generator/reconstruction` |
| G and E: -l2 E ln D1(G(E(x))) | `generator_loss` | `generator/manifold` |
| G: -E ln D2(G(z)) | `generator_loss` | `generator/adversarial` |

D1 and D2 are s(critic), s the logistic function. They share nothing, and their losses add up to that of one player, as
do those of G and E. `critic`, which scores samples, is D2.

Deviations
----------
- All terms of an iteration go down together: one step of both critics, then one of G and E. The paper's algorithm
  alternates manifold and diffusion steps.
- Networks and latents are those of DMGAN's experiments at the single generator's full width; E has the critic's layers.
- l1, l2 and the optimizers' constants are ours.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import gan, reconstruction
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.networks import latent_encoder
from toposampler.systems.base import Player, System, SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm

_ADAM = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.999))


class MDGANConfig(SystemConfig):
    """MDGAN (Che et al. 2017): an encoder, a critic of reconstructions, a critic of samples against reconstructions."""

    name: Literal["mdgan"] = "mdgan"
    reconstruction_weight: float = Field(
        1.0, gt=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]})
    )
    """l1, weight of the squared distance between x and G(E(x))"""
    manifold_weight: float = Field(1.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """l2, weight of the manifold critic's term for generator and encoder"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = _ADAM
    critic: OptimizerConfig = _ADAM
    encoder: OptimizerConfig = _ADAM

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> MDGAN:
        """See `SystemConfig.build`."""
        return MDGAN(self, shape, networks, shard)


class MDGAN(System):
    """A generator G, an encoder E from samples to latents, and critics D1 and D2."""

    augments = False
    config: MDGANConfig

    def __init__(
        self, config: MDGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.manifold_critic = self.initialized(self.build_critic(shape))
        self.encoder = self.initialized(latent_encoder(*self.build_trunk(shape), config.latent.dim))

    def players(self) -> dict[str, Player]:
        """Both critics together, then generator and encoder together."""
        players = super().players()
        return {
            "critic": players["critic"].joined_by({"manifold_critic": self.manifold_critic}, self.config.critic),
            "generator": players["generator"].joined_by({"encoder": self.encoder}, self.config.encoder),
        }

    def reconstruct(self, batch: Batch) -> Tensor:
        """G(E(x)) of the batch's real samples: (n, *shape)."""
        return self.generators(self.encoder(batch.real), batch.noise["c"])

    def critic_loss(self, batch: Batch) -> Terms:
        """-E ln D1(x) - E ln(1 - D1(G(E(x)))) - E ln D2(G(E(x))) - E ln(1 - D2(G(z)))."""
        with torch.no_grad():
            reconstructed = self.reconstruct(batch)
        manifold = gan.critic_terms(
            self.manifold_critic(batch.real), self.manifold_critic(reconstructed), batch.weights, batch.fake_weights
        )
        diffusion = gan.critic_terms(
            self.critic(reconstructed), self.critic(batch.fakes()), batch.weights, batch.fake_weights
        )
        return {
            "real": manifold["real"],
            "reconstructed": manifold["fake"],
            "diffused": diffusion["real"],
            "fake": diffusion["fake"],
        }

    def generator_loss(self, batch: Batch) -> Terms:
        """l1 E |x - G(E(x))|^2 - l2 E ln D1(G(E(x))) - E ln D2(G(z)), for generator and encoder."""
        reconstructed = self.reconstruct(batch)
        manifold = gan.generator_loss(self.manifold_critic(reconstructed), batch.fake_weights)
        error = reconstruction.squared_error(reconstructed, batch.real, batch.weights)
        return {
            "adversarial": gan.generator_loss(self.score_noise(batch.noise), batch.fake_weights),
            "manifold": batch.constant("manifold_weight", self.config.manifold_weight) * manifold,
            "reconstruction": batch.constant("reconstruction_weight", self.config.reconstruction_weight) * error,
        }
