"""TopoSampler: a noise module with the data's topology, then a generator that cannot stretch.

Dey and Das, NeurIPS 2020 workshop "Topological Data Analysis and Beyond" (slides). A continuous generator maps a
connected latent space onto a connected set; so the noise is given the topology of the data first, and the generator is
built of 1-Lipschitz pieces, which have nothing left to tear.

| equation | here | logged term |
|---|---|---|
| N: z ~ N(0, I) -> latent | `priors.noise` | |
| signature: 0-dimensional persistence of N(z) against the data's | `latent_terms` | `generator/topology` |
| c ~ r(c) = softmax(zeta), the branch of a gate | `draw_generators` | `mass/c` |
| its odds: E (D - E D) grad ln r(c) | `latent_terms` | `generator/choice` |
| x = G(N(z)), G of 1-Lipschitz pieces | `nn.isometric`, `generate` | |
| critic: -E_real D + E_fake D | `critic_loss` | `critic/real`, `critic/fake` |
| its penalty: lambda E max(0, abs(grad D) - 1)^2 | `critic_loss` | `critic/penalty` |
| generator: -E_fake D | `generator_loss` | `generator/adversarial` |

Why the slides' generator must fail where the data is disconnected: for z ~ N(0, I), an L-Lipschitz map and two
components of equal mass at distance D, Gaussian isoperimetry leaves at least 2 Phi(D / 2L) - 1 of the mass between
them. A noise module that is continuous only adds its own Lipschitz constant to L.

Deviations
----------
- Moor's loss reads the latent distances at the pairs chosen in the data, so it needs paired points, and noise and data
  are not paired. Here the sorted lists of edge lengths are compared (`topology.signature_loss`).
- The slides give no sizes, weights or constants. Those here are ours; `configs/spheres_toposampler_slides.yaml` keeps
  to all that the slides do say: `noise.kind network` trained by the signature alone, `network.kind spectral` without an
  output scale.
- `noise.kind gate` (default) can tear. Its odds follow the score-function gradient of E D, with the batch's mean as
  baseline: all but unbiased, where a straight-through gradient lets the masses drift (`docs/toposampler.md`). Branches
  count as generators: in figures, in `prior`, and in `sample.py --generator`.
- `network.kind plain` (default) may stretch: an isometry keeps volumes, and cannot make a hollow sphere of a Gaussian
  ball. On spheres of many dimensions `orthogonal` is the one that works (`docs/toposampler.md`).
- The slides' adversarial loss is not named; here it is WGAN-GP's, or R3GAN's with `adversarial: relativistic`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from toposampler.errors import UserError
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.nn.isometric import IsometricConfig, isometric_generator
from toposampler.priors.latent import LatentConfig
from toposampler.priors.mixture import MixturePrior, draw_generators
from toposampler.priors.noise import NoiseConfig
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import Player, SystemConfig
from toposampler.systems.batch import Batch
from toposampler.systems.fitted_start import FittedStartConfig
from toposampler.systems.game import GameConfig
from toposampler.systems.noisy import NoisySystem, TopologyConfig


class TopoSamplerConfig(FittedStartConfig, TopologyConfig, GameConfig, SystemConfig):
    """TopoSampler (Dey and Das 2020): a noise module with the data's topology, then a 1-Lipschitz generator."""

    name: Literal["toposampler"] = "toposampler"
    latent: LatentConfig = LatentConfig(kind="normal")
    noise: NoiseConfig = NoiseConfig(kind="gate")
    network: IsometricConfig = IsometricConfig()

    @property
    def K(self) -> int:
        """The number of branches that are drawn at random."""
        return self.noise.branches if self.noise.draws else 1

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> TopoSampler:
        """See `SystemConfig.build`."""
        return TopoSampler(self, shape, networks, shard)


class SharedGenerator(nn.Module):
    """One network for the latents of every branch, in the place of an ensemble."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G(z): latents (n, d) to samples (n, *shape), whatever their branches c (n,)."""
        return self.network(z)


class TopoSampler(NoisySystem):
    """A noise module N, a generator G on N(z), and a critic D."""

    config: TopoSamplerConfig

    def __init__(
        self, config: TopoSamplerConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.mixture = MixturePrior(self.K) if config.noise.draws else None

    def build_generators(self, shape: tuple[int, ...]) -> SharedGenerator:
        """G, of the kind that `network` asks for."""
        if self.config.network.kind == "plain":
            return SharedGenerator(self.build_network(shape, self.latent.dim))
        if self.networks.generator is not None or self.config.generator_network != "default":
            raise UserError(
                f"system.network.kind {self.config.network.kind} makes the generator itself: set it to plain for "
                "another system.generator_network"
            )
        return SharedGenerator(isometric_generator(self.config.network, shape, self.latent.dim))

    def players(self) -> dict[str, Player]:
        """Critic, then generator, noise module and the odds of its branches together."""
        odds = {} if self.mixture is None else {"mixture": self.mixture}
        players = super().players()
        together = players["generator"].joined_by(self.noise_modules() | odds, self.config.noise)
        return players | {"generator": together}

    def prior(self) -> Tensor | None:
        """r(c), the odds (K,) of the branches, without gradient; None where branches are not drawn."""
        return None if self.mixture is None else self.mixture.probabilities()

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c ~ r(c), the branches: (batches, n)."""
        odds = self.prior()
        if odds is None:
            return super().draw_generators(batches, n, rng, training)
        return draw_generators(odds, (batches, n), "systematic", rng)

    def critic_loss(self, batch: Batch) -> Terms:
        """-E_real D + E_fake D + lambda * penalty."""
        return game.critic_terms(self.critic, batch, self.config)

    def generator_loss(self, batch: Batch) -> Terms:
        """-E_fake D, and the terms of the noise module."""
        scores = self.critic(self.generate(batch.noise))
        losses = game.generator_losses(self.critic, scores, batch, self.config)
        return {"adversarial": batch.expectation(losses)} | self.latent_terms(batch, losses)

    def latent_terms(self, batch: Batch, losses: Tensor) -> Terms:
        """The signature loss, and `choice`, whose gradient by zeta is that of -E_fake D by the odds of the branches."""
        terms = super().latent_terms(batch, losses)
        if self.mixture is not None:
            losses = losses.detach()
            excess = losses - batch.gather(losses).mean()  # of the global batch, as each worker's mean is its own
            terms["choice"] = batch.mean(excess * self.mixture.log_probabilities()[batch.noise["c"].to(losses.device)])
        return terms
