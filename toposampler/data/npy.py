"""A user's own points or images in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from toposampler.data.arrays import dataset_of
from toposampler.data.base import DataConfig, Dataset
from toposampler.data.reading import SUFFIXES, TABLES, read_file
from toposampler.errors import UserError
from toposampler.files import local_path
from toposampler.keys import may


class NpyConfig(DataConfig):
    """An array of numbers on disk, or the columns of a table."""

    name: Literal["npy"] = "npy"
    path: Path = Field(json_schema_extra=may(resume=True))
    """.npy, .npz, .csv, .parquet or .pt (torch.save) file of points (N, d), or of images (N, H, W), (N, C, H, W) or
    (N, H, W, C) with C 1 or 3, as bytes or as numbers in [-1, 1]"""
    key: str | None = Field(None, min_length=1)
    """which array of a .npz or .pt file; default: x, or the only one"""
    labels: Path | str | None = Field(None, json_schema_extra=may(resume=True))
    """the component of each sample: a file of N integers, or the name of a column of a table at `path`; they are
    numbered anew from 0 in rising order. Default: the array `labels` of a .npz or .pt file that also holds x"""
    standardize: bool = True
    """train on points with mean 0 and standard deviation 1 in each column, and bring samples back to the units of the
    file; images stay as they are"""

    @field_validator("labels")
    @classmethod
    def _file_or_column(cls, labels: Path | str | None, info: ValidationInfo) -> Path | str | None:
        """A column's name as text, a file's as a path, which a worker in another folder needs absolute."""
        if labels is None:
            return None
        table = isinstance(path := info.data.get("path"), Path) and path.suffix.lower() in TABLES
        column = table and Path(labels).suffix.lower() not in SUFFIXES
        return str(labels) if column else Path(local_path(str(labels)))

    def load(self) -> Dataset:
        """Read the arrays. Raises UserError, naming the file, if one is absent or cannot be trained on."""
        column = self.labels if isinstance(self.labels, str) else None
        arrays = read_file(self.path, self.key, column)
        what, of_labels, labels = f"data file {self.path}", f"the labels of {self.path}", arrays.labels
        if isinstance(self.labels, Path):
            labels, of_labels = _read_labels(self.labels), f"data.labels file {self.labels}"
        return dataset_of(what, arrays.x, labels, of_labels, self.standardize)


def _read_labels(path: Path) -> np.ndarray:
    """The labels in a file of their own, as they are there."""
    try:
        read = read_file(path)
    except UserError as error:
        raise UserError(f"data.labels: {error}") from None
    if read.columns is not None and len(read.columns) == 1:  # a table of one column
        whole = np.trunc(read.x[:, 0])
        return whole.astype(np.int64) if np.array_equal(whole, read.x[:, 0]) else read.x[:, 0]
    return read.x
