"""What data sets of images share that may not fit in memory: keys, and how encoded images become a data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from toposampler.data.base import DataConfig, Dataset, checked_points
from toposampler.data.components import label_frequencies
from toposampler.data.decoded import DecodedImages, existing
from toposampler.data.images import MAX_SIDE, MIN_SIDE, from_bytes
from toposampler.data.index import Index, Stamp, read_index
from toposampler.data.rows import Rows, fault_summary
from toposampler.data.source import Source
from toposampler.data.streamed import StreamedImages
from toposampler.errors import UserError
from toposampler.keys import may

SAMPLED = 100
"""images whose bytes are part of the digest of a set that is not read whole"""


class ImagesConfig(DataConfig):
    """Base of images that are cropped, around their middle, to one proportion and resized."""

    size: int | tuple[int, int] = 32
    """side of the square images, or height and width, in pixels"""
    channels: Literal[1, 3] = 3
    """1: gray; 3: color"""
    cache: Literal["device", "host", "disk", "none"] = Field("device", json_schema_extra=may(resume=True))
    """where decoded images are kept: device: all in memory, on the device that trains, and evaluation sees all; else it
    sees data.subset images, and training reads each batch: host: in the memory of each process, as bytes,
    from their first use on; disk: in one file below data.store, filled before the run; none: decoded at every use"""
    workers: int = Field(2, ge=1, le=256, json_schema_extra=may(resume=True))
    """threads that read and decode images in each process"""
    skip_share: float = Field(0.001, ge=0, lt=1, json_schema_extra=may(resume=True))
    """share of the images, and of the bytes of archives, that may be unreadable: they are named, and the next image of
    the same label takes the place of each; more of them are an error"""
    subset: int = Field(10_000, ge=20, le=10**7)
    """images that evaluation, figures and classifiers see where not all are in memory: chosen by seed 0, at least two
    of each label"""
    store: Path | None = Field(None, json_schema_extra=may(resume=True))
    """folder that keeps indexes and, with data.cache disk, decoded images; default: toposampler in XDG_CACHE_HOME, or
    in ~/.cache"""

    @field_validator("size")
    @classmethod
    def _sides_are_sides(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in (size if isinstance(size, tuple) else (size,))):
            raise ValueError(f"sides must be of {MIN_SIDE} to {MAX_SIDE} pixels")
        return size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return self.channels, height, width

    @property
    def place(self) -> Path:
        """`store`, or its default."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return self.store if self.store is not None else Path(home) / "toposampler"

    def whole(self, source: Source, what: str) -> Dataset:
        """All images of `source`, called `what`, in memory. Raises UserError if too many cannot be read."""
        index = source.index
        images = StreamedImages(source, self.image_shape, self.workers, self.skip_share)
        x = checked_points(from_bytes(images.read(torch.arange(len(index)))), what)
        return Dataset(x, images.labels, _weights(images), notes=(*index.notes, *self._faults(images)))

    def streamed(self, source: Source, stamp: Stamp, what: str) -> Dataset:
        """The images of `source`, read as they are needed, and a part of them in memory.

        `stamp` says when the files were changed last. Raises UserError if too many cannot be read.
        """
        images = StreamedImages(source, self.image_shape, self.workers, self.skip_share, self.cache == "host")
        chosen, digest = subset(len(images), images.labels, self.subset), self.digest_of(source)
        rows: Rows = images
        if self.cache == "disk":
            name = hashlib.sha256(repr((digest, list(stamp))).encode()).hexdigest()[:16]
            rows = DecodedImages(images, self.place / f"decoded_{name}.bytes")
        x, labels = checked_points(from_bytes(rows.read(chosen)), what), rows.labels
        shown = f"{len(chosen):,} of them, chosen by seed 0" if len(chosen) < len(rows) else "all of them"
        note = f"{len(rows):,} images are read as they are needed (data.cache {self.cache}); evaluation sees {shown}"
        return Dataset(
            x,
            None if labels is None else labels[chosen],
            _weights(rows),
            notes=(*source.index.notes, note, *self._faults(rows)),
            source=digest,
            rows=rows,
        )

    def _faults(self, rows: Rows) -> tuple[str, ...]:
        """A line if some images cannot be read. Raises UserError if these are too many."""
        if not rows.faults:
            return ()
        summary = fault_summary(rows.faults, len(rows), self.skip_share)
        if len(rows.faults) > self.skip_share * len(rows):
            raise UserError(summary)
        return (f"warning: {summary}; the next image of the same label takes the place of each",)

    def digest_of(self, source: Source) -> str:
        """SHA-256 of the index, of what is made of the images, and of the bytes of `SAMPLED` of them, evenly spread."""
        sha = hashlib.sha256(repr((source.index.digest(), self.image_shape, self.subset)).encode())
        for i in np.linspace(0, len(source.index) - 1, SAMPLED).astype(int).tolist():
            try:
                sha.update(source.read(i))
            except (OSError, ValueError):  # it is unreadable again when it is to be decoded, and counted then
                sha.update(b"unreadable")
        return sha.hexdigest()

    def kept_index(self, name: str, stamp: Callable[[Stamp | None], Stamp], build: Callable[[], Index]) -> Index:
        """The index kept under `name` in the store if the files are as they were, or else what `build` finds, kept.

        `stamp` gives the files' state now: of those in a kept stamp, or of all. A store that cannot be written to is
        named among the notes, and the index is built at each start.
        """
        path = self.place / f"index_{name}.npz"
        found = read_index(path)
        if found is not None:
            try:
                if list(stamp(found[1])) == list(found[1]):
                    return found[0]
            except OSError:  # a file is gone
                pass
        index = build()
        try:
            index.save(path, stamp(None))
        except OSError as error:
            note = f"warning: the index of the images cannot be kept in {existing(path)}: {error.strerror or error}"
            return Index(**{**index.__dict__, "notes": (*index.notes, note)})
        return index


def subset(n: int, labels: Tensor | None, count: int) -> Tensor:
    """`count` of `n` numbers, or all, in an order drawn with seed 0: at least two of each of `labels` (n,)."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    if count >= n:
        return order
    first = torch.zeros(n, dtype=torch.bool)
    if labels is not None:
        of = labels[order]
        by_label = torch.argsort(of, stable=True)
        rank = torch.arange(n) - torch.cumsum(torch.bincount(of), 0).sub(torch.bincount(of))[of[by_label]]
        first[by_label[rank < 2]] = True
    others = torch.cumsum(~first, 0)
    return order[first | (others <= count - int(first.sum()))]


def _weights(rows: Rows) -> Tensor | None:
    return None if rows.labels is None else label_frequencies(rows.labels)
