"""A model of the scores over the space: a Gaussian process, by scikit-learn.

A score of one seed is its setting's mean and noise. If the mean is a smooth function of the setting, the scores of all
settings say something about each: the process estimates the mean of a setting from its own score and those near it, and
finds in the scores how near that is, key by key, and how much is noise (Rasmussen and Williams 2006, chapters 2 and 5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from toposampler.tuning.racing import Array
from toposampler.tuning.spaces import Choice, Number, Parameter, Space, Values

MIDDLE = 0.5
"""in the place of a number that does not exist in a setting"""
RESTARTS = 3
"""of the search for the constants of the process, beside the one from their first values"""


def expected(space: Space, settings: Sequence[Values], scores: Sequence[float]) -> list[float]:
    """What the mean score of each of `settings` (S) is, given one score of each: S numbers; the same in each call.

    Keys of the space count over their ranges, by their logarithms where the range is of these; other keys do not.
    """
    x, y = coordinates(space, settings), np.asarray(scores, dtype=np.float64)
    spread = float(y.std())
    if spread == 0 or not x.shape[1]:
        return [float(y.mean())] * len(y)
    standard = (y - y.mean()) / spread
    return [float(mean) for mean in y.mean() + spread * process_of(x, standard).predict(x)]


def process_of(x: Array, y: Array) -> GaussianProcessRegressor:
    """The process of scores y (S,), of mean 0 and variance 1, at places x (S, D): Matern kernel and noise, fitted."""
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(np.full(x.shape[1], 0.7), (0.1, 10), nu=2.5)
    process = GaussianProcessRegressor(
        kernel + WhiteKernel(0.2, (1e-3, 2)), n_restarts_optimizer=RESTARTS, random_state=0
    )
    with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):  # a constant at its bound is one found
        return process.fit(x, y)


def coordinates(space: Space, settings: Sequence[Values]) -> Array:
    """The places (S, D) of settings: numbers in their range as 0 to 1, a choice as a column of 0 and 1 per option."""
    return np.array([[c for key, of in space.items() for c in _places(of, setting, key)] for setting in settings])


def _places(parameter: Parameter, setting: Mapping[str, Any], key: str) -> list[float]:
    if isinstance(parameter, Choice):
        return [float(key in setting and setting[key] == option) for option in parameter.options]
    if key not in setting:
        return [MIDDLE]
    to = math.log if isinstance(parameter, Number) and parameter.log else float
    low, high = to(parameter.low), to(parameter.high)
    return [(to(setting[key]) - low) / (high - low)]
