"""Every metric that the data allows, on one draw of samples against one draw of real points."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.evaluation.images import ByClass, ImageMetrics, StackedMetrics
from toposampler.metrics import evaluate
from toposampler.metrics.distance import median_distance, mmd2_unbiased_gaussian, wasserstein_2
from toposampler.metrics.features import FeatureNetwork, feature_metrics
from toposampler.metrics.memorization import memorization
from toposampler.metrics.neighbors import nearest_neighbors
from toposampler.metrics.prdc import precision_recall_density_coverage

N_ASSIGNED = 2000
"""points of each cloud, or fewer, for the exact Wasserstein distance and MMD, whose costs grow as n^3 and n^2"""
N_COPIES = 1000
"""samples, or fewer, whose nearest training point is looked for among all"""


@dataclass(frozen=True)
class Findings:
    """What one draw of samples showed."""

    metrics: dict[str, float]
    nearest: tuple[Tensor, Tensor]
    """distances (N_COPIES,) to the nearest training point: of samples, and of real points to the nearest other one"""
    by_class: ByClass | None = None
    """None without a classifier of the images, or with one of stacked digits"""


class Suite:
    """The metrics of samples of one data set.

    Args:
        dataset: the real data, all of it trained on.
        images: looks through the classifier of the images; None: points, or images without labels.
        networks: whose features images are also seen through.
    """

    def __init__(
        self,
        dataset: Dataset,
        images: ImageMetrics | StackedMetrics | None,
        networks: Sequence[FeatureNetwork] = (),
    ) -> None:
        self._train, self._images, self._networks = _distinct(dataset.x.flatten(1)), images, networks
        self._of_real = {own.name: lru_cache(maxsize=1)(own.features) for own in networks}  # for all subjects of a draw

    def of_samples(self, samples: Tensor, ids: Tensor, prior: Tensor | None, real: Dataset, seed: int) -> Findings:
        """Samples (n, *shape), in the user's units and any order, and the generators (n,) that made them, against the n
        points of `real`."""
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))  # some look at the first
        return self._find(samples[order], ids[order], prior, real, seed)

    def of_data(self, others: Dataset, real: Dataset, seed: int) -> Findings:
        """The n points of `others`, which are none of `real`, as if they were samples of a model."""
        return self._find(others.to_units(others.x), None, None, real, seed)

    def _find(self, samples: Tensor, ids: Tensor | None, prior: Tensor | None, real: Dataset, seed: int) -> Findings:
        """`ids` None: the samples are training points themselves."""
        metrics = evaluate(real, samples, ids, prior, seed, max_real=len(samples))
        samples = real.from_units(samples)
        x, y = samples.flatten(1), real.x.flatten(1)
        m = min(len(x), N_ASSIGNED)
        metrics[f"wasserstein_2_{m}"] = wasserstein_2(real.without_mean(x[:m]), real.without_mean(y[:m]))
        if (bandwidth := median_distance(y[:m])) > 0:
            metrics[f"mmd2_{m}"] = mmd2_unbiased_gaussian(x[:m], y[:m], bandwidth)
        nearest = self._to_training(x, among=ids is None), self._to_training(y, among=True)
        metrics |= memorization(*nearest)
        for network in self._networks:
            metrics |= feature_metrics(network.name, network.features(samples), self._of_real[network.name](real.x))
        if self._images is None:
            return Findings(metrics | precision_recall_density_coverage(x, y), nearest)
        seen, by_class = self._images.measure(samples, ids, real)
        return Findings(metrics | seen, nearest, by_class)

    def _to_training(self, x: Tensor, among: bool) -> Tensor:
        """Distance from each of the first of x (n, d) to the nearest training point; `among` them, to another one."""
        distance, _ = nearest_neighbors(x[:N_COPIES], self._train, k=1 + among)
        return distance[:, -1].contiguous()


def _distinct(x: Tensor) -> Tensor:
    """The different points of x (n, d), each once: a point that occurs twice would be a copy of itself."""
    places = {hashlib.blake2b(point).digest(): i for i, point in enumerate(x.contiguous().numpy())}
    return x if len(places) == len(x) else x[list(places.values())]
