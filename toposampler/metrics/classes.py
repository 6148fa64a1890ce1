"""Samples by what a classifier makes of them: masses of the classes, quality, and the modes of stacked MNIST."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from toposampler.metrics.divergence import jsd, total_variation

CONFIDENCE = 0.8
"""least probability with which a sample counts for a class (Khayatkhoei et al. 2018)"""


def confident_classes(probabilities: Tensor, confidence: float = CONFIDENCE) -> Tensor:
    """Most probable class of each sample, (n,) int64, -1 where its probability is below `confidence`.

    probabilities (n, M) as of a Classifier.
    """
    best = probabilities.max(dim=1)
    return best.indices.masked_fill(best.values < confidence, -1)


def inter_mode_jsd(probabilities: Tensor, real_masses: Tensor) -> dict[str, float]:
    """Inter-mode metric of DMGAN (arXiv 1806.00880, section 4): are the classes as frequent as in the data?

    `jsd_nats_conf0.8`: Jensen-Shannon divergence, from 0 to ln 2, of the masses of classes among the samples the
    classifier is sure of, max softmax >= .8, and the data's, real_masses (M,); ln 2 if it is sure of none.
    `confident_0.8`: the share of samples it is sure of, to be read with it: where it differs by class, masses that are
    right count as wrong. `jsd_nats_argmax` and `mass_tv_argmax`: the divergence, and the total variation, by the most
    probable classes of all samples, our own.
    probabilities (n, M) are the samples'.
    """
    classes = confident_classes(probabilities)
    sure = classes[classes >= 0]

    by_argmax = probabilities.argmax(dim=1)

    def masses(of: Tensor) -> Tensor:
        return torch.bincount(of, minlength=probabilities.shape[1]).double() / len(of)

    def divergence(of: Tensor) -> float:
        return jsd(masses(of), real_masses.double())

    return {
        f"jsd_nats_conf{CONFIDENCE}": divergence(sure) if len(sure) else math.log(2),
        f"confident_{CONFIDENCE}": len(sure) / len(classes),
        "jsd_nats_argmax": divergence(by_argmax),
        "mass_tv_argmax": total_variation(masses(by_argmax), real_masses.double()),
    }


def quality_curve(probabilities: Tensor, thresholds: Sequence[float]) -> list[float]:
    """Sample quality of DMGAN: for each threshold t the share of samples with max softmax >= t.

    probabilities (n, M). To be read beside the curve of real images, as a classifier is unsure of some of those too.
    """
    surest = probabilities.max(dim=1).values
    return [float((surest >= t).double().mean()) for t in thresholds]


def stacked_modes(digits: Tensor, real_digits: Tensor, n_classes: int = 10) -> dict[str, float]:
    """Stacked MNIST (Metz et al. 2017, arXiv 1611.02163): three digits as the channels of one image, 1,000 modes.

    digits (n, 3) and real_digits (N, 3), int64 in [0, n_classes): the class of each channel of samples and data.
    `modes_of_1000`: triples that occur among the samples. `mode_kl_nats`: KL(samples || data) = sum p ln(p / q) over
    triples, from 0; q counts one more of each triple than occurs, so that a triple the data lacks costs much, not
    infinitely much. Both depend on n: state it (VEEGAN and PacGAN: 26,000).
    """
    n_modes = n_classes**3
    places = torch.tensor([n_classes**2, n_classes, 1], device=digits.device)
    counts, real_counts = (torch.bincount((d * places).sum(dim=1), minlength=n_modes) for d in (digits, real_digits))
    p = counts.double() / counts.sum()
    q = (real_counts + 1).double() / (real_counts + 1).sum()
    divergence = (p.xlogy(p) - p.xlogy(q)).sum().clamp(min=0)  # rounding can leave -1e-17
    return {f"modes_of_{n_modes}": float((counts > 0).sum()), "mode_kl_nats": float(divergence)}
