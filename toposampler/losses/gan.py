"""The terms of a critic whose score is the logit of "real", and of a critic with hinges, without gradient penalty.

Pure functions of scores: `real` (n,) of the batch's real samples and `fake` (n,) of its generated ones. Where the data
and the samples have densities p and q, the best critic's score is ln p - ln q.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.batch import Batch, Terms


def critic_terms(real: Tensor, fake: Tensor, batch: Batch) -> Terms:
    """-E_real ln s(D) - E_fake ln(1 - s(D)), s the logistic function (Goodfellow et al. 2014, arXiv 1406.2661)."""
    return {"real": batch.mean(F.softplus(-real)), "fake": batch.expectation(F.softplus(fake))}


def generator_term(fake: Tensor, batch: Batch) -> Tensor:
    """-E_fake ln s(D), the non-saturating form: its gradient is greatest where the critic is sure of a fake."""
    return batch.expectation(F.softplus(-fake))


def saturating_generator_term(fake: Tensor, batch: Batch) -> Tensor:
    """E_fake ln(1 - s(D)), the minimax form: its gradient vanishes where the critic is sure of a fake."""
    return -batch.expectation(F.softplus(fake))


def hinge_critic_terms(real: Tensor, fake: Tensor, batch: Batch) -> Terms:
    """E_real max(0, 1 - D) + E_fake max(0, 1 + D) (Lim and Ye 2017, arXiv 1705.02894; its generator: -E_fake D)."""
    return {"real": batch.mean(F.relu(1 - real)), "fake": batch.expectation(F.relu(1 + fake))}
