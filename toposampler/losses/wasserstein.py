"""The Wasserstein critic's and generator's terms, with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section
from toposampler.nn.critic import Critic

Sides = Literal["one-sided", "two-sided"]


class PenaltyConfig(Section):
    """The gradient penalty that keeps a critic near 1-Lipschitz."""

    weight: float = Field(1.0, ge=0)
    """lambda, the penalty's weight (the papers: 10)"""
    sides: Sides = "one-sided"
    """which gradient norms are penalised: those above 1, or all that differ from 1"""


def critic_terms(
    critic: Critic, real: Tensor, fake: Tensor, epsilon: Tensor, penalty: PenaltyConfig
) -> dict[str, Tensor]:
    """-E_real D + E_fake D + lambda * penalty, as the terms `real`, `fake` and `penalty`.

    Args:
        critic: D.
        real, fake: (n, *shape), without gradient.
        epsilon: (n,) in [0, 1]: where on the line from fake to real the gradient is taken.
        penalty: lambda, and which gradient norms are penalised.
    """
    n = len(real)
    between = torch.lerp(fake, real, epsilon.view(-1, *(1,) * (real.dim() - 1)))
    scores, gradient = critic.scores_and_gradient(torch.cat([real, fake, between]), n_gradient=n)
    return {
        "real": -scores[:n].mean(),
        "fake": scores[n : 2 * n].mean(),
        "penalty": penalty.weight * gradient_penalty(gradient, penalty.sides),
    }


def gradient_penalty(gradient: Tensor, sides: Sides) -> Tensor:
    """E (|g| - 1)^2 over gradients (n, *shape); one-sided: E max(0, |g| - 1)^2, which leaves flat critics alone."""
    excess = torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1
    return (excess.relu() if sides == "one-sided" else excess).square().mean()


def generator_term(scores: Tensor) -> Tensor:
    """-E_fake D over scores (n,)."""
    return -scores.mean()
