"""Decoded images in one file on disk: filled once, whole or not used, and read row by row.

Filling goes in the order of the files, resumes where it was stopped, and is done by one process: others wait for it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from toposampler.data.rows import fault_summary
from toposampler.data.streamed import Reading, StreamedImages
from toposampler.errors import UserError
from toposampler.files import write_atomically

CHUNK = 2048
"""images decoded between two notes of how far the filling is"""

log = logging.getLogger(__name__)


class DecodedImages:
    """The images of `images`, from a file of their bytes: see `Rows`.

    Args:
        images: decodes them.
        path: of the file, which is filled here if it is absent; beside it lie its faults and, while it is filled, a
            draft.

    Raises UserError if the file cannot be written, as on a full disk, or more images are unreadable than may be; what
    was decoded is kept, and the next call resumes from there.
    """

    def __init__(self, images: StreamedImages, path: Path) -> None:
        self.shape, self.labels, self.skip_share = images.shape, images.labels, images.skip_share
        self._images, self._path, self._n = images, path, len(images)
        self._bytes = int(np.prod(images.shape))
        about = path.with_suffix(".json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.with_suffix(".lock")):
                if not path.exists():
                    self._fill(path.with_suffix(".new"), about)
            self.faults = {int(i): str(fault) for i, fault in json.loads(about.read_text())["faults"].items()}
        except OSError as error:
            free = shutil.disk_usage(existing(path)).free
            raise UserError(
                f"data.cache disk: {path} cannot be written: {error.strerror or error}; it takes "
                f"{self._n * self._bytes / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free there: make room, give "
                "another data.store, or data.cache none. What was decoded is kept"
            ) from None

    def __len__(self) -> int:
        return self._n

    def _fill(self, draft: Path, about: Path) -> None:
        """Decode all images to `draft`, from where an earlier process stopped, and give it its name."""
        done, faults = _progress(about) if draft.exists() else (0, {})
        self._images.faults.update(faults)
        log.info("decoding %d images to %s, from image %d on", self._n, self._path, done)
        with draft.open("r+b" if draft.exists() else "w+b") as file:
            reserve(file, self._n * self._bytes)  # now, so that a full disk is known before an hour of decoding
            while done < self._n:
                numbers = torch.arange(done, min(done + CHUNK, self._n))
                _write(file, self._images.read(numbers).numpy().data, done * self._bytes)
                done += len(numbers)
                os.fdatasync(file.fileno())
                self._note(about, done)
        draft.replace(self._path)

    def _note(self, about: Path, done: int) -> None:
        """Keep how far the filling is. Raises UserError if too many images are unreadable."""
        faults = self._images.faults
        write_atomically(about, json.dumps({"done": done, "faults": faults}))
        if len(faults) > self.skip_share * self._n:
            raise UserError(fault_summary(faults, self._n, self.skip_share))

    @cached_property
    def _file(self) -> BinaryIO:
        return self._path.open("rb", buffering=0)

    def read(self, indices: Tensor) -> Tensor:
        """See `Rows`."""
        out = torch.empty(len(indices), *self.shape, dtype=torch.uint8)
        self._read(indices.tolist(), out)
        return out

    def start(self, indices: Tensor, out: Tensor) -> Reading:
        """See `Rows`."""
        return Reading([self._images.threads.submit(self._read, indices.tolist(), out)])

    def _read(self, numbers: Sequence[int], out: Tensor) -> None:
        descriptor = self._file.fileno()
        for image, i in zip(out.numpy().reshape(len(numbers), self._bytes), numbers, strict=True):
            if os.preadv(descriptor, [image.data], i * self._bytes) < self._bytes:
                raise UserError(f"{self._path}, which data.cache disk wrote, was cut short: remove it, to fill it anew")


def existing(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def reserve(file: BinaryIO, size: int) -> None:
    """Have the disk set `size` bytes aside for `file`. Raises OSError if it has not that many."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:  # macOS
        file.truncate(size)


def _write(file: BinaryIO, content: memoryview, offset: int) -> None:
    """All of `content` at `offset`."""
    content = content.cast("B", (content.nbytes,)) if content.ndim != 1 else content
    while content:
        written = os.pwrite(file.fileno(), content, offset)
        content, offset = content[written:], offset + written


def _progress(about: Path) -> tuple[int, dict[int, str]]:
    """How many images an earlier process had decoded, and which of them it could not read."""
    try:
        noted = json.loads(about.read_text())
        return int(noted["done"]), {int(i): str(fault) for i, fault in noted["faults"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; wait for another process that holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process decodes the images to %s: waiting for it", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
