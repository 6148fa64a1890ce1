"""What the constants of a configuration do over a run: which depend on its length, and which do not end within it.

A section of a configuration declares the constants that change from step to step, by `Section.schedules`. Two questions
are answered from that: whether a run is long enough for what its constants are to do, and whether a run that is
lengthened would have had the same constants so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from pydantic import BaseModel


@dataclass(frozen=True)
class Schedule:
    """A constant that changes from step to step."""

    key: str
    """of the configuration, dotted, that says when or how fast it changes"""
    value: object
    """of the key"""
    follows_length_from: float | None = None
    """share of the run after which the constant depends on the length of the run; None: it depends on the number of
    steps done alone"""
    fault: str | None = None
    """what the constant does not reach in a run of this length, and what would be right; None: nothing"""

    def depends_on_length(self, done: int, length: int) -> bool:
        """Whether one of the first `done` steps of a run of `length` steps has a value that a longer run would not."""
        return self.follows_length_from is not None and done - 1 >= self.follows_length_from * length


def remaining(step: int, steps: int) -> float:
    """What is left of a change that takes `steps` steps along half a cosine, after `step` of them: 1 to 0, then 0."""
    return (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


@runtime_checkable
class Scheduled(Protocol):
    """A section with constants that change from step to step."""

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """Those of a run of `steps` generator steps, with keys relative to the section; see `Section.schedules`."""
        ...


def schedules(config: BaseModel, steps: int, prefix: str = "") -> Iterator[Schedule]:
    """All that change over a run of `steps` generator steps of what `config` and the sections below it declare."""
    if isinstance(config, Scheduled):
        yield from (replace(schedule, key=f"{prefix}{schedule.key}") for schedule in config.schedules(steps))
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from schedules(value, steps, f"{prefix}{name}.")
