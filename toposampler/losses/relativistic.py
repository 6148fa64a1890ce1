"""Relativistic pairs with R1 and R2, the loss of R3GAN (Huang, Gokaslan, Kuleshov, Tompkin 2024, arXiv 2501.05441).

Each real sample is paired with a generated one, and only the difference of their scores counts: a generator that drops
a mode is told so by the real samples in it. With gradient penalties on both sides, at every step, the game converges
near its equilibrium.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.batch import Batch, Terms
from toposampler.nn.critic import Critic


def critic_terms(critic: Critic, batch: Batch, gamma: float) -> Terms:
    """E softplus(D(fake) - D(real)) as `pairs`, and gamma / 2 E |grad D|^2 at the real and the fake samples, as `r1`
    and `r2`."""
    n = len(batch.real)
    scores, gradient = critic.scores_and_gradient(torch.cat([batch.real, batch.fakes()]), n_gradient=2 * n)
    steepness = gamma / 2 * gradient.flatten(1).square().sum(dim=1)
    return {
        "pairs": batch.expectation(F.softplus(scores[n:] - scores[:n])),
        "r1": batch.mean(steepness[:n]),
        "r2": batch.expectation(steepness[n:]),
    }


def generator_losses(critic: Critic, fake: Tensor, batch: Batch) -> Tensor:
    """softplus(D(real) - D(fake)) of the pairs: scores of the fakes (n,) to (n,)."""
    with torch.no_grad():
        real = critic(batch.real)
    return F.softplus(real - fake)
