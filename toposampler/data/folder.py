"""A user's own images in a folder; its sub-folders, if it has several, are the components."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor

from toposampler.data.base import DataConfig, Dataset, checked_points
from toposampler.data.components import label_frequencies
from toposampler.data.images import MAX_SIDE, MIN_SIDE, from_bytes
from toposampler.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class FolderConfig(DataConfig):
    """Images cropped to their central square and resized."""

    name: Literal["folder"] = "folder"
    path: Path
    """folder searched, with all below it, for .bmp, .jpeg, .jpg, .png and .webp; with two or more immediate
    sub-folders of images, each sub-folder is a component (in alphabetical order)"""
    size: int = Field(32, ge=MIN_SIDE, le=MAX_SIDE)
    """side of the square images, in pixels"""
    channels: Literal[1, 3] = 3
    """1: grey; 3: colour"""

    def load(self) -> Dataset:
        """Read the images (N, channels, size, size). Raises UserError if the folder cannot be trained on."""
        paths = self._find()
        images = torch.stack([self._read(path) for path in paths])
        x = checked_points(from_bytes(images), f"data folder {self.path}")
        labels = self._labels(paths)
        return Dataset(x) if labels is None else Dataset(x, labels, label_frequencies(labels))

    def _find(self) -> list[Path]:
        """Paths of the images below the folder, sorted; hidden files and folders are passed over."""
        if not self.path.is_dir():
            raise UserError(f"data folder {self.path} does not exist or is not a folder")
        paths = [path.relative_to(self.path) for path in sorted(self.path.rglob("*"))]
        visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
        images = [path for path in visible if path.suffix.lower() in SUFFIXES]
        if not images:
            raise UserError(f"data folder {self.path} holds no images ({', '.join(SUFFIXES)})")
        return images

    def _read(self, path: Path) -> Tensor:
        """One image (channels, size, size) uint8."""
        try:
            with Image.open(self.path / path) as image:
                upright = ImageOps.exif_transpose(image).convert("L" if self.channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"image {self.path / path} cannot be read: {error}") from None
        square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(square)).view(self.size, self.size, self.channels).permute(2, 0, 1)

    def _labels(self, paths: list[Path]) -> Tensor | None:
        """Sub-folder of each image as (N,) int64; None if there are fewer than two."""
        folders = [path.parts[0] for path in paths if len(path.parts) > 1]
        names = sorted(set(folders))
        if len(names) < 2:
            return None
        if len(folders) < len(paths):
            raise UserError(
                f"data folder {self.path} holds {len(paths) - len(folders)} images beside its sub-folders "
                f"{', '.join(names)}: put them into a sub-folder, so that every image has a label"
            )
        return torch.tensor([names.index(folder) for folder in folders])
