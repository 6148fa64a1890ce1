"""The lines of a run's `metrics.jsonl`: what training measured, one record a line, append-only.

The file is the one source of what happened: the bar on the terminal and MLflow both read it, each from the byte it
has come to, so that either may stop, start again or lag behind without losing a record.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What was measured at one generator step."""

    step: int
    """generator steps done"""
    time: float
    """when, in seconds since 1970"""
    metrics: dict[str, float]
    """name, such as `critic/wasserstein`, to value"""
    end: int
    """where its line ends in the file (bytes): the offset to read on from"""


def read_records(path: Path, offset: int = 0) -> list[Record]:
    """The complete records of `path` from byte `offset` on; none while the file is absent.

    A last line without its newline is still being written, or was cut by a kill: it is left for a later call. A line
    that is no record, written by somebody else, is skipped, with one warning for the file.
    """
    return [record for record, _ in _lines(path, offset) if record is not None]


def _lines(path: Path, offset: int = 0) -> list[tuple[Record | None, int]]:
    """Each complete line of `path` from byte `offset` on, as a record if it is one, and where it ends (bytes)."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return []
    lines = []
    for line in content.split(b"\n")[:-1]:
        offset += len(line) + 1
        record = _record(line, offset)
        if record is None:
            _warn_of_foreign_lines(path)
        lines.append((record, offset))
    return lines


def _record(line: bytes, end: int) -> Record | None:
    try:
        content = json.loads(line)
        step, seconds, metrics = content["step"], float(content["time"]), content["metrics"]
        if len(content) > 3 or type(step) is not int or any(type(v) not in (int, float) for v in metrics.values()):
            return None
        return Record(step, seconds, {name: float(value) for name, value in metrics.items()}, end)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


@cache
def _warn_of_foreign_lines(path: Path) -> None:
    log.warning("%s holds lines that are no records of toposampler; they are skipped", path)


def drop_records_after(path: Path, step: int) -> None:
    """Cut off what `path`, if there is such a file, holds of later steps than `step`: a run that went back there."""
    kept = [record.end for record in read_records(path) if record.step <= step]
    if path.exists():
        os.truncate(path, kept[-1] if kept else 0)


class RecordWriter:
    """Appends records to `path`; a line is whole on disk when `write` returns.

    A resumed run passes again over the steps after its checkpoint, with the same results: what is recorded already is
    not written twice. A line that a kill cut short is removed.
    """

    def __init__(self, path: Path) -> None:
        lines = _lines(path)
        self.last_step = next((record.step for record, _ in reversed(lines) if record is not None), 0)
        self._file = path.open("ab")
        self._file.truncate(lines[-1][1] if lines else 0)

    def write(self, step: int, metrics: Mapping[str, float], measured: float | None = None) -> None:
        """Record `metrics` at `step`, unless that step is recorded. Steps must not fall.

        `measured` is when, in seconds since 1970; default: now.
        """
        if step > self.last_step:
            line = {"step": step, "time": time.time() if measured is None else measured, "metrics": dict(metrics)}
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.last_step = step

    def close(self) -> None:
        """Close the file."""
        self._file.close()
