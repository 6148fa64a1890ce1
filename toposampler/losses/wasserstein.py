"""The Wasserstein critic and generator with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from toposampler.losses.reduction import Terms, expectation

Sides = Literal["one-sided", "two-sided"]


def interpolate(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """x_hat = epsilon x + (1 - epsilon) G(z), where the penalty is taken: (n, *shape), epsilon (n,) in [0, 1]."""
    return torch.lerp(fake, real, epsilon.view(-1, *(1,) * (real.dim() - 1)))


def critic_terms(
    real: Tensor,
    fake: Tensor,
    gradient: Tensor,
    penalty_weight: float | Tensor = 10.0,
    sides: Sides = "two-sided",
    real_weights: Tensor | None = None,
    fake_weights: Tensor | None = None,
) -> Terms:
    """Equation 3: -E_real D + E_fake D + lambda E penalty, as `real`, `fake` and `penalty`.

    Args:
        real, fake: scores (n,) of real and of generated samples.
        gradient: dD/dx (n, *shape) at `interpolate(...)`, differentiable by the critic's weights.
        penalty_weight: lambda.
        sides: see `gradient_penalties`.
        real_weights, fake_weights: of the expectations; the penalty takes those of the fakes.
    """
    return {
        "real": -expectation(real, real_weights),
        "fake": expectation(fake, fake_weights),
        "penalty": penalty_weight * expectation(gradient_penalties(gradient, sides), fake_weights),
    }


def gradient_penalties(gradient: Tensor, sides: Sides) -> Tensor:
    """(|g| - 1)^2 of gradients (n, *shape), as (n,); one-sided: max(0, |g| - 1)^2, which allows flat critics."""
    excess = torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1
    return (excess.relu() if sides == "one-sided" else excess).square()


def generator_loss(fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """-E_fake D of scores (n,) (algorithm 1, line 12)."""
    return -expectation(fake, weights)
