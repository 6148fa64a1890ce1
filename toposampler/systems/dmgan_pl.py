"""DMGAN-PL: DMGAN with prior learning, which gives each generator its mass and switches off those that are not needed.

Khayatkhoei, Singh, Elgammal, NeurIPS 2018, arXiv 1806.00880, section 3.

| equation | here | logged term |
|---|---|---|
| r(c) = softmax(zeta), zeta = 0 at first | `MixturePrior` | `mass/c` |
| L(zeta) = E_real H(q(c given x), r) - a^t w H(r) | `prior_loss` | `prior/cross_entropy`, `prior/entropy_bonus` |
| a^t w, and the two other ways in which the bonus can fade | `entropy_weight` | |
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
- `prior.entropy_schedule: exponential` (default) is the paper's. `linear` lets the bonus fall to 0 in a straight line,
  within `prior.entropy_span` of the run. `encoder` ties it to Q: t counts each generator step as much as Q's accuracy
  on generated samples is above chance, (A - 1/K) / (1 - 1/K) with A the share of samples whose generator Q finds
  most probable. With a perfect Q that is the paper's schedule; while Q cannot tell the generators apart, no mass moves.
- The authors hold w = 1000, a = .999. The defaults here decay faster (.98) after the hold; see `dmgan` for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.losses import mixture
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.mixture import MixturePrior
from toposampler.schedules import Schedule
from toposampler.systems.base import Move, Player
from toposampler.systems.batch import Batch
from toposampler.systems.dmgan import DMGAN, DMGANConfig

COUNTS = "prior.counts"
"""with the schedule `encoder`: 1 once the hold is over, 0 before"""
SPENT = 0.01
"""weight (nats) at which the entropy bonus no longer moves the prior: the cross entropy weighs 1"""
FADE = 0.2
"""share of a run within which the bonus is spent, after its hold, where its decay is chosen for the run's length"""


class PriorConfig(OptimizerConfig):
    """How r(c) is learned: Adam on zeta, and the entropy bonus that fades."""

    learning_rate: float = Field(2e-2, gt=0, json_schema_extra=may(search={"loguniform": [2e-3, 1e-1]}))
    """step size of Adam"""
    betas: tuple[float, float] = (0.5, 0.5)
    """decay of Adam's first and second moment, each in [0, 1)"""
    entropy_weight: float = Field(1000.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [1, 1000]}))
    """w: the bonus for the entropy of r(c) at the start, in nats"""
    entropy_decay: float = Field(
        0.98,
        gt=0,
        le=1,
        json_schema_extra=may(
            branch=True, search={"uniform": [0.9, 0.999], "when": {"entropy_schedule": ["exponential", "encoder"]}}
        ),
    )
    """a: the factor of the bonus per generator step"""
    entropy_decay_from: float = Field(0.3, ge=0, le=1, json_schema_extra=may(branch=True, search={"uniform": [0, 0.6]}))
    """share of the run after which the bonus decays"""
    entropy_schedule: Literal["exponential", "linear", "encoder"] = Field(
        "exponential", json_schema_extra=may(search={"choice": ["exponential", "linear", "encoder"]})
    )
    """how the bonus decays: by the factor a per step; in a straight line to 0; by a per step in which the encoder tells
    all generators apart, and less when it tells them apart less"""
    entropy_span: float = Field(
        0.2,
        gt=0,
        le=1,
        json_schema_extra=may(branch=True, search={"uniform": [0.05, 0.6], "when": {"entropy_schedule": ["linear"]}}),
    )
    """share of the run in which a linear bonus falls to 0; other schedules: unused"""
    every: int = Field(1, ge=1)
    """the prior takes a step at every n-th generator step"""
    author_exact: bool = False
    """true: the cross entropy is averaged over the K classes too, as in the authors' code"""

    def counts_after(self, step: int, total_steps: int) -> float:
        """Whether the hold is over: 1 or 0."""
        return float(step >= self.entropy_decay_from * total_steps)

    def weight_at(self, step: int, total_steps: int) -> float:
        """The weight of the bonus after `step` generator steps; with the schedule `encoder`, whose clock is not the
        step's, the weight at its start."""
        if self.entropy_schedule == "encoder":
            return self.entropy_weight
        return self.weight_after(max(0.0, step - self.entropy_decay_from * total_steps), total_steps)

    def weight_after(self, t: float, steps: int) -> float:
        """The weight of the bonus (nats), `t` generator steps after the end of its hold, in a run of `steps`."""
        if self.entropy_schedule == "linear":
            return self.entropy_weight * max(0.0, 1 - t / (self.entropy_span * steps))
        return self.entropy_weight * self.entropy_decay**t

    def decay_that_fits(self, steps: int) -> float:
        """The largest `entropy_decay` by which the bonus is spent within `FADE` of a run of `steps`, or by its end."""
        share = min(FADE, 1 - self.entropy_decay_from)
        return min(1.0, SPENT / self.entropy_weight) ** (1 / (share * steps)) if share and self.entropy_weight else 1.0

    def fading(self, steps: int) -> Iterator[Schedule]:
        """How the bonus falls in a run of `steps`: what of it follows the length, and what is not over at the end."""
        if self.entropy_weight == 0:
            return
        start, linear = self.entropy_decay_from, self.entropy_schedule == "linear"
        key = "entropy_span" if linear else "entropy_decay"
        if start == 1:
            key = "entropy_decay_from"
        yield Schedule("entropy_decay_from", start, follows_length_from=start if start or linear else None)
        yield Schedule(key, getattr(self, key), fault=self._fault(steps))

    def _fault(self, steps: int) -> str | None:
        """What is left of the bonus at the last step of a run of `steps`, and what would be right; None: nothing."""
        start = self.entropy_decay_from
        left = self.weight_after(max(0.0, steps - 1 - start * steps), steps)
        if left <= SPENT:
            return None
        at_best = ", if the encoder makes no mistake" if self.entropy_schedule == "encoder" else ""
        told = (
            f"{left / self.entropy_weight:.2g} of the entropy bonus is left at the last step of "
            f"training.generator_steps {steps:,}{at_best}, so that the prior cannot settle; right would be "
        )
        if start == 1:
            return f"{told}less than 1, such as 0.3"
        if self.entropy_schedule == "linear":
            return f"{told}{1 - start:.3g} or less"
        right = f"{math.floor(1e4 * self.decay_that_fits(steps)) / 1e4:g} or less"
        if self.entropy_decay < 1:
            fade = math.log(SPENT / self.entropy_weight) / math.log(self.entropy_decay)
            right += f", or {math.ceil(fade / min(FADE, 1 - start)):,} steps or more"
        return told + right


class DMGANPLConfig(DMGANConfig):
    """DMGAN-PL (Khayatkhoei et al. 2018): DMGAN with a learned prior and a fading entropy bonus."""

    name: Literal["dmgan_pl"] = "dmgan_pl"  # type: ignore[assignment]
    masked: ClassVar[bool] = True
    prior: PriorConfig = PriorConfig()

    def constants(self, step: int, total_steps: int) -> dict[str, float]:
        """See `SystemConfig.constants`."""
        prior, numbers = self.prior, super().constants(step, total_steps)
        if prior.entropy_schedule == "encoder":
            return numbers | {COUNTS: prior.counts_after(step, total_steps)}
        return numbers | {"prior.entropy_weight": prior.weight_at(step, total_steps)}

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """See `Section.schedules`: the entropy bonus of a prior that has something to learn."""
        yield from super().schedules(steps)
        if self.K > 1:
            yield from (replace(schedule, key=f"prior.{schedule.key}") for schedule in self.prior.fading(steps))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> DMGANPL:
        """See `SystemConfig.build`."""
        return DMGANPL(self, shape, networks, shard)


class DMGANPL(DMGAN):
    """DMGAN with r(c) = softmax(zeta)."""

    config: DMGANPLConfig
    counters = ("accurate_steps",)

    def __init__(
        self, config: DMGANPLConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        self.mixture = MixturePrior(self.K)
        self.logits = (*self.logits, "mixture.zeta")
        if config.prior.entropy_schedule == "encoder":
            self.register_buffer("accurate_steps", torch.zeros(()))  # t: on the device, and part of a checkpoint
        self.accurate_steps: Tensor

    def players(self) -> dict[str, Player]:
        """Critic, generators and encoder, then the prior."""
        return super().players() | {
            "prior": Player({"mixture": self.mixture}, {"mixture": self.config.prior}, self.prior_loss)
        }

    def schedule(self, step: int, critic_steps: int) -> list[Move]:
        """See `System.schedule`: the prior moves at every `prior.every`-th generator step."""
        moves = super().schedule(step, critic_steps)
        return [move for move in moves if move.player != "prior" or step % self.config.prior.every == 0]

    def prior(self) -> Tensor:
        """r(c) = softmax(zeta): (K,), without gradient."""
        return self.mixture.probabilities()

    @property
    def masked_draws(self) -> bool:
        """See `System.masked_draws`: ids are drawn from r(c), unless all generators make as many samples."""
        return self.config.draw != "equal"

    def entropy_weight(self, step: int, total_steps: int) -> float | Tensor:
        """The weight of the bonus, a^t w, t counted in generator steps from the end of the hold; see Deviations."""
        prior = self.config.prior
        weight = prior.weight_at(step, total_steps)
        return weight if prior.entropy_schedule != "encoder" else weight * prior.entropy_decay**self.accurate_steps

    def _weight(self, batch: Batch) -> float | Tensor:
        """As `entropy_weight`, at the batch's step, which counts towards t before."""
        prior = self.config.prior
        weight = batch.constant("prior.entropy_weight", prior.weight_at(batch.step, batch.total_steps))
        if prior.entropy_schedule != "encoder":
            return weight
        decayed = weight * batch.constant("prior.entropy_decay", prior.entropy_decay) ** self.accurate_steps
        self._count_accurate_step(batch)
        return decayed

    def _count_accurate_step(self, batch: Batch) -> None:
        """Add this step to t, as far as Q tells the generators apart: over the global batch, alike on every worker."""
        counts = batch.constant(COUNTS, self.config.prior.counts_after(batch.step, batch.total_steps))
        if self.K == 1 or (isinstance(counts, float) and counts == 0):
            return
        found = self.encode(self.generate(batch.noise)).argmax(dim=1)
        hits = (found == batch.noise["c"].to(found.device, non_blocking=True)).to(self.accurate_steps.dtype)
        accuracy, chance = batch.gather(batch.weighted(hits)).mean(), 1 / batch.constant("n_generators", self.K)
        self.accurate_steps += counts * ((accuracy - chance) / (1 - chance)).clamp(min=0)

    def prior_loss(self, batch: Batch) -> Terms:
        """L(zeta) = E_real H(q(c|x), r) - a^t w H(r), with q detached."""
        with torch.no_grad():
            weight, posterior = self._weight(batch), self.encode(batch.real)
        log_prior = self.mixture.log_probabilities()
        classes = batch.constant("n_generators", self.K) if self.config.prior.author_exact else 1
        return {
            "cross_entropy": mixture.cross_entropy(posterior, log_prior, batch.weights) / classes,
            "entropy_bonus": -weight * mixture.entropy(log_prior),
        }
