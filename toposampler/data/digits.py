"""Handwritten digits that come with scikit-learn (Alpaydin and Kaynak 1998): images without a download."""

from __future__ import annotations

from typing import Literal

import torch

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies


class DigitsConfig(DataConfig):
    """1,797 gray images of 8 x 8 pixels; the components are the ten digits."""

    name: Literal["digits"] = "digits"

    def load(self) -> Dataset:
        """Read the images (1797, 1, 8, 8)."""
        from sklearn.datasets import load_digits  # seconds to import, needed by this data set only

        digits = load_digits()
        x = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1  # ink runs from 0 to 16
        labels = torch.from_numpy(digits.target)
        return Dataset(x, labels, label_frequencies(labels))
