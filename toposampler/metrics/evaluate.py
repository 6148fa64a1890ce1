"""The package's metrics in one dictionary."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import torch
from torch import Tensor

from toposampler.data.base import Dataset, Manifold
from toposampler.data.geometry import Discs
from toposampler.extras import installed
from toposampler.metrics.distance import energy_distance, sliced_wasserstein
from toposampler.metrics.divergence import jsd, total_variation
from toposampler.metrics.manifold import coverage, modes_covered, off_manifold
from toposampler.metrics.masses import (
    active_generators,
    component_masses,
    component_prior,
    generator_components,
    prior_total_variation,
)
from toposampler.metrics.neighbors import covered_k5, nearest_neighbors, off_support_nn99
from toposampler.metrics.registered import registered_metrics
from toposampler.metrics.score import LEAST_REAL, score
from toposampler.metrics.topology import diagram0_w1, mtop_div

N_PROJECTIONS = 128
"""random directions of the sliced Wasserstein distance"""
N_TOPOLOGY = 1000
"""points of each cloud that the topological metrics look at, or fewer if there are not so many"""
NAMED_COMPONENTS = 100
"""components up to which each has metrics of its own; of more, such as a thousand triples of digits, none has"""
MTOP_BATCH = 100
"""points of one cloud in a batch of MTop-Divergence, against N_TOPOLOGY of the other (the authors' example)"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What samples showed against the data."""

    metrics: dict[str, float]
    """by name"""
    real_cloud: Tensor
    """(n, d) the real points that the metrics of shape looked at, such as `components_found_real`, standardized where
    the data were"""
    cloud: Tensor
    """(n, d) the samples that they looked at"""


def evaluate(
    dataset: Dataset,
    samples: Tensor,
    generator_ids: Tensor | None,
    prior: Tensor | None,
    seed: int,
    max_real: int = 10_000,
) -> dict[str, float]:
    """The metrics that `evaluation` finds, by name; its arguments and errors."""
    return evaluation(dataset, samples, generator_ids, prior, seed, max_real).metrics


def evaluation(
    dataset: Dataset,
    samples: Tensor,
    generator_ids: Tensor | None,
    prior: Tensor | None,
    seed: int,
    max_real: int = 10_000,
) -> Evaluation:
    """How well `samples` (n, *shape), in the user's units, match `dataset`: each metric by its name, the protocol.

    Distances are in the user's units. What has no unit (neighbors, components, coverage) is measured, where the data
    were standardized, on standardized points, in which every column counts as much.
    generator_ids (n,) and prior (K,) are evaluated where the system has them. Samples are compared with at most
    `max_real` real points, chosen by `seed`. What the data cannot tell is absent from the result.
    Raises ValueError if a sample is not finite.
    """
    x = dataset.from_units(samples).flatten(1)
    bad = ~torch.isfinite(x).all(dim=1)
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(x)} samples are not finite")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset.x), generator=generator)[:max_real].to(x.device)
    real = dataset.x[chosen].flatten(1)
    x_units, real_units = dataset.without_mean(x), dataset.without_mean(real)
    as_many = real_units[: len(x)]
    scores = {
        "energy_distance_root": math.sqrt(energy_distance(x_units, as_many)),
        "sliced_wasserstein_2": sliced_wasserstein(x_units, as_many, N_PROJECTIONS, generator),
    }
    some = torch.randperm(len(x), generator=generator).to(x.device)  # samples may be in the order of their makers
    n = min(N_TOPOLOGY, len(x), len(real))  # bars are more and shorter the more the points: as many of both
    some = some[:n]
    clouds = real[:n], x[some]
    if can_count(dataset):
        scores |= _components(*clouds)
    scores |= _by_topology(x_units[some], real_units[:n])

    weights = dataset.weights
    components: Tensor | None
    if dataset.manifold is not None and weights is not None:
        found, components = _by_geometry(samples.to(x.device).float().flatten(1), dataset.manifold, weights)
        attribution = ""
    else:
        labels = None if dataset.labels is None else dataset.labels[chosen]
        found, components = _by_neighbors(x, real, labels)
        attribution = "_nn1"  # a sample belongs where its nearest real point does
    scores |= found

    if components is not None and weights is not None:
        masses = component_masses(components, len(weights))
        scores[f"jsd_nats{attribution}"] = jsd(masses, weights)
        scores[f"mass_tv{attribution}"] = total_variation(masses, weights)
        if len(masses) <= NAMED_COMPONENTS:
            scores |= {f"mode_mass{attribution}_{k}": mass for k, mass in enumerate(masses.tolist())}
        if prior is not None and generator_ids is not None:
            makers = generator_components(generator_ids.to(x.device), components, len(prior), len(weights))
            learned = component_prior(prior.to(x.device), makers, len(weights))
            scores["prior_tv"] = prior_total_variation(learned, weights)
            scores["prior_error_max"] = float((learned - weights).abs().max())
    if prior is not None:
        scores["active_generators"] = float(active_generators(prior))
    told_apart = not attribution or len(real) >= LEAST_REAL
    scores |= {"score": score(scores)} if told_apart else {}
    labels = None if dataset.labels is None else dataset.labels[chosen]
    shaped = real.unflatten(1, dataset.shape), x.unflatten(1, dataset.shape)
    scores |= registered_metrics(*shaped, scores, seed, labels=labels, generators=generator_ids, prior=prior)
    return Evaluation(scores, *clouds)


def can_count(dataset: Dataset) -> bool:
    """Whether a barcode tells how many components `dataset` has: of points. Pixels of images of one kind differ as much
    as those of two, and so few images in so many dimensions show no gap, or many that mean nothing."""
    return len(dataset.shape) == 1


def _components(real: Tensor, x: Tensor) -> dict[str, float]:
    """How many components real points (n, d) and samples (n, d) have."""
    from toposampler.topology import estimate_components  # here, as numba takes half a second

    return {
        "components_found": float(estimate_components(x).count),
        "components_found_real": float(estimate_components(real).count),
    }


def _by_topology(x: Tensor, real: Tensor) -> dict[str, float]:
    """Metrics of the shape of x (n, d) against that of real points (n, d), in random order and the user's units."""
    n = len(x)
    scores = {f"diagram0_w1_{n}": diagram0_w1(x, real)}
    if _has_gudhi():
        scores[f"mtop_div_{min(MTOP_BATCH, n)}_{n}"] = mtop_div(x, real, MTOP_BATCH, repeats=2)
    return scores


@cache  # so that it is said once
def _has_gudhi() -> bool:
    """Whether MTop-Divergence can be measured; it is said if it cannot."""
    if not installed("gudhi"):
        log.warning("mtop_div is left out: it needs gudhi, which is not installed: pip install 'toposampler[topology]'")
        return False
    return True


def _by_geometry(x: Tensor, manifold: Manifold, weights: Tensor) -> tuple[dict[str, float], Tensor]:
    """Metrics of x (n, d) against an exact support, and the component nearest to each sample: (n,)."""
    distance = manifold.distance(x)
    distance[:, weights == 0] = torch.inf  # a component without mass is no part of the support
    scores = {f"off_manifold_{tau}": off_manifold(distance, tau) for tau in (0.05, 0.1)}
    reached = coverage(distance, manifold.bins(x), 0.05, manifold.n_bins)
    scores |= _per_component("coverage_0.05", reached, weights > 0)
    if isinstance(manifold, Discs):  # VEEGAN's protocol
        scores["high_quality_3sd"] = 1 - off_manifold(distance, 0.0)
        scores["modes_covered_3sd"] = float(modes_covered(distance, 0.0))
    return scores, distance.argmin(dim=1)


def _by_neighbors(x: Tensor, real: Tensor, labels: Tensor | None) -> tuple[dict[str, float], Tensor | None]:
    """Metrics of x (n, d) against real points (N, d), and the label of each sample's nearest one: (n,)."""
    to_real, nearest = nearest_neighbors(x, real, k=1)
    to_sample, _ = nearest_neighbors(real, x, k=1)
    among_real, _ = nearest_neighbors(real, real, k=6)  # itself and five others
    covered = covered_k5(to_sample[:, 0], among_real[:, -1])
    scores = {
        "off_support_nn99": off_support_nn99(to_real[:, 0], among_real[:, 1]),
        "coverage_k5": float(covered.double().mean()),
    }
    if labels is None:
        return scores, None
    counts = torch.bincount(labels)
    reached = torch.bincount(labels[covered], minlength=len(counts)).double() / counts
    return scores | _per_component("coverage_k5", reached, counts > 0), labels[nearest[:, 0]]


def _per_component(name: str, values: Tensor, present: Tensor) -> dict[str, float]:
    """Least and mean of the `values` (M,) of the components that are `present` (M,), and each of them if M is small."""
    each = {f"{name}_component_{k}": float(values[k]) for k in present.nonzero()[:, 0].tolist()}
    summary = {f"{name}_min": min(each.values()), f"{name}_mean": fmean(each.values())}
    return summary | (each if len(values) <= NAMED_COMPONENTS else {})
