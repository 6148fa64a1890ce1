"""Later generations of a race: settings between the best of those before them.

Where few settings are good, they lie close together, and what is between them is mostly better than they are: each of
them is good by some of its keys, or by luck. This is the intermediate recombination of evolution strategies (Beyer and
Schwefel 2002), with weights of its own for each key.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from toposampler.tuning.spaces import Choice, Number, Parameter, Space, Values, Whole, active

SHARE = 1 / 3
"""of the settings before it, the part that a setting is drawn from"""


def parents(settings: Sequence[tuple[Values, int, float]]) -> list[Values]:
    """The best `SHARE` of `settings`, at least two: (values, steps that it was trained for, score, less is better).

    Those that were trained for longer come first, as others were stopped in a comparison with them.
    """
    ranked = sorted(settings, key=lambda setting: (-setting[1], setting[2]))
    return [values for values, _, _ in ranked[: max(2, math.ceil(SHARE * len(ranked)))]]


def between(space: Space, of: Sequence[Values], rng: random.Random) -> Values:
    """A setting whose numbers are weighted means of those `of` several, and whose choices are one of theirs.

    Weights are exponential, so that they divide the whole evenly at random; numbers with a range of logarithms have the
    mean of these. What none of them has is drawn from its range.
    """
    values: Values = {}
    for key, parameter in space.items():
        if active(parameter, values):
            given = [setting[key] for setting in of if key in setting]
            values[key] = _mixed(parameter, given, rng) if given else parameter.drawn(rng)
    return values


def _mixed(parameter: Parameter, given: Sequence[Any], rng: random.Random) -> Any:
    if isinstance(parameter, Choice):
        return rng.choice(given)
    weights = [rng.expovariate(1.0) for _ in given]
    log = isinstance(parameter, Number) and parameter.log
    total = sum(weight * (math.log(x) if log else x) for weight, x in zip(weights, given, strict=True))
    mean = math.exp(total / sum(weights)) if log else total / sum(weights)
    inside = min(parameter.high, max(parameter.low, mean))
    return round(inside) if isinstance(parameter, Whole) else inside
