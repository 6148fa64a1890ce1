"""BiGAN, also ALI: a critic of pairs, and an encoder that inverts the generator.

Donahue, Kraehenbuehl, Darrell, Adversarial Feature Learning, ICLR 2017, arXiv 1605.09782; Dumoulin, Belghazi, Poole,
Mastropietro, Lamb, Arjovsky, Courville, Adversarially Learned Inference, ICLR 2017, arXiv 1606.00704.

| equation | here | logged term |
|---|---|---|
| z ~ q(z given x) = N(E(x), s^2), s = 0 for BiGAN | `infer` | |
| critic: -E_real ln D(x, z) - E_fake ln(1 - D(G(z), z)) | `critic_loss` | `critic/real`, `critic/fake` |
| generator: -E_fake ln D(G(z), z) | `generator_loss` | `generator/adversarial` |
| encoder: -E_real ln(1 - D(x, z)), z ~ q | `generator_loss` | `generator/encoder` |

D = s(critic), s the logistic function. G and E descend the sum, so they are one player. Both descend the "inverse"
objective, with exchanged labels, as both papers do: the minimax form has no gradient where the critic is sure.

Deviations
----------
- ALI's encoder describes the variance of z too; here it is the key `encoder_noise`. With 0, BiGAN's, and a latent space
  of more dimensions than the data, E(x) is a thin set in it, and the critic tells pairs apart by z alone: for points
  take `latent.dim` no larger than the data's (`configs/ring_bigan.yaml`).
- Networks and latents are those of DMGAN's experiments at the single generator's full width, with `generator_norm:
  layer` for the papers' batch norm; E has the critic's layers. Adam's constants are BiGAN's, 2e-4 and (.5, .999).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import gan
from toposampler.losses.reduction import Terms
from toposampler.nn.critic import Critic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.networks import latent_encoder, pair_critic
from toposampler.nn.pairs import pairs
from toposampler.priors.streams import Source, normal
from toposampler.systems import labels
from toposampler.systems.base import Player, System
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.building import GeneratorNorm
from toposampler.systems.labels import LogisticConfig


class BiGANConfig(LogisticConfig):
    """BiGAN and ALI (Donahue et al., Dumoulin et al. 2017): a generator, an encoder, a critic of pairs (x, z)."""

    name: Literal["bigan"] = "bigan"
    encoder_noise: float = Field(0.0, ge=0, json_schema_extra=may(search={"uniform": [0, 1]}))
    """s, standard deviation of the latents around E(x) in training; 0: they are E(x), as in BiGAN"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    encoder: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> BiGAN:
        """See `SystemConfig.build`."""
        return BiGAN(self, shape, networks, shard)


class BiGAN(System):
    """A generator G, an encoder E from samples to latents, and a critic D of pairs (x, z)."""

    scores_samples = False

    config: BiGANConfig

    def __init__(
        self, config: BiGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.encoder = self.initialized(latent_encoder(*self.build_trunk(shape), config.latent.dim))

    def build_critic(self, shape: tuple[int, ...]) -> Critic:
        """D(x, z): for points a critic of d + latent.dim dimensions."""
        if len(shape) == 1:
            return super().build_critic((shape[0] + self.latent.dim,))
        return pair_critic(*self.build_trunk(shape), shape, self.latent.dim)

    def players(self) -> dict[str, Player]:
        """Critic, then generator and encoder together."""
        players = super().players()
        together = players["generator"].joined_by({"encoder": self.encoder}, self.config.encoder)
        return players | {"generator": together}

    def draw(self, batches: int, n: int, rng: Source, training: bool = False) -> Noise:
        """See `System.draw`; with `encoder_noise` also `eta` (batches, n, d), standard normal."""
        noise = super().draw(batches, n, rng, training)
        if training and self.config.encoder_noise:
            noise["eta"] = normal((batches, n, noise["z"].shape[-1]), rng, noise["z"].dtype)
        return noise

    def infer(self, batch: Batch) -> Tensor:
        """z ~ q(z|x) of the batch's real samples: (n, d)."""
        z = self.encoder(batch.real)
        return z + self.config.encoder_noise * batch.noise["eta"] if self.config.encoder_noise else z

    def score(self, x: Tensor, z: Tensor) -> Tensor:
        """D(x, z), high for real x: samples (n, *shape) and latents (n, d) to (n,)."""
        return self.critic(pairs(x, z))

    def score_noise(self, noise: Noise) -> Tensor:
        """See `System.score_noise`."""
        return self.score(self.generate(noise), noise["z"])

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D(x, z) - E_fake ln(1 - D(G(z), z)), the real samples' z ~ q(z|x)."""
        real = self.score(batch.real, self.infer(batch))
        fake = self.score(batch.fakes(), batch.noise["z"])
        return labels.critic_terms(real, fake, batch, self.config.adversarial)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake ln D(G(z), z) - E_real ln(1 - D(x, z)), for generator and encoder."""
        return {
            "adversarial": gan.generator_loss(self.score_noise(batch.noise), batch.fake_weights),
            "encoder": batch.mean(F.softplus(self.score(batch.real, self.infer(batch)))),
        }
