"""How much of a sweep's objective each key explains on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEAST = 5
"""trials with a value of the key, at least: with fewer any key explains much"""


def importance(values: Sequence[Mapping[str, Any]], objective: Sequence[float]) -> dict[str, tuple[float, int]]:
    """The share of the variance of the objective's ranks that each key explains, from 0 to 1, and the number of trials
    that have the key; the largest share first.

    Of a number it is the squared rank correlation (Spearman); of a name the squared correlation ratio, the variance
    between the names' means over the whole. Keys act together, so shares do not add up to 1. Keys of one value, or of
    fewer than `LEAST` trials, are left out.

    Args:
        values: of each trial, by key.
        objective: of each trial, finite.
    """
    from scipy.stats import rankdata  # seconds to import, and needed for sweeps only

    found = {}
    for key in dict.fromkeys(key for trial in values for key in trial):
        having = [
            (trial[key], goal) for trial, goal in zip(values, objective, strict=True) if trial.get(key) is not None
        ]
        given = [value for value, _ in having]
        goals = rankdata([goal for _, goal in having]) if having else np.zeros(0)
        if len(having) >= LEAST and len(set(map(str, given))) > 1 and goals.std() > 0:
            numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given)
            found[key] = (_of_numbers(given, goals) if numbers else _of_names(given, goals), len(having))
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def _of_numbers(given: Sequence[float], goals: np.ndarray) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(given), goals)[0, 1] ** 2)


def _of_names(given: Sequence[Any], goals: np.ndarray) -> float:
    names = np.array([str(value) for value in given])
    between = sum((names == name).sum() * (goals[names == name].mean() - goals.mean()) ** 2 for name in set(names))
    return float(between / ((goals - goals.mean()) ** 2).sum())
