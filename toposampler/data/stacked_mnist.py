"""Stacked MNIST (Metz et al. 2017, arXiv 1611.02163): three random digits as the channels of one image, 1,000 modes."""

from __future__ import annotations

from typing import Literal

import torch

from toposampler.data.base import Dataset, SyntheticConfig
from toposampler.data.mnist import MnistConfig

N_MODES = 1000


class StackedMnistConfig(SyntheticConfig, MnistConfig):
    """Color images of 28 x 28 pixels, drawn from MNIST; the components are the triples of digits, 100 a + 10 b + c.

    An image takes 9.4 kB of memory, the default number of them 470 MB, in each process that trains.
    """

    name: Literal["stacked_mnist"] = "stacked_mnist"  # type: ignore[assignment]
    split: Literal["all", "train", "test"] = "train"
    """whose digits are stacked: of the 60,000 training images, of the 10,000 test images, or of both"""

    def load(self) -> Dataset:
        """Draw the images (n, 3, 28, 28), each channel independently. Raises UserError as MNIST does."""
        digits = super().load()
        assert digits.labels is not None
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randint(len(digits.x), (self.n, 3), generator=generator)
        labels = digits.labels[chosen] @ torch.tensor([100, 10, 1])
        # a triple that was never drawn has mass 0
        return Dataset(digits.x[chosen, 0], labels, torch.bincount(labels, minlength=N_MODES).double() / self.n)
