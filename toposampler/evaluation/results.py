"""Draws put together: each metric's mean and interval, of each row and over seeds; as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from toposampler.evaluation.suite import Findings
from toposampler.metrics.catalog import direction, kind_of

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """What independent values say of their expectation."""

    values: list[float]

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def half_width(self) -> float | None:
        """Half of Student's 95 % interval, which has the mean in its middle; None: there is one value only."""
        return None if len(self.values) == 1 else self._half_width_of(len(self.values))

    def _half_width_of(self, n: int) -> float:
        """Half of the interval of `n` values that scatter as these do."""
        return float(stdtrit(n - 1, (1 + LEVEL) / 2)) * stdev(self.values) / math.sqrt(n)

    def needed(self, most: int) -> int:
        """How many values that scatter as these do make half of the interval no larger than the mean; at most `most`,
        and there are two values at least."""
        enough = (n for n in range(len(self.values), most) if self._half_width_of(n) <= abs(self.mean))
        return next(enough, most)

    @property
    def interval(self) -> dict[str, float]:
        """Its ends, `low` and `high`; empty where there is none."""
        half = self.half_width
        return {} if half is None else {"low": self.mean - half, "high": self.mean + half}


@dataclass(frozen=True)
class Row:
    """All metrics of one subject, or of several models that differ by their seed."""

    name: str
    metrics: dict[str, Estimate]
    findings: list[Findings]
    """of each draw; none for a row over seeds"""


def row(name: str, findings: Sequence[Findings]) -> Row:
    """The row of a subject from all its draws; a metric that not every draw has is left out."""
    names = [key for key in findings[0].metrics if all(key in found.metrics for found in findings)]
    return Row(name, {key: Estimate([found.metrics[key] for found in findings]) for key in names}, list(findings))


def over_seeds(name: str, rows: Sequence[Row]) -> Row:
    """The row of several models that differ by their seed: each counts by its own mean over draws."""
    names = [key for key in rows[0].metrics if all(key in other.metrics for other in rows)]
    return Row(name, {key: Estimate([other.metrics[key].mean for other in rows]) for key in names}, [])


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each row and metric; `low` and `high` are empty where there is one value only. `better` says which
    values are, as the table does."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["row", "metric", "mean", "low", "high", "better"], lineterminator="\n")
    writer.writeheader()
    for of in rows:
        for key, value in of.metrics.items():
            about = {"row": of.name, "metric": key, "better": direction(key)}
            writer.writerow({**about, "mean": value.mean, **value.interval})
    return text.getvalue()


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """`about`, what each metric means and which values are better, and of each row its metrics with their values, and
    what the classifier saw in the first draw."""
    kinds = {key: kind for of in rows for key in of.metrics if (kind := kind_of(key)) is not None}
    metrics = {key: {"better": kind.direction, "meaning": kind.meaning} for key, kind in kinds.items()}
    return json.dumps({**about, "metrics": metrics, "rows": [_content(of) for of in rows]}, indent=2)


def _content(of: Row) -> dict[str, Any]:
    metrics = {key: {"mean": value.mean, **value.interval, "values": value.values} for key, value in of.metrics.items()}
    seen = of.findings[0].by_class if of.findings else None
    return {"name": of.name, "metrics": metrics, "first_draw_by_class": None if seen is None else asdict(seen)}
