"""Racing: settings are compared by their scores over the same seeds, and what is left is said with its uncertainty.

Functions of arrays: `scores` (S, R) holds the score of each of S settings with each of R seeds, less is better. Two
settings are compared seed by seed: what a seed does to both alike does not count, and the mean of the R differences has
the interval of Student's t. A race is successive halving (Jamieson and Talwalkar 2016) on the means, in which a setting
also ends that is worse than the best beyond doubt (racing: Maron and Moore 1994; Birattari et al. 2002).

The best of many means is better than it is in truth (the winner's curse), so the last word is a comparison over seeds
that the race has not seen: `evaluate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the truth with a given confidence."""

    mean: float
    low: float
    high: float


def paired(a: Sequence[float] | Array, b: Sequence[float] | Array, confidence: float) -> Interval:
    """The mean of a - b over seeds, scores (R,) of two settings, with Student's interval of R - 1 degrees of freedom.

    Raises ValueError for fewer than two seeds: one difference has no spread.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(differences)
    if n < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {n}")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def survivors(scores: Array, base: int, reduction: int, confidence: float) -> list[int]:
    """The settings (indices, in order) that continue from a rung.

    The S / `reduction` best means (rounded up) go on, without those whose difference to the best mean has an interval
    above 0. The base always goes on, and so does the best of the others: there is something to compare at the end.

    Args:
        scores: (S, R), finite, S at least 1, R at least 2.
        base: row of the base.
        reduction: of so many settings one goes on.
        confidence: of the intervals, in (0, 1).
    """
    order = [int(i) for i in np.argsort(scores.mean(axis=1), kind="stable")]
    best = order[0]
    kept = order[: math.ceil(len(order) / reduction)]
    kept = [i for i in kept if i == best or paired(scores[i], scores[best], confidence).low <= 0]
    rivals = [i for i in order if i != base]
    return sorted({*kept, base, *rivals[:1]})


def goes_on(score: float, recorded: Sequence[float], reduction: int) -> bool:
    """Whether a setting is among the best of those `recorded` at a rung, of which one in `reduction` goes on (ASHA)."""
    return score <= float(np.percentile(recorded, 100 / reduction))


@dataclass(frozen=True)
class Judgment:
    """A winner against the base, over fresh seeds."""

    difference: Interval
    """of the scores, winner minus base; less is better"""
    confidence: float

    @property
    def better(self) -> bool:
        """Whether the winner is better beyond doubt: the whole interval is below 0."""
        return self.difference.high < 0

    @property
    def missed(self) -> float:
        """By how much the winner may be better all the same, where that is not shown; at least 0."""
        return max(0.0, -self.difference.low)


def compare(winner: Sequence[float], base: Sequence[float], confidence: float) -> Judgment:
    """The winner's scores (R,) against the base's with the same seeds, which no race has seen; less is better."""
    return Judgment(paired(winner, base, confidence), confidence)
