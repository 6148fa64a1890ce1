"""The Wasserstein critic's and generator's terms, with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section
from toposampler.keys import may
from toposampler.losses.batch import Batch, Terms
from toposampler.nn.critic import Critic

Sides = Literal["one-sided", "two-sided"]


class PenaltyConfig(Section):
    """The gradient penalty that keeps a critic near 1-Lipschitz, or, of a relativistic game, flat at all samples."""

    weight: float = Field(1.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.1, 10]}))
    """lambda, the penalty's weight (the papers: 10); of a relativistic game gamma"""
    final_weight: float | None = Field(None, ge=0)
    """the weight at the end of the run, to which it goes along half a cosine (R3GAN: 1 to .1); default: it stays"""
    sides: Sides = "one-sided"
    """which gradient norms are penalised: those above 1, or all that differ from 1; relativistic: unused"""

    def weight_at(self, batch: Batch) -> float:
        """The weight at the batch's step."""
        if self.final_weight is None:
            return self.weight
        left = (1 + math.cos(math.pi * batch.step / batch.total_steps)) / 2
        return self.final_weight + (self.weight - self.final_weight) * left


def critic_terms(critic: Critic, batch: Batch, penalty: PenaltyConfig) -> Terms:
    """-E_real D + E_fake D + lambda * penalty, as the terms `real`, `fake` and `penalty`.

    The gradient is penalised on the lines from each fake to a real sample, at the batch's `epsilon` (n,) in [0, 1].
    """
    real, fake, epsilon = batch.real, batch.fakes(), batch.noise["epsilon"]
    n = len(real)
    between = torch.lerp(fake, real, epsilon.view(-1, *(1,) * (real.dim() - 1)))
    scores, gradient = critic(torch.cat([real, fake])), critic.input_gradient(between)
    return {
        "real": -batch.mean(scores[:n]),
        "fake": batch.expectation(scores[n:]),
        "penalty": penalty.weight_at(batch) * batch.expectation(gradient_penalties(gradient, penalty.sides)),
    }


def gradient_penalties(gradient: Tensor, sides: Sides) -> Tensor:
    """(|g| - 1)^2 of gradients (n, *shape), as (n,); one-sided: max(0, |g| - 1)^2, which leaves flat critics alone."""
    excess = torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1
    return (excess.relu() if sides == "one-sided" else excess).square()


def generator_term(scores: Tensor, batch: Batch) -> Tensor:
    """-E_fake D over the scores (n,) of a batch's fakes."""
    return -batch.expectation(scores)
