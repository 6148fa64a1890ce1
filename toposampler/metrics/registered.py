"""Metrics of others: registered in this process, or entry points of the group `toposampler.metrics`.

A metric is a function (real, samples) to a number: real points (N, *shape) in random order and samples (n, *shape),
float, on one device. It may also take, by name, `seed` (of the draw), `labels` (the component of each real point,
(N,) int64, or None), `generators` (the generator of each sample, (n,), or None) and `prior` (r(c), (K,), or None). What
it draws from torch's global random state repeats from the seed. An attribute `better` of the function, if it has one,
says which values are better: "less", "more", "as real" (those of real data) or the best number.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from toposampler.registry import Functions

METRICS = Functions("metric", "toposampler.metrics")
"""all metrics that are not the package's"""

log = logging.getLogger(__name__)
_left_out: set[str] = set()


def registered_metrics(
    real: Tensor, samples: Tensor, taken: Mapping[str, float], seed: int, **known: Tensor | None
) -> dict[str, float]:
    """Each metric that is registered, by its name.

    One that fails, gives no finite number, or bears the name of a metric in `taken` is named in a warning, once in a
    process, and left out.

    Args:
        real: (N, *shape).
        samples: (n, *shape).
        taken: the package's own metrics of the same draw.
        seed: of what a metric draws.
        known: what else a metric may take by name.
    """
    found: dict[str, float] = {}
    for entry in METRICS.entries():
        try:
            if entry.name in taken:
                raise ValueError("a metric of the package has this name")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                value = float(entry.value(real, samples, **_wanted(entry.value, {"seed": seed, **known})))
            if not math.isfinite(value):
                raise ValueError(f"it gave {value}, which is no finite number")
        except Exception as error:  # whatever a foreign function raises
            if entry.name not in _left_out:
                _left_out.add(entry.name)
                fault = f"{type(error).__name__}: {error}"
                log.warning("the metric %s (%s) is left out: %s", entry.name, entry.origin, fault)
        else:
            found[entry.name] = value
    return found


def _wanted(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `known` that `function` has parameters for."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in known.items() if name in parameters}
