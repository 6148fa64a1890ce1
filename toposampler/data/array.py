"""Data that were given as a Python object, and are kept in the run's folder so that the run is one as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from toposampler.data.base import Dataset
from toposampler.data.npy import NpyConfig
from toposampler.data.reading import LABELS, X
from toposampler.data.tables import Arrays
from toposampler.errors import UserError

KEPT = 2**30
"""bytes of the largest data that are kept in the run's folder"""


class ArrayConfig(NpyConfig):
    """What `toposampler.fit` was given as an array, a tensor, a table or a list."""

    name: Literal["array"] = "array"  # type: ignore[assignment]
    path: Path
    """.npz file of x and, where there are labels, `labels`: data.npz in the run's folder"""

    def load(self) -> Dataset:
        """Read the arrays. Raises UserError if they were not kept, or the file has been removed."""
        if not self.path.exists():
            raise UserError(
                f"data file {self.path} does not exist: these data were given to toposampler.fit as a Python object, "
                f"and objects of more than {KEPT / 2**30:g} GiB are not kept; save them, and give the file as "
                "data.name npy, data.path FILE"
            )
        return super().load()


def keep(arrays: Arrays, path: Path) -> bool:
    """Write `arrays` where `ArrayConfig` reads them; whether they are small enough for that."""
    content: dict[str, Any] = {X: arrays.x} if arrays.labels is None else {X: arrays.x, LABELS: arrays.labels}
    if sum(array.nbytes for array in content.values()) > KEPT:
        return False
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        np.savez(file, **content)
    draft.replace(path)
    return True
