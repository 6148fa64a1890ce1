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

from scipy.stats import t as student

from toposampler.evaluation.suite import Findings

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
        n = len(self.values)
        if n == 1:
            return None
        return float(student.ppf((1 + LEVEL) / 2, n - 1)) * stdev(self.values) / math.sqrt(n)

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
    """A line for each row and metric; `low` and `high` are empty where there is one value only."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["row", "metric", "mean", "low", "high"], lineterminator="\n")
    writer.writeheader()
    for of in rows:
        for key, value in of.metrics.items():
            writer.writerow({"row": of.name, "metric": key, "mean": value.mean, **value.interval})
    return text.getvalue()


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """`about`, and of each row its metrics with their values, and what the classifier saw in the first draw."""
    return json.dumps({**about, "rows": [_content(of) for of in rows]}, indent=2)


def _content(of: Row) -> dict[str, Any]:
    metrics = {key: {"mean": value.mean, **value.interval, "values": value.values} for key, value in of.metrics.items()}
    seen = of.findings[0].by_class if of.findings else None
    return {"name": of.name, "metrics": metrics, "first_draw_by_class": None if seen is None else asdict(seen)}
