"""Images through the classifier of their labels: masses, quality and variety of classes, distances of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.metrics.classes import inter_mode_jsd, quality_curve, stacked_modes
from toposampler.metrics.classifier import Classifier, classifier_of
from toposampler.metrics.evaluate import NAMED_COMPONENTS
from toposampler.metrics.features import feature_metrics
from toposampler.metrics.geodesic import ClassVariety, intra_mode_msd
from toposampler.metrics.masses import generator_components

THRESHOLDS = tuple(t / 100 for t in range(101))
"""of the quality curve"""
QUALITY = 0.9
"""threshold at which the quality is a metric"""
STACKED = "stacked_mnist"
"""name of the data whose images are three digits, one a channel, and whose labels are the number they make"""


@dataclass(frozen=True)
class Maker:
    """What the classifier makes of one generator's samples."""

    generator: int
    share: float
    """of all samples"""
    majority: int
    """the most probable class of most of its samples"""
    purity: float
    """the share of them of which it is"""


@dataclass(frozen=True)
class ByClass:
    """What the classifier saw, beside the metrics."""

    quality: list[float]
    """share of samples with max softmax >= t, over `THRESHOLDS`"""
    msd_ratio: list[float | None]
    """mean squared geodesic distance within each class over that of as many real images; None: too few real ones"""
    makers: list[Maker]
    """generators that made samples, the one with most first"""


@dataclass(frozen=True)
class Look:
    """Images through the classifier."""

    features: Tensor
    """(n, d)"""
    probabilities: Tensor
    """(n, M)"""


class ImageMetrics:
    """Looks at images through a classifier of their labels."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._look_at_real = lru_cache(maxsize=1)(self._look)  # all subjects of a draw meet the same real images

    def _look(self, images: Tensor) -> Look:
        """At images (n, C, H, W)."""
        return Look(self.classifier.features(images), self.classifier.probabilities(images))

    def measure(self, samples: Tensor, ids: Tensor | None, real: Dataset) -> tuple[dict[str, float], ByClass]:
        """Metrics of images (n, C, H, W), made by the generators ids (n,), against the n images of `real`."""
        assert real.weights is not None
        seen, seen_real = self._look(samples), self._look_at_real(real.x)
        probabilities = seen.probabilities
        varieties = intra_mode_msd(samples, probabilities, real.x, seen_real.probabilities)
        quality = quality_curve(probabilities, THRESHOLDS)
        metrics = inter_mode_jsd(probabilities, real.weights)
        metrics[f"quality_{QUALITY}"] = quality[THRESHOLDS.index(QUALITY)]
        metrics |= feature_metrics("classifier", seen.features, seen_real.features)
        metrics |= _of_varieties(varieties)
        makers = [] if ids is None else _makers(ids, probabilities.argmax(dim=1), probabilities.shape[1])
        if ids is not None:
            metrics["purity"] = sum(maker.share * maker.purity for maker in makers)
        return metrics, ByClass(quality, [variety.ratio for variety in varieties], makers)


class StackedMetrics:
    """Looks at three stacked digits through a classifier of one, channel by channel."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def measure(self, samples: Tensor, ids: Tensor | None, real: Dataset) -> tuple[dict[str, float], None]:
        """Metrics of images (n, 3, H, W) against the n images of `real`; features are those of all channels."""
        assert real.labels is not None
        digits = torch.stack([self.classifier.probabilities(x).argmax(dim=1) for x in _channels(samples)], dim=1)
        features, of_real = (
            torch.cat([self.classifier.features(x) for x in _channels(images)], dim=1) for images in (samples, real.x)
        )
        return stacked_modes(digits, _digits(real.labels)) | feature_metrics("classifier", features, of_real), None


def image_metrics(
    dataset: Dataset, name: str, cache: Path, minimum_accuracy: float
) -> ImageMetrics | StackedMetrics | None:
    """What looks at images of `dataset`, by the `name` of the data; None for points and for images without labels.

    Its classifier is read from the folder `cache`, or trained and kept there. Raises UserError as `classifier_of`.
    """
    if len(dataset.shape) != 3 or dataset.labels is None:
        return None
    if name == STACKED:
        single = Dataset(_channels(dataset.x)[0], _digits(dataset.labels)[:, 0])
        return StackedMetrics(classifier_of(single, cache, minimum_accuracy))
    return ImageMetrics(classifier_of(dataset, cache, minimum_accuracy))


def _of_varieties(varieties: Sequence[ClassVariety]) -> dict[str, float]:
    """Metrics of the variety within classes: the extremes, and each class if they are not too many."""
    ratios = {k: ratio for k, variety in enumerate(varieties) if (ratio := variety.ratio) is not None}
    metrics = {"msd_unreachable_max": max(variety.samples.unreachable for variety in varieties)}
    if ratios:
        metrics |= {"msd_ratio_min": min(ratios.values()), "msd_ratio_max": max(ratios.values())}
    if len(varieties) > NAMED_COMPONENTS:
        return metrics
    for k, variety in enumerate(varieties):
        metrics[f"msd_class_{k}"] = variety.samples.msd
        metrics[f"msd_images_class_{k}"] = variety.samples.n
        metrics[f"msd_unreachable_class_{k}"] = variety.samples.unreachable
    return metrics | {f"msd_ratio_class_{k}": ratio for k, ratio in ratios.items()}


def _makers(ids: Tensor, classes: Tensor, n_classes: int) -> list[Maker]:
    """What each generator makes, from the makers ids (n,) and the most probable classes (n,) of samples."""
    majority = generator_components(ids, classes, int(ids.max()) + 1, n_classes)
    makers = []
    for k in ids.unique().tolist():
        of_k = classes[ids == k]
        purity = float((of_k == majority[k]).double().mean())
        makers.append(Maker(k, len(of_k) / len(ids), int(majority[k]), purity))
    return sorted(makers, key=lambda maker: -maker.share)


def _channels(images: Tensor) -> list[Tensor]:
    """The channels of images (n, C, H, W), each as images (n, 1, H, W)."""
    return [x.contiguous() for x in images.split(1, dim=1)]


def _digits(labels: Tensor) -> Tensor:
    """The three digits (n, 3) of labels (n,) in [0, 1000)."""
    return torch.stack([labels // 100, labels // 10 % 10, labels % 10], dim=1)
