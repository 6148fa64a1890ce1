"""Whether samples are copies of what was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

QUANTILE = 0.05
MEMORIZED = f"memorized_q{QUANTILE}"


def memorization(samples_to_train: Tensor, test_to_train: Tensor) -> dict[str, float]:
    """Samples against held-out points, by the distance from each to its nearest training point, (n,) and (m,).

    `memorized_q0.05`: share of samples closer to a training point than the closest 5 % of the test points are; .05 for
    fresh draws of the data, 1 for copies. `closer_than_test`: probability that a sample is closer than a test point,
    ties counting half, .5 for fresh draws (the statistic of Meehan et al. 2020, arXiv 2004.05675, over the whole
    space). Distances as of `nearest_neighbors(x, train, k=1)`. Samples that keep to the densest part of the data are
    closer too: read it with recall or coverage. The test points must not have been trained on; where all points were, a
    training point's distance to the nearest other one is distributed as theirs, but for one training point less.
    """
    ordered = test_to_train.sort().values
    below = torch.searchsorted(ordered, samples_to_train, right=False)
    not_above = torch.searchsorted(ordered, samples_to_train, right=True)
    farther = len(ordered) - (below + not_above).double() / 2
    return {
        MEMORIZED: float((samples_to_train < ordered.quantile(QUANTILE)).double().mean()),
        "closer_than_test": float(farther.mean() / len(ordered)),
    }
