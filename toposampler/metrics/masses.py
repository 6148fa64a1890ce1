"""How much mass arrives at each component of the data, in samples and in a learned prior over generators."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.metrics.divergence import total_variation

ACTIVE = 0.01
"""share of the prior above which one of at most 50 generators counts as active: see `least_active`"""


def component_masses(components: Tensor, n_components: int) -> Tensor:
    """Share of samples in each component: (M,) float64; components (n,) int64 in [0, M)."""
    return torch.bincount(components, minlength=n_components).double() / len(components)


def generator_components(generator_ids: Tensor, components: Tensor, n_generators: int, n_components: int) -> Tensor:
    """The component most of each generator's samples lie in: (K,) int64, -1 for a generator without samples.

    generator_ids (n,) int64 in [0, K) and components (n,) int64 in [0, M): who made a sample, where it lies.
    """
    pairs = generator_ids * n_components + components
    counts = torch.bincount(pairs, minlength=n_generators * n_components).view(n_generators, n_components)
    return counts.argmax(dim=1).masked_fill(counts.sum(dim=1) == 0, -1)


def component_prior(prior: Tensor, assignment: Tensor, n_components: int) -> Tensor:
    """Prior mass that arrives at each component: (M,) float64.

    prior (K,) sums to 1; assignment (K,) as from `generator_components`. A generator without samples
    keeps its mass, so the result can sum to less than 1.
    """
    assigned = assignment >= 0
    masses = torch.zeros(n_components, dtype=torch.float64, device=prior.device)
    return masses.index_add(0, assignment[assigned], prior[assigned].double())


def prior_total_variation(masses: Tensor, weights: Tensor) -> float:
    """Total variation of the prior's masses (M,), as from `component_prior`, to the true weights (M,): from 0 to 1.

    (sum |masses - weights| + |1 - sum masses|) / 2: mass of generators without samples counts as mass of a component
    that the data has not.
    """
    nowhere = (1 - masses.sum()).clamp(min=0)  # of a sum that rounding brings above 1
    return total_variation(torch.cat([masses, nowhere[None]]), torch.cat([weights, weights.new_zeros(1)]))


def least_active(n_generators: int) -> float:
    """The share of the prior that one of K generators is active above: min(.01, 1 / (2 K)).

    Up to 50 generators this is .01. Of more, 1 / K each is .02 or less, and half of that counts: 100 equal ones are all
    active.
    """
    return min(ACTIVE, 1 / (2 * n_generators))


def active(prior: Tensor, threshold: float | None = None) -> Tensor:
    """Which generators are active, those that hold more than `threshold` of the prior (K,): (K,) bool.

    The threshold is `least_active`'s unless another is given.
    """
    return prior > (least_active(len(prior)) if threshold is None else threshold)


def active_generators(prior: Tensor, threshold: float | None = None) -> int:
    """How many generators are `active` by the prior (K,)."""
    return int(active(prior, threshold).sum())
