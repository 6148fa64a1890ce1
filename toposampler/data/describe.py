"""What a data set holds, in lines for people."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.data.transform import standardization_of

SHOWN = 8
"""columns, or components, that have words of their own"""


def describe(dataset: Dataset) -> list[str]:
    """Lines on count and shape, range, labels with their masses, and what was left out or is doubtful.

    Values are in the user's units. Warnings start with "warning:".
    """
    return [_samples(dataset), *_values(dataset), _labels(dataset), *dataset.notes]


def _samples(dataset: Dataset) -> str:
    n, shape = len(dataset), dataset.shape
    if len(shape) == 3:
        channels, height, width = shape
        colors = {1: "gray", 3: "color"}.get(channels, f"{channels} channels")
        return f"{n:,} images of {height} x {width} pixels, {colors}"
    return f"{n:,} points in {shape[0]} dimension{'s'[: shape[0] != 1]}"


def _values(dataset: Dataset) -> list[str]:
    """Least, greatest, mean and standard deviation: of all pixels, or of each column."""
    if len(dataset.shape) == 3:
        darkest, lightest = dataset.x.min(), dataset.x.max()
        spread, middle = torch.std_mean(dataset.x, correction=0)
        return [
            f"values {darkest:.3g} to {lightest:.3g} (black -1, white 1), mean {middle:.3g}, deviation {spread:.3g}"
        ]
    columns = _statistics(dataset.to_units(dataset.x))
    lines = []
    for k, (*values, deviation) in enumerate(columns[:SHOWN].tolist()):
        least, most, center = (_short(value, deviation) for value in values)
        lines.append(f"column {k}: {least} to {most}, mean {center}, standard deviation {deviation:.3g}")
    if len(columns) > SHOWN:
        smallest, greatest = columns[:, 0].min(), columns[:, 1].max()
        lines.append(
            f"and {len(columns) - SHOWN} columns more; all values lie between {smallest:.6g} and {greatest:.6g}"
        )
    how = "to mean 0 and standard deviation 1, samples come back in these units" if dataset.transform else "no"
    return [*lines, f"standardized: {how}"]


def _short(value: float, deviation: float) -> str:
    """`value` with as many digits as say something beside the standard deviation of its column."""
    if deviation == 0 or abs(value) > 1e300:  # which cannot be rounded: the result may be too large
        return f"{value:.6g}"
    return f"{round(value, 3 - math.floor(math.log10(deviation))) + 0.0:.15g}"  # + 0: no -0


def _statistics(x: Tensor) -> Tensor:
    """Of each column of x (n, d): least, greatest, mean, standard deviation: (d, 4) float64."""
    x = x.double()
    of = standardization_of(x.numpy())  # which does not overflow where squares would
    return torch.stack([x.amin(dim=0), x.amax(dim=0), of.mean, of.scale], dim=1)


def _labels(dataset: Dataset) -> str:
    if dataset.labels is None or dataset.weights is None:
        return "labels: none"
    masses = dataset.weights.tolist()
    named = ", ".join(f"{k}: {mass:.3g}" for k, mass in enumerate(masses[:SHOWN]))
    more = f" and {len(masses) - SHOWN} others" if len(masses) > SHOWN else ""
    return f"labels: {len(masses)} components with masses {named}{more}"
