"""Which game a critic and its generators play, where a page leaves that open, and its keys.

The formulas are in `toposampler.losses`; here a critic is evaluated where they need it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section
from toposampler.keys import may
from toposampler.losses import relativistic, wasserstein
from toposampler.losses.reduction import Terms
from toposampler.losses.wasserstein import Sides
from toposampler.nn.critic import Critic
from toposampler.schedules import Schedule
from toposampler.systems.batch import Batch


class PenaltyConfig(Section):
    """The gradient penalty that keeps a critic near 1-Lipschitz, or, in a relativistic game, flat at all samples."""

    weight: float = Field(1.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """lambda, the penalty's weight (the papers: 10); in a relativistic game gamma"""
    final_weight: float | None = Field(None, ge=0)
    """the weight at the end of the run, reached along half a cosine (R3GAN: 1 to .1); default: constant"""
    sides: Sides = "one-sided"
    """which gradient norms are penalized: those above 1, or all that differ from 1; relativistic: unused"""
    every: int = Field(1, ge=1)
    """take the penalty at every n-th generator step only, with n times its weight (lazy regularization, Karras et al.
    2020, arXiv 1912.04958)"""

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """The weight, if it has another value at the end: along the whole run, whatever its length."""
        if self.final_weight not in (None, self.weight):
            yield Schedule("final_weight", self.final_weight, follows_length_from=0.0)

    def weight_at(self, batch: Batch) -> float | Tensor:
        """The weight at the batch's step: 0 at the steps without a penalty."""
        return batch.constant("penalty.weight", self.weight_after(batch.step, batch.total_steps))

    def weight_after(self, step: int, total_steps: int) -> float:
        """The weight after `step` of `total_steps` generator steps."""
        if step % self.every:
            return 0.0
        if self.final_weight is None:
            return self.every * self.weight
        left = (1 + math.cos(math.pi * step / total_steps)) / 2
        return self.every * (self.final_weight + (self.weight - self.final_weight) * left)


class GameConfig(Section):
    """The keys of a game, for a system's section to inherit."""

    adversarial: Literal["wasserstein", "relativistic"] = "wasserstein"
    """wasserstein: -E_real D + E_fake D with a gradient penalty between the two; relativistic: R3GAN's pairs of a real
    and a generated sample, with penalties R1 and R2 at both, of weight gamma / 2 each"""
    penalty: PenaltyConfig = PenaltyConfig()

    def constants(self, step: int, total_steps: int) -> dict[str, float]:
        """See `SystemConfig.constants`."""
        own: dict[str, float] = super().constants(step, total_steps)  # type: ignore[misc]
        return own | {"penalty.weight": self.penalty.weight_after(step, total_steps)}

    def rhythm(self, step: int) -> Hashable:
        """See `SystemConfig.rhythm`: a lazy penalty is not computed at every step."""
        return step % self.penalty.every == 0


def critic_terms(critic: Critic, batch: Batch, game: GameConfig) -> Terms:
    """The critic's terms on the batch's real samples and fakes. At steps without a penalty its terms are 0."""
    real, fake, weight = batch.real, batch.fakes(), game.penalty.weight_at(batch)
    n, both = len(real), torch.cat([real, fake])
    if game.adversarial == "relativistic":
        if batch.step % game.penalty.every:
            scores, gradient = critic(both), torch.zeros_like(both)
        else:
            scores, gradient = critic.scores_and_gradient(both)
        return relativistic.critic_terms(
            scores[:n], scores[n:], gradient[:n], gradient[n:], weight, batch.weights, batch.fake_weights
        )
    scores, gradient = critic(both), penalty_gradient(critic, real, fake, batch, game.penalty)
    return wasserstein.critic_terms(
        scores[:n], scores[n:], gradient, weight, game.penalty.sides, batch.weights, batch.fake_weights
    )


def penalty_gradient(critic: Critic, real: Tensor, fake: Tensor, batch: Batch, penalty: PenaltyConfig) -> Tensor:
    """dD/dx (n, *shape) between real and fake (n, *shape), where WGAN-GP penalizes it; 0 at steps without a penalty."""
    if batch.step % penalty.every:
        return torch.zeros_like(real)
    return critic.input_gradient(wasserstein.interpolate(real, fake, batch.noise["epsilon"]))


def generator_losses(critic: Critic, fake: Tensor, batch: Batch, game: GameConfig) -> Tensor:
    """The adversarial loss (n,) of each of the batch's generated samples, given the critic's scores (n,) of them."""
    if game.adversarial == "wasserstein":
        return -fake
    with torch.no_grad():
        real = critic(batch.real)
    return relativistic.generator_losses(real, fake)
