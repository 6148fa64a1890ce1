"""What a mixture of generators adds to a GAN: mutual information, and terms of the prior (Khayatkhoei 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.batch import Batch


def information(logits: Tensor, batch: Batch) -> Tensor:
    """L_c = -E ln q(c|x): the encoder's logits (n, K) against the generators `c` (n,) that made the batch's samples.

    Up to the constant entropy of r, minus a lower bound of the mutual information I(c; x).
    """
    return batch.expectation(
        F.cross_entropy(logits, batch.noise["c"].to(logits.device, non_blocking=True), reduction="none")
    )


def expectation(values: Tensor, log_prior: Tensor, batch: Batch) -> Tensor:
    """E values over c ~ r(c), with gradient by ln r (K,) too; values (n,) are of samples whose `c` is uniform."""
    r = log_prior.exp()[batch.noise["c"].to(values.device, non_blocking=True)]
    return batch.mean(len(log_prior) * r * values)


def cross_entropy(posterior: Tensor, log_prior: Tensor, batch: Batch) -> Tensor:
    """E_real H(q(c|x), r) in nats: posteriors q (n, K) of the batch's real samples, without gradient, and ln r (K,).

    Its minimiser is r = E_real q(c|x): one EM step for the weights of a mixture.
    """
    return -(batch.mean(posterior) * log_prior).sum()


def entropy(log_probabilities: Tensor) -> Tensor:
    """H(r) in nats of ln r (K,)."""
    return -(log_probabilities.exp() * log_probabilities).sum()
