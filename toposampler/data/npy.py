"""A user's own points or images in a NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from toposampler.data.base import DataConfig, Dataset, checked_points
from toposampler.data.components import label_frequencies
from toposampler.data.images import MAX_SIDE, MIN_SIDE, from_bytes
from toposampler.errors import UserError
from toposampler.keys import may


class NpyConfig(DataConfig):
    """An array of numbers on disk."""

    name: Literal["npy"] = "npy"
    path: Path = Field(json_schema_extra=may(resume=True))
    """.npy file of points (N, d), or of square images (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3,
    as bytes or as numbers in [-1, 1]"""
    labels: Path | None = Field(None, json_schema_extra=may(resume=True))
    """.npy file of N integers, the component of each sample; they are numbered anew from 0 in rising order"""

    def load(self) -> Dataset:
        """Read the arrays. Raises UserError, naming the file, if one is absent or cannot be trained on."""
        array = _read(self.path)
        x = _points(array, self.path) if array.ndim == 2 else _images(array, self.path)
        if self.labels is None:
            return Dataset(x)
        labels = _labels(_read(self.labels), len(x), self.labels)
        return Dataset(x, labels, label_frequencies(labels))


def _read(path: Path) -> np.ndarray:
    """The array of numbers in `path`."""
    try:
        array = np.load(path, allow_pickle=False)  # a pickle can run code
    except FileNotFoundError:
        raise UserError(f"data file {path} does not exist") from None
    except (OSError, EOFError, ValueError, MemoryError, BadZipFile) as error:
        raise UserError(f"data file {path} is not a .npy array of numbers: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        found = f"type {array.dtype}" if isinstance(array, np.ndarray) else "several arrays"
        raise UserError(f"data file {path} must hold one array of integers or floats, found {found}")
    return array


def _points(array: np.ndarray, path: Path) -> Tensor:
    """Points (N, d) as float32."""
    if array.shape[1] == 0:
        raise UserError(f"data file {path} holds points without coordinates: shape {array.shape}")
    return checked_points(_as_float32(array), str(path))


def _images(array: np.ndarray, path: Path) -> Tensor:
    """Images of any accepted shape and type as (N, C, H, W) float32 in [-1, 1]."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise UserError(
            f"data file {path} must hold points (N, d) or images (N, H, W), (N, C, H, W) or (N, H, W, C) "
            f"with C 1 or 3, found shape {array.shape}"
        )
    height, width = array.shape[2:]
    if height != width or not MIN_SIDE <= height <= MAX_SIDE:
        raise UserError(
            f"data file {path} holds images of {height} x {width} pixels; "
            f"they must be square with sides of {MIN_SIDE} to {MAX_SIDE}"
        )
    if array.dtype == np.uint8:
        return checked_points(from_bytes(torch.from_numpy(np.ascontiguousarray(array))), str(path))
    x = checked_points(_as_float32(array), str(path))
    if x.abs().max() > 1:
        raise UserError(
            f"data file {path} holds images with values from {x.min():g} to {x.max():g}; "
            "they must be uint8, or numbers in [-1, 1]"
        )
    return x


def _as_float32(array: np.ndarray) -> Tensor:
    """The numbers of `array` in this machine's order of bytes; those too large for float32 become infinite."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _labels(array: np.ndarray, n: int, path: Path) -> Tensor:
    """The component of each of `n` samples: (n,) int64 in [0, M), each of which occurs."""
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise UserError(
            f"data.labels file {path} must hold {n} integers, one per sample, "
            f"found shape {array.shape} of {array.dtype}"
        )
    return torch.from_numpy(np.unique(array, return_inverse=True)[1])
