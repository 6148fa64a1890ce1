"""MGAN: Training Generative Adversarial Nets with Multiple Generators.

Hoang, Nguyen, Le, Phung, ICLR 2018, arXiv 1708.02556. K generators that share all layers but the first, and a
classifier C, on the critic's features, which tells their samples apart.

| equation | here | logged term |
|---|---|---|
| c ~ pi uniform, x = G_c(z) | `UniformSystem`, `BranchedGenerator` | |
| critic: -E_real ln D - E_fake ln(1 - D) | `critic_loss` | `critic/real`, `critic/fake` |
| classifier: -sum_k pi_k E ln C_k(G_k) | `critic_loss` | `critic/classification` |
| generators: -E_fake ln D | `generator_loss` | `generator/adversarial` |
| and: -beta sum_k pi_k E ln C_k(G_k) | `generator_loss` | `generator/classification` |

D = s(critic), s the logistic function. C and D share their trunk, which descends both their losses, so they are one
player; the classifier's loss has weight 1 there, and beta for the generators, as in the authors' code.

Deviations
----------
- The generators' term is -E ln D, as in the authors' code; the paper's equation has E ln(1 - D).
- Networks are those of DMGAN's experiments at the single generator's full width, with `generator_norm: layer` for the
  paper's batch norm; for points the paper has two hidden layers of 128 in the generators and one of 128 in the critic,
  and z of 256 dimensions.
- beta .01 and K = 10 are those for images, beta .125 and K = 8 those for points (`configs/ring_mgan.yaml`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toposampler.config import OptimizerConfig
from toposampler.errors import UserError
from toposampler.keys import may
from toposampler.losses import gan, mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, GeneratorEnsemble, Shard
from toposampler.nn.precision import full_precision
from toposampler.systems.base import EnsembleConfig, Player
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm
from toposampler.systems.uniform import UniformSystem


class MGANConfig(EnsembleConfig):
    """MGAN (Hoang et al. 2018): generators with a first layer of their own, distinguished by a classifier."""

    name: Literal["mgan"] = "mgan"
    masked: ClassVar[bool] = True
    diversity: float = Field(0.01, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [1e-3, 1]}))
    """beta, weight of the classifier's loss for the generators"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> MGAN:
        """See `SystemConfig.build`."""
        return MGAN(self, shape, networks, shard)


class BranchedGenerator(nn.Module):
    """{G_c}: networks with a first layer each, and all others in common."""

    def __init__(self, network: nn.Sequential, first: GeneratorEnsemble) -> None:
        super().__init__()
        self.first = first
        self.common = network

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G_c(z): latents (n, d) and generator ids (n,) to samples (n, *shape)."""
        return self.common(self.first(z, c))


class MGAN(UniformSystem):
    """K generators with common layers, and a critic D with a classifier C on its features."""

    config: MGANConfig

    def __init__(
        self, config: MGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.classifier = self.initialized(nn.Linear(self.critic.head.in_features, self.K))
        self.logits = ("classifier.bias",)

    def build_generators(self, shape: tuple[int, ...]) -> nn.Module:
        """{G_c}."""

        def network() -> nn.Sequential:
            made = self.build_network(shape, self.latent.dim)
            if not isinstance(made, nn.Sequential):
                raise UserError(
                    "system.name mgan: its generators have all layers in common but the first, so that a generator "
                    f"must be a torch.nn.Sequential, not a {type(made).__name__}"
                )
            return made

        common = network()[1:]
        return BranchedGenerator(common, GeneratorEnsemble(lambda: network()[:1], self.K))

    def players(self) -> dict[str, Player]:
        """Critic and classifier together, then the generators."""
        players = super().players()
        return players | {"critic": players["critic"].joined_by({"classifier": self.classifier}, self.config.critic)}

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D - E_fake ln(1 - D) - E ln C_c(x), for critic and classifier."""
        features_real, features_fake = self.critic.features(torch.cat([batch.real, batch.fakes()])).chunk(2)
        terms = gan.critic_terms(
            self.critic.score(features_real), self.critic.score(features_fake), batch.weights, batch.fake_weights
        )
        return terms | {
            "classification": mixture.information(self.classify(features_fake), batch.noise["c"], batch.fake_weights)
        }

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake ln D - beta E ln C_c(x)."""
        features = self.critic.features(self.generate(batch.noise))
        return {
            "adversarial": gan.generator_loss(self.critic.score(features), batch.fake_weights),
            "classification": batch.constant("diversity", self.config.diversity)
            * mixture.information(self.classify(features), batch.noise["c"], batch.fake_weights),
        }

    def classify(self, features: Tensor) -> Tensor:
        """Logits of the generators, of the critic's features: (n, f) to (n, K)."""
        with full_precision(features.device):
            return self.classifier(features.to(self.classifier.weight.dtype))

    def encode(self, x: Tensor) -> Tensor:
        """C(x), the probabilities of the generators: (n, K)."""
        return self.classify(self.critic.features(x)).softmax(dim=1)
