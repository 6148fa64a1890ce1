"""MAD-GAN: Multi-Agent Diverse Generative Adversarial Networks.

Ghosh, Kulharia, Namboodiri, Torr, Dokania, CVPR 2018, arXiv 1704.02906. K generators and one critic that tells them
apart: its K + 1 classes are the generators and "real". To be found out less, a generator must move away from the
others, where the critic sorts it out easily, and towards the data.

| equation | here | logged term |
|---|---|---|
| D = softmax of K + 1 logits, D_{K+1} for "real" | `nn.critic.ClassCritic` | |
| critic: -E_real ln D_{K+1} - sum_c E ln D_c(G_c) / K | `critic_loss` | `critic/real`, `critic/fake` |
| generators: E ln(1 - D_{K+1}(G_c)) | `generator_loss` | `generator/adversarial` |

Deviations
----------
- The critic's term of generated samples is a mean over c (default), so that all together they count as much as the
  data; the paper's is a sum (`critic_weight: sum`), with the optimum D_{K+1} = p / (p + sum_c p_c). Both have their
  equilibrium where the mean of the generators' densities p_c is p, but by the sum, with 16 generators, the critic finds
  out all fakes (ring of 8, one seed: 2 to 5 modes at learning rates 2e-4 and 1e-3; by the mean 8).
- `generator_loss: non-saturating` (default) has -E ln D_{K+1}(G_c) in place of E ln(1 - D_{K+1}(G_c)), the paper's
  (`minimax`): the two have the same fixed points, and a critic that is sure of all fakes still leaves a gradient.
- The generators' term is a mean over c, the paper's a sum: Adam is blind to the factor.
- The paper's generators share most of their layers. Here each is a network of its own, of a quarter of the single
  generator's width, as in all ensembles here; so workers can hold some of them each.
- A batch holds as many samples of all generators together as of the data, the paper's as many of each.
- Networks and latents are those of DMGAN's experiments.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.config import OptimizerConfig
from toposampler.losses import gan, mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.critic import ClassCritic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.systems.base import SeparateGeneratorsConfig
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm
from toposampler.systems.uniform import UniformSystem


class MADGANConfig(SeparateGeneratorsConfig):
    """MAD-GAN (Ghosh et al. 2018): K generators that the critic tells apart."""

    name: Literal["mad_gan"] = "mad_gan"
    masked: ClassVar[bool] = True
    critic_weight: Literal["mean", "sum"] = "mean"
    """over generators, of the critic's term of their samples; sum (the paper's) weighs K times as much"""
    generator_loss: Literal["non-saturating", "minimax"] = "non-saturating"
    """of "real" D_{K+1} at generated samples: -ln D_{K+1}, or ln(1 - D_{K+1}) (the paper's)"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> MADGAN:
        """See `SystemConfig.build`."""
        return MADGAN(self, shape, networks, shard)


class MADGAN(UniformSystem):
    """K generators {G_c} with r(c) = 1/K, and a critic D of K + 1 classes."""

    critic: ClassCritic

    config: MADGANConfig
    logits = ("critic.head.bias",)

    def build_critic(self, shape: tuple[int, ...]) -> ClassCritic:
        """D, with a logit for each generator and one for "real"."""
        plain = super().build_critic(shape)
        return ClassCritic(plain.trunk, plain.head.in_features, self.K)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D_{K+1} - sum_c E ln D_c(G_c) / K, or the sum itself."""
        weight = batch.constant("n_generators", self.K) if self.config.critic_weight == "sum" else 1
        real, fake = self.critic.features(torch.cat([batch.real, batch.fakes()])).chunk(2)
        return {
            "real": batch.mean(F.softplus(-self.critic.score(real))),
            "fake": weight * mixture.information(self.critic.logits(fake), batch.noise["c"], batch.fake_weights),
        }

    def generator_loss(self, batch: Batch) -> Terms:
        """-E ln D_{K+1}(G_c), or E ln(1 - D_{K+1}(G_c))."""
        scores = self.critic(self.generate(batch.noise))
        minimax = self.config.generator_loss == "minimax"
        loss = gan.saturating_generator_loss if minimax else gan.generator_loss
        return {"adversarial": loss(scores, batch.fake_weights)}

    def encode(self, x: Tensor) -> Tensor:
        """q(c|x), the critic's odds of the generators among themselves: (n, K)."""
        return self.critic.logits(self.critic.features(x))[:, :-1].softmax(dim=1)
