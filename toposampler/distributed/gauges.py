"""What Prometheus finds on a node's metrics endpoint of the runs that train there: Ray's gauges, from their records.

| gauge, with `ray_` in front | of |
|---|---|
| `toposampler_generator_steps` | generator steps done |
| `toposampler_steps_per_second` | generator steps a second, over the newest records |
| `toposampler_off_manifold_rate` | share of samples off the data at the last evaluation: `off_manifold_0.05`, or |
| | `off_support_nn99` of data without a known geometry |
| `toposampler_active_generators` | generators that are active by the prior |

Tags: `run`, and `trial`, which is empty but for the trials of a sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ray.util.metrics import Gauge

from toposampler.background import Periodic
from toposampler.records import Record, read_records
from toposampler.training.progress import MAIN_METRIC, NEWEST, active_of_all, speed

LOOK_EVERY_S = 2.0
PREFIX = "toposampler_"
OFF_MANIFOLD = (MAIN_METRIC, "eval/off_support_nn99")
MEANINGS = {
    "generator_steps": "generator steps done",
    "steps_per_second": "generator steps a second",
    "off_manifold_rate": "share of samples off the data at the last evaluation",
    "active_generators": "generators that are active by the prior",
}

Set = Callable[[str, float, Mapping[str, str]], None]
"""sets the gauge of a name to a value, with tags"""


@contextmanager
def gauges(run: str, folders: Mapping[str, Path]) -> Iterator[None]:
    """Have Ray's gauges follow the records of `run` while the block runs: those in each of `folders`, by its trial."""
    followed = [Followed({"run": run, "trial": trial}, folder) for trial, folder in folders.items()]

    def look() -> None:
        for one in followed:
            one.refresh()

    with Periodic(look, LOOK_EVERY_S):
        yield


class Followed:
    """The records of one run or trial, from those that are written from now on, as gauges with `tags`."""

    def __init__(self, tags: Mapping[str, str], folder: Path, show: Set | None = None) -> None:
        self._tags, self._path, self._show = tags, folder / "metrics.jsonl", show or _set
        earlier = read_records(self._path)
        self._offset = earlier[-1].end if earlier else 0
        self._newest: deque[Record] = deque(maxlen=NEWEST)

    def refresh(self) -> None:
        """Read the new records, and set the gauges to the newest state."""
        for record in read_records(self._path, self._offset):
            self._offset = record.end
            self._newest.append(record)
            for name, value in self._state(record).items():
                self._show(name, value, self._tags)

    def _state(self, record: Record) -> dict[str, float]:
        """What is known at `record`, by the gauges' names."""
        state = {"generator_steps": float(record.step)}
        if (pace := speed(self._newest[0], record)) is not None:
            state["steps_per_second"] = pace
        if (rate := next((record.metrics[name] for name in OFF_MANIFOLD if name in record.metrics), None)) is not None:
            state["off_manifold_rate"] = rate
        if (counts := active_of_all(record)) is not None:
            state["active_generators"] = float(counts[0])
        return state


@cache
def _gauge(name: str) -> Gauge:
    return Gauge(PREFIX + name, MEANINGS[name], ("run", "trial"))


def _set(name: str, value: float, tags: Mapping[str, str]) -> None:
    _gauge(name).set(value, dict(tags))
