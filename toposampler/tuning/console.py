"""A sweep on the terminal: a line for each trial that ends, now and then those that run, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from toposampler.tuning.config import Sweep
from toposampler.tuning.ledger import Entry
from toposampler.tuning.spaces import Values
from toposampler.tuning.trial import trial_name


class Board:
    """Shows how the trials of `sweep` go, given those that have ended under an earlier driver.

    Time left is by the time that a trial took on average since this driver began: rough while few have ended.
    """

    def __init__(self, sweep: Sweep, earlier: Sequence[Entry]) -> None:
        self._sweep = sweep
        self._entries = {entry.number: entry for entry in earlier}
        self._ended_before = sum(entry.outcome != "running" for entry in earlier)
        self._began = time.monotonic()

    def note(self, entry: Entry) -> None:
        """Take note of a trial as it stands now, and say so if it has ended."""
        self._entries[entry.number] = entry
        if entry.outcome != "running":
            print(f"{describe(self._sweep, entry)}  [{self._progress()}]", flush=True)

    def show(self) -> None:
        """The trials that run now."""
        running = [entry for entry in list(self._entries.values()) if entry.outcome == "running"]
        if running:
            print("\n".join(f"  now: {describe(self._sweep, entry)}" for entry in running), flush=True)

    def _progress(self) -> str:
        ended = sum(entry.outcome != "running" for entry in self._entries.values())
        here, to_come = ended - self._ended_before, self._sweep.config.trials - ended
        done = f"{ended} of {self._sweep.config.trials} ended"
        if here < 1 or to_come < 1:
            return done
        seconds = (time.monotonic() - self._began) / here * to_come
        return f"{done}, about {timedelta(seconds=round(seconds))} left"


def describe(sweep: Sweep, entry: Entry) -> str:
    """One trial in one line: how it stands, its objectives, its values."""
    objectives = ", ".join(f"{name} {value:.4g}" for name, value in (entry.objectives or {}).items()) or "no report yet"
    state = f"{entry.outcome} at step {entry.steps:,} of {sweep.steps:,}"
    said = f": {entry.note}" if entry.note else ""
    return f"{trial_name(entry.number)}  {state}{said}  {objectives}  ({in_short(entry.values)})"


def in_short(values: Values) -> str:
    """Searched values in one line."""
    return ", ".join(f"{short(key)} {text(value)}" for key, value in values.items())


def short(key: str) -> str:
    """A dotted key without the section that all have."""
    return key.removeprefix("system.")


def text(value: object) -> str:
    """A value with the digits that matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(sweep: Sweep, entries: Sequence[Entry], winner: Entry | None) -> Iterator[str]:
    """All trials by their scores, the best one first, as a Markdown table; `winner` is marked, which of a race need not
    have the best score."""
    objectives, keys = list(sweep.config.objectives), list(sweep.space)
    order = {"finished": 0, "stopped": 1, "running": 2, "failed": 3}

    def place(entry: Entry) -> tuple[int, float, float]:
        reached = entry.steps if entry.outcome == "stopped" else 0
        return order[entry.outcome], -reached, sweep.sign * (entry.objectives or {}).get(sweep.metric, 0.0)

    rows = [["trial", "outcome", "steps", *objectives, *map(short, keys)]]
    for entry in sorted(entries, key=place):
        name = f"{entry.number}" + (" (best)" if winner and entry.number == winner.number else "")
        found = [f"{(entry.objectives or {})[o]:.4f}" if entry.objectives else "-" for o in objectives]
        values = [text(entry.values[key]) if key in entry.values else "-" for key in keys]
        rows.append([name, entry.outcome, f"{entry.steps:,}", *found, *values])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for i, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if i == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
