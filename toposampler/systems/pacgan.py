"""PacGAN: The Power of Two Samples in Generative Adversarial Networks.

Lin, Khetan, Fanti, Oh, NeurIPS 2018, arXiv 1712.04086. The critic scores m samples at once, all real or all generated:
m samples of a generator that drops modes are alike, which m samples of the data are not.

| equation | here | logged term |
|---|---|---|
| D(x_1, ..., x_m): m samples side by side, images as channels | `scores` | |
| critic: -E_real ln D - E_fake ln(1 - D), over packs | `critic_loss` | `critic/real`, `critic/fake` |
| generator: -E_fake ln D | `generator_loss` | `generator/adversarial` |

D = s(critic), s the logistic function. A pack is rows j, j + n/m, j + 2n/m, ... of a batch of n: a worker that has rows
w, w + W, ... of it has whole packs if W divides n/m, so that the result is one process's. Other batches are refused.

Deviations
----------
- The loss is the paper's, the non-saturating GAN's; `n_packed: 1` is that GAN itself.
- Networks and latents are those of DMGAN's experiments at the single generator's full width. For points the paper has
  ALI's, generators of four layers of 400 with batch norm and critics of maxout units; as there, only the critic's input
  grows with m.
- Adam's constants are the paper's for points (1e-4, beta 1 .8), with one critic step; `configs/ring_pacgan.yaml` has
  others, for shorter runs: on the grid of 25 they reach 22 modes where higher learning rates alone reach 14 to 19.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.errors import UserError
from toposampler.keys import may
from toposampler.losses import gan
from toposampler.losses.reduction import Terms
from toposampler.nn.critic import Critic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.systems.base import System, SystemConfig
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.building import GeneratorNorm


class PacGANConfig(SystemConfig):
    """PacGAN (Lin et al. 2018): one generator, a critic that scores several samples at once."""

    name: Literal["pacgan"] = "pacgan"
    n_packed: int = Field(4, ge=1, le=1024, json_schema_extra=may(search={"choice": [1, 2, 4]}))
    """m, samples that the critic scores at once; 1: the plain GAN"""
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, betas=(0.8, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, betas=(0.8, 0.999))

    @property
    def pack_size(self) -> int:
        """See `SystemConfig.pack_size`."""
        return self.n_packed

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> PacGAN:
        """See `SystemConfig.build`."""
        return PacGAN(self, shape, networks, shard)


class PacGAN(System):
    """One generator G against a critic D of packs."""

    config: PacGANConfig

    def __init__(
        self, config: PacGANConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.scores_samples = config.n_packed == 1

    def build_critic(self, shape: tuple[int, ...]) -> Critic:
        """D, of m samples side by side."""
        return super().build_critic((self.config.pack_size * shape[0], *shape[1:]))

    def scores(self, x: Tensor) -> Tensor:
        """The critic's scores of the packs of x: (n, *shape) to (n / m,)."""
        packs = x.unflatten(0, (self.config.n_packed, -1)).transpose(0, 1)
        return self.critic(packs.flatten(1, 2))

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D - E_fake ln(1 - D), over packs."""
        return gan.critic_terms(self.scores(batch.real), self.scores(batch.fakes()), batch.weights, batch.fake_weights)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake ln D, over packs."""
        return {"adversarial": gan.generator_loss(self.scores(self.generate(batch.noise)), batch.fake_weights)}

    def score_noise(self, noise: Noise) -> Tensor:
        """See `System.score_noise`. Raises UserError if the critic scores packs."""
        if not self.scores_samples:
            raise UserError(
                f"the critic of pacgan scores {self.config.n_packed} samples at once (system.n_packed), and cannot "
                "reject one: use --rejection jacobian"
            )
        return super().score_noise(noise)
