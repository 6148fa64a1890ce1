"""Arrays of numbers as a data set: points or images by their shape, standardized or evaluated as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toposampler.data.base import Dataset, checked_points, standardized
from toposampler.data.components import label_frequencies
from toposampler.data.images import MAX_SIDE, MIN_SIDE, from_bytes
from toposampler.data.transform import Standardization, standardization_of
from toposampler.errors import UserError

SPREAD = (0.05, 20.0)
"""standard deviations of a column between which networks train without standardizing"""
OFFSET = 20.0
"""largest mean of a column, in its standard deviations, at which they do"""


def dataset_of(
    what: str, x: np.ndarray, labels: np.ndarray | None = None, of_labels: str = "labels", standardize: bool = False
) -> Dataset:
    """Points (N, d), or images (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3, as a data set.

    Args:
        what: the source of x, which messages start with.
        x: numbers of any type; images as bytes or in [-1, 1].
        labels: (N,) integers or texts; they are numbered from 0 in rising order.
        of_labels: the source of the labels.
        standardize: points, each column to mean 0 and standard deviation 1; images stay as they are.

    Raises UserError if they cannot be trained on.
    """
    points = _points(x, what, standardize) if x.ndim == 2 else None
    samples = _images(x, what) if points is None else points
    numbered = None if labels is None else number_labels(labels, len(x), of_labels)
    dataset = Dataset(samples, numbered, None if numbered is None else label_frequencies(numbered))
    if points is None:
        return dataset
    transform = standardization_of(points.numpy())
    if standardize:
        return standardized(dataset, transform, tuple(_constants(transform)))
    return Dataset(points, numbered, dataset.weights, notes=tuple(_scale_warnings(transform, what)))


def _points(array: np.ndarray, what: str, standardize: bool) -> Tensor:
    """Points (N, d), float64 if they are to be standardized, else float32."""
    if array.shape[1] == 0:
        raise UserError(f"{what} holds points without coordinates: shape {array.shape}")
    if standardize:
        return checked_points(torch.from_numpy(np.array(array, dtype=np.float64, order="C")), what)
    x = _as_float32(array)
    if array.dtype.itemsize > 4 and len(array) > 1 and np.isfinite(array).all():
        merged = standardization_of(array).merged
        for k in merged.nonzero()[:1, 0].tolist():
            column = array[:, k]
            raise UserError(
                f"{what}: float32, which networks compute in, cannot tell the values of column {k} apart: they lie "
                f"between {column.min():.10g} and {column.max():.10g}; set data.standardize true"
            )
    return checked_points(x, what)


def _scale_warnings(transform: Standardization, what: str) -> Sequence[str]:
    """A warning, in one line, if points are far from unit scale, which training then does not cope with."""
    mean, scale = transform.mean, transform.scale
    if not (scale > 0).any():
        return [f"warning: {what}: all points are equal, so that nothing can be learned but this one"]
    far = ((scale < SPREAD[0]) | (scale > SPREAD[1]) | (mean.abs() > OFFSET * scale)).nonzero()[:, 0].tolist()
    if not far:
        return []
    some = "; ".join(f"column {k} has mean {mean[k]:.3g} and standard deviation {scale[k]:.3g}" for k in far[:3])
    more = f"; and {len(far) - 3} other columns" if len(far) > 3 else ""
    return [
        f"warning: {what} is far from mean 0 and standard deviation 1, where networks train well: {some}{more}. "
        "data.standardize true brings it there, and samples back"
    ]


def _constants(transform: Standardization) -> Sequence[str]:
    """A line if columns are constant."""
    constant = (transform.scale == 0).nonzero()[:, 0].tolist()
    if len(constant) == len(transform.scale):
        return ["warning: all points are equal, so that nothing can be learned but this one"]
    named = ", ".join(f"{k} ({transform.mean[k]:g})" for k in constant[:5]) + (", ..." if len(constant) > 5 else "")
    return [f"constant columns, which samples have exactly: {named}"] if constant else []


def _images(array: np.ndarray, what: str) -> Tensor:
    """Images of any accepted shape and type as (N, C, H, W) float32 in [-1, 1]."""
    given = array.shape
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        hint = "; leave the transparency out: x[..., :3]" if len(given) == 4 and given[3] == 4 else ""
        raise UserError(
            f"{what} must hold points (N, d) or images (N, H, W), (N, C, H, W) or (N, H, W, C) "
            f"with C 1 or 3, found shape {given}{hint}"
        )
    height, width = array.shape[2:]
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
        raise UserError(
            f"{what} holds images of {height} x {width} pixels; their sides must be of {MIN_SIDE} to {MAX_SIDE}"
        )
    if array.dtype == np.uint8:
        return checked_points(from_bytes(torch.from_numpy(np.ascontiguousarray(array))), what)
    x = checked_points(_as_float32(array), what)
    least, most = float(x.min()), float(x.max())
    if max(-least, most) > 1:
        of_bytes = least >= 0 and most <= 255
        raise UserError(
            f"{what} holds images with values from {least:g} to {most:g}; they must be uint8, or numbers in [-1, 1]"
            + (": x.astype('uint8')" if of_bytes else "")
        )
    if least >= 0 and most > 0:
        raise UserError(
            f"{what} holds images of type {array.dtype} with values from {least:g} to {most:g}, and black is -1 here: "
            "give 2 * x - 1 if their black is 0, or uint8"
        )
    return x


def _as_float32(array: np.ndarray) -> Tensor:
    """The numbers of `array` in this machine's order of bytes; those too large for float32 become infinite."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def number_labels(array: np.ndarray, n: int, what: str) -> Tensor:
    """The component of each of `n` samples: (n,) int64 in [0, M), each of which occurs."""
    if array.shape != (n,) or array.dtype.kind not in "iuU":
        raise UserError(f"{what} must hold {n} integers, one per sample, found shape {array.shape} of {array.dtype}")
    return torch.from_numpy(np.unique(array, return_inverse=True)[1])
