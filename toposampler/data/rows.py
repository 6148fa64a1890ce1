"""Samples that are read when they are needed: what training asks of data that does not fit in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """N images, by their numbers. Any number of processes get the same images by the same numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64."""
        ...

    @property
    def faults(self) -> Mapping[int, str]:
        """Numbers of the images that were found to be unreadable, in this process and so far, with the reason; the next
        one of the same label has taken the place of each."""
        ...

    @property
    def skip_share(self) -> float:
        """Share of all images that may be unreadable."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def read(self, indices: Tensor) -> Tensor:
        """The images with these numbers (n,) int64, on the CPU: (n, *shape) uint8. Raises UserError if there is
        none that can be read in place of one."""
        ...

    def start(self, indices: Tensor, out: Tensor) -> Pending:
        """Begin to read as `read` into `out` (n, *shape) uint8, beside what the caller does."""
        ...


class Pending(Protocol):
    """Images that are being read."""

    def wait(self) -> None:
        """Return when all have been read. Raises as `Rows.read`."""
        ...


def fault_summary(faults: Mapping[int, str], n: int, share: float) -> str:
    """A line on the unreadable images among `n`, of which at most a `share` may be."""
    first = faults[min(faults)]
    some = f"{len(faults):,} of {n:,} images cannot be read"
    return f"{some} ({len(faults) / n:.2%}; data.skip_share allows {share:.2%}); the first: {first}"
