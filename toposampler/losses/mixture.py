"""What a mixture of generators adds to a GAN: mutual information, and terms of the prior (Khayatkhoei et al. 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.reduction import expectation


def information(logits: Tensor, c: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_c = -E ln q(c|x): the encoder's logits (n, K) against the generators c (n,) that made the samples.

    Up to the constant entropy of r, minus a lower bound of the mutual information I(c; x).
    """
    losses = F.cross_entropy(logits, c.to(logits.device, non_blocking=True), reduction="none")
    return expectation(losses, weights)


def prior_expectation(
    values: Tensor,
    c: Tensor,
    log_prior: Tensor,
    weights: Tensor | None = None,
    n_generators: float | Tensor | None = None,
) -> Tensor:
    """E values over c ~ r(c), with gradient by ln r (K,) too; values (n,) are of samples whose c (n,) is uniform on
    `n_generators` ids: by default on all K."""
    r = log_prior.exp()[c.to(values.device, non_blocking=True)]
    return expectation((len(log_prior) if n_generators is None else n_generators) * r * values, weights)


def cross_entropy(posterior: Tensor, log_prior: Tensor, weights: Tensor | None = None) -> Tensor:
    """E_real H(q(c|x), r) in nats: posteriors q (n, K) of real samples, without gradient, and ln r (K,).

    Its minimizer is r = E_real q(c|x): one EM step for the weights of a mixture.
    """
    return -(expectation(posterior, weights) * log_prior).sum()


def entropy(log_probabilities: Tensor) -> Tensor:
    """H(r) in nats of ln r (K,)."""
    return -(log_probabilities.exp() * log_probabilities).sum()
