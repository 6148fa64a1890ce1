"""One number for how well samples match the data, for sweeps: three ways to fail, none of which hides another."""

from __future__ import annotations

from collections.abc import Mapping

SCORED = (
    ("off_manifold_0.05", "off_support_nn99"),
    ("coverage_0.05_min", "coverage_k5_min", "coverage_k5"),
    ("mass_tv", "mass_tv_nn1"),
)
"""the metrics of the score, by what they measure: of each line the first that the data can tell"""
LEAST_REAL = 20
"""real points below which samples that are evaluated by their neighbors have no score: distances between so few points
are as long as the support is wide, so that whatever lies among them counts as on it"""


def score(metrics: Mapping[str, float]) -> float:
    """Share of samples off the data's support + uncovered share of its least covered component + error of the masses.

    0 is perfect, 3 the worst. The error of the masses is their total variation to the true weights. Dropping a
    component of mass m costs 1 + m, which is more than samples off the support can cost altogether: it never pays.
    Where the data has no labels, nothing tells components and masses: the second term is the uncovered share of all
    data, and the third is absent.
    """
    off, covered, masses = ([metrics[name] for name in names if name in metrics] for names in SCORED)
    return off[0] + (1 - covered[0]) + (masses[0] if masses else 0.0)
