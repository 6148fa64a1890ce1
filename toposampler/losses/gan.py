"""Games whose critic's score is the logit of "real", and the hinge loss: no gradient penalty.

Scores are `real` (n,) of real samples and `fake` (m,) of generated ones. Where data and samples have densities p and q,
the optimal critic's score is ln p - ln q.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.reduction import Terms, expectation


def critic_terms(
    real: Tensor,
    fake: Tensor,
    real_weights: Tensor | None = None,
    fake_weights: Tensor | None = None,
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> Terms:
    """-E_real ln s(D) - E_fake ln(1 - s(D)), s the logistic function (Goodfellow et al. 2014, arXiv 1406.2661).

    With `real_labels` (n,) or `fake_labels` (m,) in [0, 1] in place of 1 and 0: `cross_entropies` of each.
    """
    of_real = F.softplus(-real) if real_labels is None else cross_entropies(real, real_labels)
    of_fake = F.softplus(fake) if fake_labels is None else cross_entropies(fake, fake_labels)
    return {"real": expectation(of_real, real_weights), "fake": expectation(of_fake, fake_weights)}


def cross_entropies(scores: Tensor, labels: Tensor) -> Tensor:
    """-t ln s(D) - (1 - t) ln(1 - s(D)) of scores (n,) and labels t (n,) in [0, 1], as (n,)."""
    return labels * F.softplus(-scores) + (1 - labels) * F.softplus(scores)


def generator_loss(fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """-E_fake ln s(D), the non-saturating form: its gradient is greatest where the critic rejects a sample."""
    return expectation(F.softplus(-fake), weights)


def saturating_generator_loss(fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """E_fake ln(1 - s(D)), the minimax form: its gradient vanishes where the critic rejects a sample."""
    return -expectation(F.softplus(fake), weights)


def hinge_critic_terms(
    real: Tensor, fake: Tensor, real_weights: Tensor | None = None, fake_weights: Tensor | None = None
) -> Terms:
    """E_real max(0, 1 - D) + E_fake max(0, 1 + D) (Lim and Ye 2017, arXiv 1705.02894; its generator: -E_fake D)."""
    return {"real": expectation(F.relu(1 - real), real_weights), "fake": expectation(F.relu(1 + fake), fake_weights)}
