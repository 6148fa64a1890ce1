"""DMGAN-PL: DMGAN with prior learning, which gives each generator its mass and switches superfluous ones off.

Khayatkhoei, Singh, Elgammal, NeurIPS 2018, arXiv 1806.00880, section 3.

| equation | here | logged term |
|---|---|---|
| r(c) = softmax(zeta), zeta = 0 at first | `MixturePrior` | `mass/c` |
| L(zeta) = E_real H(q(c given x), r) - a^t w H(r) | `prior_loss` | `prior/cross_entropy`, `prior/entropy_bonus` |
| all else as DMGAN, with c ~ r(c) | `dmgan` | |

Without its second term L(zeta) is minimal at r = E_real q(c|x), one EM step for the weights of a mixture: a generator
that Q finds nowhere in the data loses its mass. The entropy bonus, w a^t, holds r near uniform until the generators
have found their places.

Deviations
----------
- `prior.author_exact: true` averages the cross entropy over the K classes too, as the authors' code does; false (the
  default) sums over them, as the equation says. The two agree when w is multiplied by K.
- `prior.entropy_decay_from` holds the bonus at w for a share of the run before it decays: the moment of switching off
  then scales with the run. 0, the paper's, decays from the first step.
- The authors hold w = 1000, a = .999. The defaults here decay faster (.98) after the hold; see `dmgan` for the rest.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import OptimiserConfig
from toposampler.losses import mixture
from toposampler.losses.batch import Batch, Terms
from toposampler.priors.mixture import MixturePrior
from toposampler.systems.base import Player
from toposampler.systems.dmgan import DMGAN, DMGANConfig


class PriorConfig(OptimiserConfig):
    """How r(c) is learned: Adam on zeta, and the entropy bonus that fades."""

    learning_rate: float = Field(2e-2, gt=0)
    """step size of Adam"""
    betas: tuple[float, float] = (0.5, 0.5)
    """decay of Adam's first and second moment, each in [0, 1)"""
    entropy_weight: float = Field(1000.0, ge=0)
    """w: the bonus for the entropy of r(c) at the start, in nats"""
    entropy_decay: float = Field(0.98, gt=0, le=1)
    """a: the factor of the bonus per generator step"""
    entropy_decay_from: float = Field(0.3, ge=0, le=1)
    """share of the run after which the bonus decays"""
    author_exact: bool = False
    """true: the cross entropy is averaged over the K classes too, as in the authors' code"""


class DMGANPLConfig(DMGANConfig):
    """DMGAN-PL (Khayatkhoei et al. 2018): DMGAN with a learned prior and a fading entropy bonus."""

    name: Literal["dmgan_pl"] = "dmgan_pl"  # type: ignore[assignment]
    prior: PriorConfig = PriorConfig()

    def build(self, shape: tuple[int, ...]) -> DMGANPL:
        """See `SystemConfig.build`."""
        return DMGANPL(self, shape)


class DMGANPL(DMGAN):
    """DMGAN with r(c) = softmax(zeta)."""

    def __init__(self, config: DMGANPLConfig, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape)
        self.prior_config = config.prior
        self.mixture = MixturePrior(self.K)

    def players(self) -> dict[str, Player]:
        """Critic, generators and encoder, then the prior."""
        return super().players() | {
            "prior": Player({"mixture": self.mixture}, {"mixture": self.prior_config}, self.prior_loss)
        }

    def prior(self) -> Tensor:
        """r(c) = softmax(zeta): (K,), without gradient."""
        return self.mixture.log_probabilities().detach().exp()

    def entropy_weight(self, step: int, total_steps: int) -> float:
        """a^t w, t counted in generator steps from the end of the hold."""
        t = max(0.0, step - self.prior_config.entropy_decay_from * total_steps)
        return self.prior_config.entropy_weight * self.prior_config.entropy_decay**t

    def prior_loss(self, batch: Batch) -> Terms:
        """L(zeta) = E_real H(q(c|x), r) - a^t w H(r), with q detached."""
        with torch.no_grad():
            posterior = self.encode(batch.real)
        log_prior = self.mixture.log_probabilities()
        classes = self.K if self.prior_config.author_exact else 1
        return {
            "cross_entropy": mixture.cross_entropy(posterior, log_prior, batch) / classes,
            "entropy_bonus": -self.entropy_weight(batch.step, batch.total_steps) * mixture.entropy(log_prior),
        }
