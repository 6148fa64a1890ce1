"""What a mixture of generators adds to a GAN: mutual information, and two terms of the prior (Khayatkhoei 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def information(logits: Tensor, c: Tensor) -> Tensor:
    """L_c = -E ln q(c|x): the encoder's logits (n, K) against the generators (n,) that made the samples.

    Up to the constant entropy of r, minus a lower bound of the mutual information I(c; x).
    """
    return F.cross_entropy(logits, c)


def cross_entropy(posterior: Tensor, log_prior: Tensor) -> Tensor:
    """E_real H(q(c|x), r) in nats: posteriors q (n, K), which carry no gradient, and ln r (K,).

    Its minimiser is r = E_real q(c|x): one EM step for the weights of a mixture.
    """
    return -(posterior.mean(dim=0) * log_prior).sum()


def entropy(log_probabilities: Tensor) -> Tensor:
    """H(r) in nats of ln r (K,)."""
    return -(log_probabilities.exp() * log_probabilities).sum()
