"""Whether a run is to stop: all ranks ask after the same step, rank 0's answer counts, and all stop there."""

from __future__ import annotations

import time
from collections.abc import Callable

from toposampler.training.process_group import ProcessGroup

ShouldStop = Callable[[], str | None]

MINUTES = "training.minutes"
"""the reason to stop of a run that has trained for as long as it may"""
POLL_S = 0.25
"""seconds between two looks; every look is a word from rank 0 to all"""


def limited(should_stop: ShouldStop, minutes: float | None) -> ShouldStop:
    """`should_stop`, which also gives the reason `MINUTES` once `minutes` from now have passed; None: no limit."""
    if minutes is None:
        return should_stop
    end = time.monotonic() + 60 * minutes
    return lambda: should_stop() or (MINUTES if time.monotonic() >= end else None)


class Stopping:
    """Asks `should_stop` a few times a second, on every rank: it may have them wait for each other.

    Clocks of different ranks differ, so none looks at its own: rank 0 tells, with each answer, after how many steps to
    ask again.
    """

    def __init__(self, group: ProcessGroup, should_stop: ShouldStop) -> None:
        self._group, self._should_stop = group, should_stop
        self._seen: tuple[int, float] | None = None  # step and time of the last look
        self._next = 0

    def after(self, step: int) -> str | None:
        """Why to stop after generator step `step`, or None to continue; every rank calls this after every step."""
        if step < self._next:
            return None
        reason = self._should_stop()
        reason, self._next = self._group.first((reason, step + self._steps_to_the_next_look(step)))
        return reason

    def _steps_to_the_next_look(self, step: int) -> int:
        """Steps made in `POLL_S`, evaluated by those since the last look; at least 1."""
        before, self._seen = self._seen, (step, time.monotonic())
        if before is None:
            return 1
        return max(1, round((step - before[0]) * POLL_S / max(self._seen[1] - before[1], 1e-9)))
