"""Real samples for the loop from data that are read as they are needed: those of the next iteration are read beside
the computing of this one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toposampler.data.images import from_bytes
from toposampler.data.rows import Pending, Rows, fault_summary
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.training.process_group import ProcessGroup

if TYPE_CHECKING:
    from toposampler.training.loop import Loop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Expected:
    """Rows that are being read."""

    indices: Tensor
    images: Tensor
    pending: Pending


class Feed:
    """`feed[indices]` is what `tensor[indices]` is of data in memory: float images on the device.

    What `expect` announced is there already, or soon; else it is read now. So what a step sees never depends on what
    was announced. Images travel as bytes, on a GPU from pinned memory, and become numbers on the device.

    Args:
        rows: the data.
        device: where the images go.
        dtype: of the images there.
    """

    def __init__(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> None:
        self.rows, self.device, self.dtype = rows, device, dtype
        self._expected: _Expected | None = None
        self._faults: dict[int, str] = {}  # of all workers, as of the last `check`
        self._told: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The images with the numbers `indices` (...) int64: (..., *shape). Raises TrainingStoppedError if one cannot
        be read, nor another in its place."""
        flat = indices.flatten().cpu()
        expected, self._expected = self._expected, None
        if expected is None or not torch.equal(expected.indices, flat):
            expected = self._begin(flat)
        try:
            expected.pending.wait()
        except UserError as error:
            raise TrainingStoppedError(f"the data cannot be read: {error}") from None
        images = expected.images.to(self.device, non_blocking=True)
        return from_bytes(images).to(self.dtype).unflatten(0, indices.shape)

    def expect(self, indices: Tensor) -> None:
        """Begin to read the images that will be asked for next: `indices` (n,) on the CPU."""
        self._expected = self._begin(indices)

    def _begin(self, indices: Tensor) -> _Expected:
        images = torch.empty(len(indices), *self.rows.shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return _Expected(indices, images, self.rows.start(indices, images))

    def check(self, group: ProcessGroup) -> None:
        """Compare what the workers of `group` could not read; each calls it. Raises TrainingStoppedError, on all, if it
        is more than may be."""
        own = {i: fault for i, fault in dict(self.rows.faults).items() if i not in self._told}
        self._told.update(own)
        before = len(self._faults)
        for faults in group.all_values(own):
            self._faults |= faults
        if len(self._faults) == before:
            return
        n, share = len(self.rows), self.rows.skip_share
        summary = fault_summary(self._faults, n, share)
        if len(self._faults) > share * n:
            raise TrainingStoppedError(summary)
        if group.rank == 0:
            log.warning("%s; the next image of the same label takes the place of each", summary)


def expect_next(loops: Sequence[Loop]) -> None:
    """Have the feed that `loops` share begin to read what their next iterations will ask for.

    With `cluster.placement sharded` that depends on noise that is not drawn yet, so nothing is announced.
    """
    feed = loops[0].data
    if isinstance(feed, Feed) and not loops[0].placement.sharded:
        feed.expect(torch.cat([_next_rows(loop) for loop in loops]))


def _next_rows(loop: Loop) -> Tensor:
    """The numbers of this worker's rows in the next iteration, in the order in which `Loop` asks for them."""
    moves = loop.system.schedule(loop.step + 1, loop.config.critic_steps)
    batches, n = 1 + max(move.batch for move in moves), loop.batch_size_at(loop.step + 1)
    indices = copy.copy(loop.sampler).next(batches * n).view(batches, n)  # the copy moves on, the loop's stays
    return indices[:, loop.group.rank :: loop.group.size].flatten()
