"""Which game a critic and its generators play, where a system leaves that open, and its keys.

The formulas are in `toposampler.losses`; here a critic is evaluated where they need it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from toposampler.config import Section
from toposampler.keys import may
from toposampler.losses import relativistic, wasserstein
from toposampler.losses.reduction import Terms
from toposampler.losses.wasserstein import Sides
from toposampler.nn.critic import Critic
from toposampler.nn.precision import full_precision
from toposampler.schedules import remaining
from toposampler.systems.batch import Batch
from toposampler.systems.burn_in import BurnInConfig


class PenaltyConfig(Section):
    """The gradient penalty that keeps a critic near 1-Lipschitz, or, in a relativistic game, flat at all samples."""

    weight: float = Field(1.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """lambda, the penalty's weight (the papers: 10); in a relativistic game gamma"""
    final_weight: float | None = Field(None, ge=0)
    """the weight at the end of system.burn_in, or without one of the run, reached along half a cosine (R3GAN: 1 to .1);
    default: constant"""
    sides: Sides = "one-sided"
    """which gradient norms are penalized: those above 1, or all that differ from 1; relativistic: unused"""
    gradient: Literal["exact", "finite_difference"] = "exact"
    """of a relativistic game: exact, by a second backward pass; or finite_difference, the slope of D along one random
    direction per sample, which is cheaper and needs no second derivative (Adversarial Flow Models' penalty)"""
    epsilon: float = Field(0.01, gt=0)
    """the step of the finite difference, in units of the samples per dimension: its square is the relative bias"""
    every: int = Field(1, ge=1)
    """take the penalty at every n-th generator step only, with n times its weight (lazy regularization, Karras et al.
    2020, arXiv 1912.04958)"""

    def weight_at(self, batch: Batch, burn_in: int = 0) -> float | Tensor:
        """The weight at the batch's step, of a system with that `burn_in`: 0 at the steps without a penalty."""
        return batch.constant("penalty.weight", self.weight_after(batch.step, burn_in or batch.total_steps))

    def weight_after(self, step: int, span: int) -> float:
        """The weight after `step` of the `span` generator steps within which it reaches its final value."""
        if step % self.every:
            return 0.0
        if self.final_weight is None:
            return self.every * self.weight
        return self.every * (self.final_weight + (self.weight - self.final_weight) * remaining(step, span))


class GameConfig(BurnInConfig):
    """The keys of a game, for a system's section to inherit."""

    adversarial: Literal["wasserstein", "relativistic"] = "wasserstein"
    """wasserstein: -E_real D + E_fake D with a gradient penalty between the two; relativistic: R3GAN's pairs of a real
    and a generated sample, with penalties R1 and R2 at both, of weight gamma / 2 each"""
    penalty: PenaltyConfig = PenaltyConfig()

    @model_validator(mode="after")
    def _differences_are_of_a_relativistic_game(self) -> Self:
        if self.penalty.gradient != "exact" and self.adversarial != "relativistic":
            raise ValueError(
                f"penalty.gradient {self.penalty.gradient} is for adversarial relativistic, whose penalties are mean "
                f"squared slopes, and adversarial is {self.adversarial}"
            )
        return self

    @property
    def n_directions(self) -> int:
        """See `SystemConfig.n_directions`: one for each real and each generated sample."""
        return 2 if self.penalty.gradient == "finite_difference" else 0

    def constants(self, step: int, total_steps: int) -> dict[str, float]:
        """See `SystemConfig.constants`."""
        own: dict[str, float] = super().constants(step, total_steps)  # type: ignore[misc]
        return own | {"penalty.weight": self.penalty.weight_after(step, self.span(total_steps))}

    def rhythm(self, step: int) -> Hashable:
        """See `SystemConfig.rhythm`: a lazy penalty is not computed at every step."""
        return step % self.penalty.every == 0


def critic_terms(critic: Critic, batch: Batch, game: GameConfig, both: Tensor | None = None) -> Terms:
    """The critic's terms on the batch's real samples and fakes. At steps without a penalty its terms are 0.

    `both` (2 n, ...) is what the critic is given of the one, then of the other, where that is not the samples.
    """
    weight = game.penalty.weight_at(batch, game.burn_in)
    if both is None:
        both = torch.cat([batch.real, batch.fakes()])
    if game.adversarial == "relativistic":
        if batch.step % game.penalty.every:
            scores, gradient = critic(both), torch.zeros_like(both)
        elif game.penalty.gradient == "finite_difference":
            directions = torch.cat(batch.noise["direction"].unbind(1))
            with full_precision(both.device):  # bf16 cannot tell two scores so close
                scores, gradient = scores_and_slopes(critic, both, directions, game.penalty.epsilon)
        else:
            scores, gradient = critic.scores_and_gradient(both)
        (real, fake), (real_gradient, fake_gradient) = scores.chunk(2), gradient.chunk(2)
        return relativistic.critic_terms(
            real, fake, real_gradient, fake_gradient, weight, batch.weights, batch.fake_weights
        )
    real_seen, fake_seen = both.chunk(2)
    scores, gradient = critic(both), penalty_gradient(critic, real_seen, fake_seen, batch, game.penalty)
    real, fake = scores.chunk(2)
    return wasserstein.critic_terms(real, fake, gradient, weight, game.penalty.sides, batch.weights, batch.fake_weights)


def scores_and_slopes(
    critic: Callable[[Tensor], Tensor], x: Tensor, e: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Scores (n,) of x (n, *shape), and slopes (n, 1) along e ~ N(0, I), which stand for the gradient dD/dx.

    With g = dD/dx and H the Hessian of D at x, (D(x + epsilon e) - D(x)) / epsilon has over e the mean square
    |g|^2 + epsilon^2 (|H|^2 / 2 + tr(H)^2 / 4 + g . grad tr(H)) + O(epsilon^4): the gradient's, but for a bias of
    epsilon^2. No second derivative is taken; it costs one pass of twice as many samples.
    """
    scores, moved = critic(torch.cat([x, x + epsilon * e])).chunk(2)
    return scores, ((moved - scores) / epsilon)[:, None]


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
