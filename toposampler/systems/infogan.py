"""InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets.

Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel, NeurIPS 2016, arXiv 1606.03657. One generator is given a category c
beside its noise z, and Q must be able to read c off the sample.

| equation | here | logged term |
|---|---|---|
| c ~ Cat(1/K), x = G(z, c) | `UniformSystem`, `CodedGenerator` | |
| critic: -E_real ln D - E_fake ln(1 - D) (eq. 1) | `critic_loss` | `critic/real`, `critic/fake` |
| generator: V, here -E_fake ln D | `generator_loss` | `generator/adversarial` |
| G and Q: -lambda L_I = -lambda E ln Q(c given x) + constant (eqs. 5, 6) | `generator_loss` | `generator/information` |

D = s(critic), s the logistic function. G and Q descend L_I together, so they are one player.

Deviations
----------
- One categorical code; the paper's continuous codes have no part in mixtures.
- Q reads the critic's last hidden layer, as in the paper, but L_I trains Q's own layers only: equation 6 minimizes
  over G and Q. The authors' code trains the shared layers by it too, in the critic's step.
- Each batch holds every category equally often (`share_out`); the paper draws c.
- Networks and latents are those of DMGAN's experiments at the single generator's full width, with `generator_norm:
  layer` for the paper's batch norm. Adam's constants of G and D, and lambda, are the authors'; Q has G's rate, in
  their code D's.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import gan, mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.coded import CodedGenerator
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.networks import encoder
from toposampler.systems.base import Player, SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm
from toposampler.systems.uniform import UniformSystem


class InfoGANConfig(SystemConfig):
    """InfoGAN (Chen et al. 2016): one generator of noise and a category, which an encoder reads off the sample."""

    name: Literal["infogan"] = "infogan"
    n_categories: int = Field(10, ge=1, le=10_000, json_schema_extra=may(search={"int": [2, 20]}))
    """K, the number of values of the code c"""
    information_weight: float = Field(1.0, gt=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """lambda, weight of the mutual information between code and sample"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    encoder: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.999))

    @property
    def K(self) -> int:
        """The number of categories."""
        return self.n_categories

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> InfoGAN:
        """See `SystemConfig.build`."""
        return InfoGAN(self, shape, networks, shard)


class InfoGAN(UniformSystem):
    """A generator G of (z, c), a critic D, an encoder Q."""

    config: InfoGANConfig

    def __init__(
        self, config: InfoGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.encoder = self.initialized(encoder(self.critic.head.in_features, self.K, batch_norm=False))

    def build_generators(self, shape: tuple[int, ...]) -> CodedGenerator:
        """G(z, c)."""
        return CodedGenerator(self.build_network(shape, self.latent.dim + self.K), self.K)

    def players(self) -> dict[str, Player]:
        """Critic, then generator and encoder together."""
        players = super().players()
        together = players["generator"].joined_by({"encoder": self.encoder}, self.config.encoder)
        return players | {"generator": together}

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D - E_fake ln(1 - D)."""
        real, fake = self.critic(torch.cat([batch.real, batch.fakes()])).chunk(2)
        return gan.critic_terms(real, fake, batch.weights, batch.fake_weights)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake ln D - lambda E ln Q(c|x), for generator and encoder."""
        features = self.critic.features(self.generate(batch.noise))
        information = mixture.information(self.encoder(features), batch.noise["c"], batch.fake_weights)
        return {
            "adversarial": gan.generator_loss(self.critic.score(features), batch.fake_weights),
            "information": batch.constant("information_weight", self.config.information_weight) * information,
        }

    def encode(self, x: Tensor) -> Tensor:
        """Q(c|x): (n, K)."""
        return self.encoder(self.critic.features(x)).softmax(dim=1)
