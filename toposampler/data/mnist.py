"""MNIST (LeCun and Cortes 1998): 70,000 handwritten digits of 28 x 28 pixels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies
from toposampler.data.images import from_bytes
from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.keys import may

PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
SIDES = {IMAGES: (28, 28), LABELS: ()}
"""sides, in pixels, of what a file holds n of"""


class MnistConfig(DataConfig):
    """Gray images; the components are the ten digits."""

    name: Literal["mnist"] = "mnist"
    root: Path = Field(Path("data"), json_schema_extra=may(resume=True))
    """folder that holds, or will hold, MNIST/raw"""
    download: bool = Field(False, json_schema_extra=may(resume=True))
    """fetch the files that are absent from root"""
    split: Literal["all", "train", "test"] = "all"
    """train: 60,000 images; test: 10,000; all: both, as in DMGAN (arXiv 1806.00880)"""

    def load(self) -> Dataset:
        """Read the images (N, 1, 28, 28). Raises UserError if files are absent, damaged or do not belong together."""
        parts = PARTS[self.split]
        if self.download and not all(self._find(f"{part}-{kind}") for part in parts for kind in SIDES):
            self._fetch()
        images, labels = zip(*map(self._pair, parts), strict=True)
        x = from_bytes(torch.from_numpy(np.concatenate(images)).unsqueeze(1))
        digits = torch.from_numpy(np.concatenate(labels)).long()
        return Dataset(x, digits, label_frequencies(digits))

    @property
    def _raw(self) -> Path:
        return self.root / "MNIST" / "raw"

    def _find(self, name: str) -> Path | None:
        """The file of that name, unpacked or packed; None if there is neither."""
        return next((path for path in (self._raw / name, self._raw / f"{name}.gz") if path.is_file()), None)

    def _fetch(self) -> None:
        """Have torchvision fetch what is absent, check it, and unpack all."""
        require("torchvision", "images", "data.download true", f"put the four files of MNIST into {self._raw}")
        from torchvision.datasets import MNIST  # seconds to import, needed for this only

        try:
            MNIST(self.root, download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(f"MNIST cannot be fetched to {self._raw}: {' '.join(str(error).split())}") from None

    def _pair(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, 28, 28) and labels (n,) of a part, uint8. Raises UserError as `load` does."""
        paths = [self._present(f"{part}-{kind}") for kind in SIDES]
        images, labels = map(_read, paths, SIDES.values())
        if len(images) != len(labels):
            raise UserError(
                f"MNIST's files {paths[0]} and {paths[1]} do not belong together: {len(images)} images, {len(labels)} "
                "labels"
            )
        return images, labels

    def _present(self, name: str) -> Path:
        """The file of that name, unpacked or packed. Raises UserError, which says what to do, if there is neither."""
        path = self._find(name)
        if path is None:
            raise UserError(
                f"MNIST is not in {self._raw}: {name} is absent, unpacked and as .gz. Put its four files there, give "
                "another --data.root, or set --data.download true"
            )
        return path


def _read(path: Path, sides: tuple[int, ...]) -> np.ndarray:
    """The bytes (n, *sides) of an IDX file: two zeros, 8 for bytes, the number of sides, each side, the bytes.

    Raises UserError, naming `path`, if it cannot be read or holds anything else.
    """
    magic = bytes([0, 0, 8, 1 + len(sides)])
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
        if content[:4] != magic:
            found = content[:4].hex(" ") or "nothing"
            raise UserError(f"MNIST's file {path} must begin with the bytes {magic.hex(' ')}, found {found}")
        shape = tuple(np.frombuffer(content, ">u4", count=1 + len(sides), offset=4).tolist())
        if shape[1:] != sides:
            raise UserError(f"MNIST's file {path} must hold images of {sides} pixels, found {shape}")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"MNIST's file {path} cannot be read: {error}") from None
