"""How sure a metric is: 95 % intervals of those that are shares of samples."""

from __future__ import annotations

import math
import re

from toposampler.metrics.catalog import is_detail

Z = 1.959964
"""of a normal distribution, two-sided 95 %"""
SHARES = re.compile(r"off_manifold_[\d.]+|off_support_nn99|high_quality_3sd")


def interval(name: str, value: float, n: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval (1927) of the metric `name` if it is a share of `n` independent samples; None: it is not.

    Metrics of neighbors among samples, of distances and of shapes are no means over samples: `toposampler evaluate`
    draws several times to tell how they vary.
    """
    if not SHARES.fullmatch(name) or n < 1 or not 0 <= value <= 1:
        return None
    center, width = value + Z * Z / (2 * n), Z * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (center - width) / scale), min(1.0, (center + width) / scale)


HEADLINE = (
    ("score",),
    ("off_manifold_0.05", "off_support_nn99"),
    ("coverage_0.05_min", "coverage_k5_min", "coverage_k5"),
    ("mass_tv", "mass_tv_nn1"),
    ("components_found",),
    ("energy_distance_root",),
)
"""the metrics that a run ends with: of each row the first that it has"""
SPARE = ("sliced_wasserstein_2", "jsd_nats", "jsd_nats_nn1", "prior_tv", "coverage_k5")
"""what takes the places of those that it has not, before any other"""


def headline(metrics: dict[str, float]) -> list[str]:
    """The names of the six metrics of `HEADLINE` that there are; others take the places of those that there are not."""
    chosen = [next((name for name in row if name in metrics), None) for row in HEADLINE]
    named = [name for name in chosen if name is not None]
    spare = [name for name in SPARE if name in metrics]
    spare += [name for name in metrics if name not in (*spare, "active_generators") and not is_detail(name)]
    return (named + [name for name in spare if name not in named])[: len(HEADLINE)]
