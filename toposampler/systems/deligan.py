"""DeLiGAN: Generative Adversarial Networks for Diverse and Limited Data.

Gurumurthy, Sarvadevabhatla, Babu, CVPR 2017, arXiv 1706.02071. The noise is a mixture of Gaussians, trained with the
generator.

| equation | here | logged term |
|---|---|---|
| z = mu_c + sigma_c eps, eps ~ N(0, I), c uniform over N | `MixtureLatents`, `UniformSystem` | |
| critic: -E_real ln D - E_fake ln(1 - D) | `critic_loss` | `critic/real`, `critic/fake` |
| generator, mu and sigma: -E_fake ln D | `generator_loss` | `generator/adversarial` |
| their regularizer: .1 mean (1 - sigma)^2, which keeps sigma from 0 | `generator_loss` | `generator/spread` |

D = s(critic), s the logistic function.

Deviations
----------
- Each batch holds every component equally often (`share_out`), as the authors' program does with its batches of N.
- Networks are those of DMGAN's experiments at the single generator's full width; the authors' toy has one hidden layer
  of 32 tanh units in each, and z of 2 dimensions.
- sigma starts at .2, the authors' value for images; their toy's is .02 (`configs/ring_deligan.yaml`).
- The authors take five steps a batch, each of the player that the generator's loss calls for; here
  `training.critic_steps`.
- Adam's betas are theirs, and the regularizer's weight their toy's (for images 1/3 or .05); the learning rate of their
  toy is 1e-4, for 8,000 epochs.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import gan
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.latent import LatentConfig
from toposampler.systems.base import SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.building import GeneratorNorm
from toposampler.systems.uniform import UniformSystem


class DeLiGANConfig(SystemConfig):
    """DeLiGAN (Gurumurthy et al. 2017): one generator behind a trained mixture of Gaussians."""

    name: Literal["deligan"] = "deligan"
    n_components: int = Field(50, ge=1, le=10_000, json_schema_extra=may(search={"int": [2, 100]}))
    """N, the number of Gaussians that z is a mixture of"""
    sigma: float = Field(0.2, gt=0, json_schema_extra=may(search={"loguniform": [0.01, 1]}))
    """standard deviation of each Gaussian at the start"""
    spread_weight: float = Field(0.1, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.01, 1]}))
    """weight of mean (1 - sigma)^2"""
    latent: LatentConfig = LatentConfig(kind="normal")
    generator_norm: GeneratorNorm = "layer"
    generator: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.999))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.999))

    @property
    def K(self) -> int:
        """The number of components."""
        return self.n_components

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> DeLiGAN:
        """See `SystemConfig.build`."""
        return DeLiGAN(self, shape, networks, shard)


class MixtureLatents(nn.Module):
    """G(mu_c + sigma_c eps): a network behind N Gaussians with diagonal covariances, mu uniform on (-1, 1) at first."""

    def __init__(self, network: nn.Module, n_components: int, dim: int, sigma: float) -> None:
        super().__init__()
        self.network = network
        self.mu = nn.Parameter(torch.rand(n_components, dim) * 2 - 1)
        self.sigma = nn.Parameter(torch.full((n_components, dim), sigma))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Standard normal eps, here `z` (n, d), and components (n,) to samples (n, *shape)."""
        c = c.to(z.device, non_blocking=True)
        return self.network(self.mu[c] + self.sigma[c] * z)


class DeLiGAN(UniformSystem):
    """A generator G on a mixture of N Gaussians, and a critic D."""

    generators: MixtureLatents

    config: DeLiGANConfig

    def build_generators(self, shape: tuple[int, ...]) -> MixtureLatents:
        """G, with mu and sigma."""
        network = self.build_network(shape, self.latent.dim)
        return MixtureLatents(network, self.K, self.latent.dim, self.config.sigma)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real ln D - E_fake ln(1 - D)."""
        real, fake = self.critic(torch.cat([batch.real, batch.fakes()])).chunk(2)
        return gan.critic_terms(real, fake, batch.weights, batch.fake_weights)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake ln D + .1 mean (1 - sigma)^2."""
        return {
            "adversarial": gan.generator_loss(self.critic(self.generate(batch.noise)), batch.fake_weights),
            "spread": batch.constant("spread_weight", self.config.spread_weight)
            * (1 - self.generators.sigma).square().mean(),
        }
