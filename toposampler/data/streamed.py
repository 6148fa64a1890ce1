"""Images that are decoded when they are needed, by threads, from files, archives or tables.

Pillow lets other threads run while it decodes and resizes, so threads do what worker processes would, without a copy of
the index in each. An image that cannot be read is replaced by the next one of the same label that can: what training
sees at a place follows from the files alone, whatever the number of workers, and after a resume.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from toposampler.data.images import decode_image
from toposampler.data.source import Source
from toposampler.errors import UserError

IN_A_ROW = 100
"""unreadable images one after the other at which reading ends: a folder is gone, not an image damaged"""


AT_ONCE = 16
"""images whose files a thread reads before it decodes them: with a call of the system between any two, decoding small
ones took a third longer"""


@dataclass(frozen=True)
class Reading:
    """Images that threads are reading."""

    parts: Sequence[Future[None]]

    def wait(self) -> None:
        """See `Pending`."""
        for part in self.parts:
            part.result()


@dataclass(frozen=True)
class _Name:
    """The name of an image, made only where a message has it."""

    source: Source
    i: int

    def __str__(self) -> str:
        return self.source.name(self.i)


class StreamedImages:
    """The images of a source at one size: see `Rows`.

    Args:
        source: of the encoded images.
        shape: (C, H, W) that they are brought to.
        workers: threads that read and decode.
        skip_share: of all images, that may be unreadable.
        in_memory: keep what was decoded, C H W bytes an image; else it is decoded anew each time.
    """

    def __init__(
        self, source: Source, shape: tuple[int, int, int], workers: int, skip_share: float, in_memory: bool = False
    ) -> None:
        self.source, self.shape, self.workers, self.skip_share = source, shape, workers, skip_share
        labels = source.index.labels
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.faults: dict[int, str] = {}
        self._kept = torch.empty(len(self), *shape, dtype=torch.uint8) if in_memory else None
        self._have = np.zeros(len(self) if in_memory else 0, dtype=bool)

    def __len__(self) -> int:
        return len(self.source.index)

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """Made when the first image is read, in the process that reads it."""
        return ThreadPoolExecutor(self.workers, thread_name_prefix="images")

    def read(self, indices: Tensor) -> Tensor:
        """See `Rows`."""
        out = torch.empty(len(indices), *self.shape, dtype=torch.uint8)
        self.start(indices, out).wait()
        return out

    def start(self, indices: Tensor, out: Tensor) -> Reading:
        """See `Rows`."""
        numbers = indices.tolist()
        size = -(-len(numbers) // (4 * self.workers)) or 1  # small parts, as some images take longer than others
        starts = range(0, len(numbers), size)
        return Reading([self.threads.submit(self._read, numbers[i : i + size], out[i : i + size]) for i in starts])

    def _read(self, numbers: Sequence[int], out: Tensor) -> None:
        """The images with these numbers to `out`."""
        for start in range(0, len(numbers), AT_ONCE):
            part, images = numbers[start : start + AT_ONCE], out[start : start + AT_ONCE]
            encoded = [self._encoded(i) for i in part]
            for image, i, content in zip(images, part, encoded, strict=True):
                if self._kept is None:
                    self.decode(i, image, content)
                    continue
                if not self._have[i]:
                    self.decode(i, self._kept[i], content)
                    self._have[i] = True  # after the image is whole: another thread may look
                image.copy_(self._kept[i])

    def _encoded(self, i: int) -> bytes | None:
        """The file of image `i`; None: it is not needed, or `decode` will find out why it cannot be read."""
        if i in self.faults or (self._kept is not None and self._have[i]):
            return None
        try:
            return self.source.read(i)
        except (OSError, ValueError):
            return None

    def decode(self, i: int, out: Tensor, content: bytes | None = None) -> None:
        """Image `i`, or the one that takes its place, to `out` (*shape) uint8. Raises as `Rows.read`.

        `content` is its file, if that has been read.
        """
        channels, height, width = self.shape
        place = i
        for _ in range(min(IN_A_ROW, len(self))):
            if place not in self.faults:
                try:
                    encoded = io.BytesIO(self.source.read(place) if content is None else content)
                    out.numpy()[...] = decode_image(encoded, _Name(self.source, place), height, width, channels)
                except UserError as error:
                    self.faults[place] = str(error)
                except (OSError, ValueError) as error:
                    self.faults[place] = f"image {self.source.name(place)} cannot be read: {error}"
                else:
                    return
            place, content = self._next(place), None
            if place == i:
                break
        raise UserError(f"{self.faults[i]}; nor can the ones after it that could take its place")

    def _next(self, i: int) -> int:
        """The number of the image that takes the place of `i`: the next one of its label, after the last the first."""
        if self.labels is None:
            return (i + 1) % len(self)
        order, place, start, end = self._by_label
        label = int(self.labels[i])
        position = int(place[i]) + 1
        return int(order[position if position < end[label] else start[label]])

    @cached_property
    def _by_label(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The numbers of all images in the order of their labels, the place of each there, and where labels begin and
        end; made when the first image is unreadable."""
        assert self.labels is not None
        order = np.argsort(self.labels.numpy(), kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        end = np.cumsum(np.bincount(self.labels.numpy()))
        return order, place, np.concatenate([[0], end[:-1]]), end
