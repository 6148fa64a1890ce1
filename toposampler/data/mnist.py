"""MNIST (LeCun and Cortes 1998): 70,000 handwritten digits of 28 x 28 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies
from toposampler.data.images import from_bytes
from toposampler.errors import UserError

TRAINING_SET = {"train": [True], "test": [False], "all": [True, False]}


class MnistConfig(DataConfig):
    """Grey images; the components are the ten digits."""

    name: Literal["mnist"] = "mnist"
    root: Path = Path("data")
    """folder that holds, or will hold, MNIST/raw"""
    download: bool = False
    """fetch the files that are absent from root, and unpack those that are packed"""
    split: Literal["all", "train", "test"] = "all"
    """train: 60,000 images; test: 10,000; all: both, as in DMGAN (arXiv 1806.00880)"""

    def load(self) -> Dataset:
        """Read the images (N, 1, 28, 28). Raises UserError if the files are not there."""
        from torchvision.datasets import MNIST  # seconds to import, needed by this page only

        try:
            parts = [MNIST(self.root, train, download=self.download) for train in TRAINING_SET[self.split]]
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            raise UserError(
                f"MNIST is not in {self.root / 'MNIST' / 'raw'} ({str(error).split('.')[0]}): put its four unpacked "
                "files there, give another --data.root, or set --data.download true"
            ) from None
        x = from_bytes(torch.cat([part.data for part in parts]).unsqueeze(1))
        labels = torch.cat([part.targets for part in parts])
        return Dataset(x, labels, label_frequencies(labels))
