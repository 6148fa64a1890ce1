"""A user's own images in a folder; its sub-folders, if it has several, are the components."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.data.images import COMMON, by_suffix, found_files, found_folders, suffixes
from toposampler.data.index import Index, Stamp, joined, stamp_of
from toposampler.data.source import Files
from toposampler.data.streaming import ImagesConfig
from toposampler.errors import UserError
from toposampler.keys import may


class FolderConfig(ImagesConfig):
    """Images cropped, around their middle, to one proportion and resized."""

    name: Literal["folder"] = "folder"
    path: Path = Field(json_schema_extra=may(resume=True))
    """folder searched, with all below it, for images of the kinds that Pillow reads (of a .gif the first); with two or
    more immediate sub-folders of images, each sub-folder is a component (in alphabetical order)"""

    def load(self) -> Dataset:
        """Read the images (N, channels, height, width). Raises UserError if the folder cannot be trained on."""
        if self.cache == "device":
            return self.whole(Files(self.path, self._index()), f"data folder {self.path}")
        name = hashlib.sha256(str(self.path.absolute()).encode()).hexdigest()[:16]
        index = self.kept_index(name, self._stamp, self._index)
        return self.streamed(Files(self.path, index), self._stamp(None), f"data folder {self.path}")

    def _index(self) -> Index:
        """Of the images."""
        paths, left_out = self._find()
        labels = self._labels(paths)
        names, ends = joined([path.as_posix() for path in paths])
        zeros = np.zeros(len(paths), dtype=np.int64)
        try:
            sizes = np.array([(self.path / path).stat().st_size for path in paths], dtype=np.int64)
        except OSError as error:  # a link to nowhere
            raise UserError(f"image {error.filename} cannot be read: {error.strerror}") from None
        numbers = None if labels is None else labels.numpy()
        notes = tuple(self._notes(paths, left_out))
        return Index((), zeros.astype(np.int32), zeros, sizes, names, ends, numbers, notes)

    def _stamp(self, kept: Stamp | None) -> Stamp:
        """When the folders were changed last: those of a `kept` stamp, without looking into them, or all."""
        folders = [name for name, *_ in kept] if kept else [path.as_posix() for path in found_folders(self.path)]
        return stamp_of(self.path, folders)

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
        numbers = {name: k for k, name in enumerate(names)}
        return torch.tensor([numbers[folder] for folder in folders])


def top(path: Path) -> str:
    """The immediate sub-folder that a relative `path` lies in; empty for one that lies in none."""
    return path.parts[0] if len(path.parts) > 1 else ""
