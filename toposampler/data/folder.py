"""A user's own images in a folder; its sub-folders, if it has several, are the components."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from toposampler.data.base import DataConfig, Dataset, checked_points
from toposampler.data.components import label_frequencies
from toposampler.data.images import MAX_SIDE, MIN_SIDE, SUFFIXES, from_bytes, image_paths, read_square
from toposampler.errors import UserError
from toposampler.keys import may


class FolderConfig(DataConfig):
    """Images cropped to their central square and resized."""

    name: Literal["folder"] = "folder"
    path: Path = Field(json_schema_extra=may(resume=True))
    """folder searched, with all below it, for .bmp, .jpeg, .jpg, .png and .webp; with two or more immediate
    sub-folders of images, each sub-folder is a component (in alphabetical order)"""
    size: int = Field(32, ge=MIN_SIDE, le=MAX_SIDE)
    """side of the square images, in pixels"""
    channels: Literal[1, 3] = 3
    """1: grey; 3: colour"""

    def load(self) -> Dataset:
        """Read the images (N, channels, size, size). Raises UserError if the folder cannot be trained on."""
        paths = self._find()
        images = torch.stack([read_square(self.path / path, self.size, self.channels) for path in paths])
        x = checked_points(from_bytes(images), f"data folder {self.path}")
        labels = self._labels(paths)
        return Dataset(x) if labels is None else Dataset(x, labels, label_frequencies(labels))

    def _find(self) -> list[Path]:
        """Paths of the images, relative to the folder."""
        if not self.path.is_dir():
            raise UserError(f"data folder {self.path} does not exist or is not a folder")
        images = image_paths(self.path)
        if not images:
            raise UserError(f"data folder {self.path} holds no images ({', '.join(SUFFIXES)})")
        return images

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
