"""MNIST (LeCun and Cortes 1998): 70,000 handwritten digits of 28 x 28 pixels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies
from toposampler.data.images import from_bytes
from toposampler.errors import UserError

PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


class MnistConfig(DataConfig):
    """Grey images; the components are the ten digits."""

    name: Literal["mnist"] = "mnist"
    root: Path = Path("data")
    """folder that holds, or will hold, MNIST/raw"""
    download: bool = False
    """fetch the files that are absent from root"""
    split: Literal["all", "train", "test"] = "all"
    """train: 60,000 images; test: 10,000; all: both, as in DMGAN (arXiv 1806.00880)"""

    def load(self) -> Dataset:
        """Read the images (N, 1, 28, 28). Raises UserError if the files are not there or cannot be read."""
        parts = PARTS[self.split]
        names = [f"{part}-{kind}" for kind in (IMAGES, LABELS) for part in parts]
        if self.download and not all(map(self._find, names)):
            self._fetch()
        arrays = [self._read(name) for name in names]
        x = from_bytes(torch.from_numpy(np.concatenate(arrays[: len(parts)])).unsqueeze(1))
        labels = torch.from_numpy(np.concatenate(arrays[len(parts) :])).long()
        return Dataset(x, labels, label_frequencies(labels))

    @property
    def _raw(self) -> Path:
        return self.root / "MNIST" / "raw"

    def _find(self, name: str) -> Path | None:
        """The file of that name, unpacked or packed; None if there is neither."""
        return next((path for path in (self._raw / name, self._raw / f"{name}.gz") if path.is_file()), None)

    def _fetch(self) -> None:
        """Have torchvision fetch what is absent, check it, and unpack all."""
        from torchvision.datasets import MNIST  # seconds to import, needed for this only

        try:
            MNIST(self.root, download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(f"MNIST cannot be fetched to {self._raw}: {' '.join(str(error).split())}") from None

    def _read(self, name: str) -> np.ndarray:
        """The bytes of an IDX file, in its shape: two zeros, 8 for bytes, the number of sides, each side, the bytes."""
        path = self._find(name)
        if path is None:
            raise UserError(
                f"MNIST is not in {self._raw}: {name} is absent, unpacked and as .gz. Put its four files there, give "
                "another --data.root, or set --data.download true"
            )
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                content = file.read()
            sides = np.frombuffer(content, ">u4", count=content[3], offset=4)
            return np.frombuffer(content, np.uint8, offset=4 + sides.nbytes).reshape(sides)
        except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
            raise UserError(f"MNIST's file {path} cannot be read: {error}") from None
