"""A user's own images in a folder; its sub-folders, if it has several, are the components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from toposampler.data.base import DataConfig, Dataset, checked_points
from toposampler.data.components import label_frequencies
from toposampler.data.images import COMMON, MAX_SIDE, MIN_SIDE, by_suffix, found_files, from_bytes, read_image, suffixes
from toposampler.errors import UserError
from toposampler.keys import may


class FolderConfig(DataConfig):
    """Images cropped, around their middle, to one proportion and resized."""

    name: Literal["folder"] = "folder"
    path: Path = Field(json_schema_extra=may(resume=True))
    """folder searched, with all below it, for images of the kinds that Pillow reads (of a .gif the first); with two or
    more immediate sub-folders of images, each sub-folder is a component (in alphabetical order)"""
    size: int | tuple[int, int] = 32
    """side of the square images, or height and width, in pixels"""
    channels: Literal[1, 3] = 3
    """1: grey; 3: colour"""

    @field_validator("size")
    @classmethod
    def _sides_are_sides(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in (size if isinstance(size, tuple) else (size,))):
            raise ValueError(f"sides must be of {MIN_SIDE} to {MAX_SIDE} pixels")
        return size

    def load(self) -> Dataset:
        """Read the images (N, channels, height, width). Raises UserError if the folder cannot be trained on."""
        paths, left_out = self._find()
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        images = torch.empty(len(paths), self.channels, height, width, dtype=torch.uint8)
        for image, path in zip(images, paths, strict=True):
            image.copy_(read_image(self.path / path, height, width, self.channels))
        x = checked_points(from_bytes(images), f"data folder {self.path}")
        labels = self._labels(paths)
        weights = None if labels is None else label_frequencies(labels)
        return Dataset(x, labels, weights, notes=tuple(self._notes(paths, left_out)))

    def _find(self) -> tuple[list[Path], list[Path]]:
        """Paths of the images, and of the other files, relative to the folder."""
        try:
            if not self.path.is_dir():
                raise UserError(f"data folder {self.path} does not exist or is not a folder")
            files = found_files(self.path)
        except OSError as error:
            raise UserError(f"data folder {self.path} cannot be read: {error.strerror}") from None
        images = [path for path in files if path.suffix.lower() in suffixes()]
        if not images:
            found = f"; it holds {by_suffix(files)}" if files else ""
            raise UserError(f"data folder {self.path} holds no images ({COMMON}){found}")
        return images, sorted(set(files) - set(images))

    def _notes(self, paths: Sequence[Path], left_out: Sequence[Path]) -> Iterator[str]:
        """What was read, and what was not."""
        yield f"read {len(paths):,} images below {self.path}: {by_suffix(paths)}"
        if left_out:
            yield f"left out {len(left_out):,} files that are no images: {by_suffix(left_out)}"
        without = sorted({top(path) for path in left_out} - {top(path) for path in paths} - {""})
        if without:
            yield f"warning: no image is in the sub-folder{'s'[: len(without) > 1]} {', '.join(without)}"

    def _labels(self, paths: Sequence[Path]) -> Tensor | None:
        """Sub-folder of each image as (N,) int64; None if there are fewer than two."""
        folders = [top(path) for path in paths if top(path)]
        names = sorted(set(folders))
        if len(names) < 2:
            return None
        if len(folders) < len(paths):
            raise UserError(
                f"data folder {self.path} holds {len(paths) - len(folders)} images beside its sub-folders "
                f"{', '.join(names)}: put them into a sub-folder, so that every image has a label"
            )
        return torch.tensor([names.index(folder) for folder in folders])


def top(path: Path) -> str:
    """The immediate sub-folder that a relative `path` lies in; empty for one that lies in none."""
    return path.parts[0] if len(path.parts) > 1 else ""
