"""How far a run has come, told from its `metrics.jsonl`: one bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Protocol, Self, TextIO

from tqdm import tqdm

from toposampler.metrics.masses import least_active
from toposampler.records import Record, read_records

MAIN_METRIC = "eval/off_manifold_0.05"
MASS = "mass/"
"""before the number of a generator: its share of the prior"""
ACTIVE_IN_THE_MEAN, GENERATORS = "active_generators", "generators"
"""in the records of several runs: how many generators each has active, in the mean, and the most that one has"""
NEWEST = 20
"""records that speed is measured over: older ones may lie before a restart"""


class Display(Protocol):
    """What progress is shown on."""

    def show(self, step: int, speed: float | None, metric: str = "") -> None:
        """Tell the steps done, the steps a second (None: not known yet) and the main metric as text."""
        ...

    def close(self) -> None:
        """Show the newest state, whatever the pace."""
        ...


class Bar:
    """One line on a terminal, redrawn in place; it counts `noun`s."""

    def __init__(self, stream: TextIO, first_step: int, total_steps: int, noun: str = "step") -> None:
        self._bar = tqdm(file=stream, initial=first_step, total=total_steps, unit=f" {noun}s", dynamic_ncols=True)

    def show(self, step: int, speed: float | None, metric: str = "") -> None:
        self._bar.set_postfix_str(metric, refresh=False)
        self._bar.update(step - self._bar.n)  # tqdm measures the speed itself, more smoothly

    def close(self) -> None:
        self._bar.close()


class Lines:
    """A line every few seconds, for the logs of jobs, where a bar would be a thousand lines; it counts `noun`s."""

    def __init__(self, stream: TextIO, total_steps: int, seconds: float = 10.0, noun: str = "step") -> None:
        self._stream = stream
        self._total_steps = total_steps
        self._noun = noun
        self._seconds = seconds
        self._printed_at = -seconds
        self._waiting: str | None = None

    def show(self, step: int, speed: float | None, metric: str = "") -> None:
        parts = [f"{self._noun} {step:,}/{self._total_steps:,}"]
        if speed:
            left = timedelta(seconds=round((self._total_steps - step) / speed))
            number = f"{speed:,.3g}" if speed < 100 else f"{speed:,.0f}"
            parts += [f"{number} {self._noun}s/s", f"{left} left"]
        self._waiting = "  ".join([*parts, metric]).rstrip()
        if time.monotonic() - self._printed_at >= self._seconds:
            self.close()

    def close(self) -> None:
        if self._waiting is not None:
            print(self._waiting, file=self._stream, flush=True)
            self._printed_at = time.monotonic()
            self._waiting = None


class Progress:
    """Follows the `metrics.jsonl` of one run; `refresh()` shows what has been added since the last call."""

    def __init__(self, path: Path, total_steps: int, stream: TextIO) -> None:
        self._path = path
        earlier = read_records(path)  # a resumed run starts here
        self._offset = earlier[-1].end if earlier else 0
        self._newest: deque[Record] = deque(maxlen=NEWEST)
        self._metric, self._metric_step, self._active = "", 0, ""
        first_step = earlier[-1].step if earlier else 0
        self._display: Display = Bar(stream, first_step, total_steps) if stream.isatty() else Lines(stream, total_steps)

    def refresh(self) -> None:
        """Read the new records and show the newest state."""
        for record in read_records(self._path, self._offset):
            self._offset = record.end
            self._newest.append(record)
            self._active = generators_at_work(record) or self._active
            if metric := main_metric(record):
                self._metric, self._metric_step = metric, record.step
            self._display.show(record.step, speed(self._newest[0], record), self._latest(record.step))

    def _latest(self, step: int) -> str:
        """The active generators, and the main metric as it was evaluated last; it says when, unless at `step`: at the
        end it is not the result's."""
        earlier = f" at step {self._metric_step:,}" if self._metric and self._metric_step != step else ""
        return "  ".join(filter(None, [self._active, self._metric + earlier]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()


def speed(first: Record, last: Record) -> float | None:
    """Generator steps a second between two records; None where no time has passed."""
    seconds = last.time - first.time
    return (last.step - first.step) / seconds if seconds > 0 else None


def of_runs(recorded: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of several runs as those of one record: their means.

    Generators have no order that runs share, so that a mean of the masses of their c-th ones says nothing: in their
    place it is told how many are active.
    """
    counts = [count for metrics in recorded if (count := _active(metrics)) is not None]
    means = {name: fmean(of[name] for of in recorded) for name in recorded[0] if not name.startswith(MASS)}
    if counts:
        means[ACTIVE_IN_THE_MEAN] = fmean(active for active, _ in counts)
        means[GENERATORS] = float(max(of for _, of in counts))
    return means


def active_of_all(record: Record) -> tuple[float, int] | None:
    """How many generators are active by the prior, of several runs in the mean, and how many there are; None where
    there is no prior."""
    if ACTIVE_IN_THE_MEAN in record.metrics:
        return record.metrics[ACTIVE_IN_THE_MEAN], int(record.metrics[GENERATORS])
    return _active(record.metrics)


def _active(metrics: Mapping[str, float]) -> tuple[int, int] | None:
    masses = [value for name, value in metrics.items() if name.startswith(MASS)]
    return (sum(mass > least_active(len(masses)) for mass in masses), len(masses)) if masses else None


def generators_at_work(record: Record) -> str:
    """How many generators are active by the prior, such as `4 of 10 generators active`; empty where there is none."""
    if (counts := active_of_all(record)) is None:
        return ""
    mean = " in the mean" if ACTIVE_IN_THE_MEAN in record.metrics else ""
    return f"{counts[0]:.3g} of {counts[1]} generators active{mean}"


def main_metric(record: Record) -> str:
    """The metric people look at, as text such as `off_manifold_0.05 0.012`; empty where the record has none."""
    evaluated = [name for name in record.metrics if name.startswith("eval/")]
    if not evaluated:
        return ""
    name = MAIN_METRIC if MAIN_METRIC in evaluated else evaluated[0]
    return f"{name.removeprefix('eval/')} {record.metrics[name]:.3g}"
