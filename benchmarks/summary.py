"""The table of results in README.md, made from the committed results of the benchmarks: `python benchmarks/tables.py`.

Each row is one task and one measure: the systems of this package, the best of the other systems under the same budget,
and what papers report. Parentheses hold the worst seed. What papers report was measured with networks and budgets of
their own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import mnist
from table_text import markdown

RESULTS = Path(__file__).parent / "results"
PAPERS = ("dmgan_pl", "dmgan", "toposampler")
"""the systems of the two papers"""
NEITHER = ("topo_dmgan",)
"""a combination of the two, which no paper has"""
WITHIN = "share within 3 sd of a mode; perfect 98.9 %"
PERFECT = 1 - math.exp(-9 / 2)
"""share of a two-dimensional Gaussian within 3 standard deviations"""
OWN = "component_gan"
"""this project's own; all others are baselines"""
HEAD = (
    "task", "measure", "`component_gan`, of points a tenth of the real samples", "best of the papers' systems",
    "best baseline here", "reported", "seconds: `component_gan`, papers', baseline",
)  # fmt: skip

Values = Mapping[str, Sequence[float]]
"""the measure's values over seeds, by system"""


@dataclass(frozen=True)
class Task:
    """A row of the table."""

    name: str
    measure: str
    values: Values
    seconds: Values
    """of one core, by system"""
    reported: str = "-"
    perfect: float = 0.0
    """the best value: systems are ordered by the distance from it"""
    text: str = "{:.4f}"

    def row(self) -> list[str]:
        """The cells of the row."""
        own = [system for system in self.values if system == OWN]
        papers = self._order([system for system in self.values if system in PAPERS])[:1]
        baselines = self._order([system for system in self.values if system not in (*PAPERS, *NEITHER, OWN)])[:1]
        shown = own, papers, baselines
        cells = [self._cell(systems[0]) if systems else "-" for systems in shown]
        seconds = [f"{fmean(self.seconds[s[0]]):,.0f}" if s and self.seconds.get(s[0]) else "-" for s in shown]
        return [self.name, self.measure, *cells, self.reported, ", ".join(seconds)]

    def _order(self, systems: Sequence[str]) -> list[str]:
        return sorted(systems, key=lambda system: abs(fmean(self.values[system]) - self.perfect))

    def _cell(self, system: str) -> str:
        """`system`: mean (worst), number of seeds; this project's own has a column of its own, which names it."""
        values = self.values[system]
        farthest = max(values, key=lambda value: abs(value - self.perfect))
        mean, worst = (self.text.format(value) for value in (fmean(values), farthest))
        seeds = f"{len(values)} seed" + "s" * (len(values) > 1)
        name = "" if system == OWN else f"`{system}` "
        return f"{name}{mean}{f' ({worst})' if len(values) > 1 else ''}, {seeds}"


def _rows(path: Path, key: str = "rows") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())[key]
    return rows


def _values(rows: Sequence[Mapping[str, Any]], measure: str, name: Callable[[Mapping[str, Any]], str]) -> Values:
    """`measure` of the rows, by system. Rows of real data, and those without the measure, are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if "real" not in name(row) and row.get(measure) is not None:
            values.setdefault(name(row), []).append(float(row[measure]))
    return values


def _system(row: Mapping[str, Any]) -> str:
    return str(row["system"])


def _family(data: str, task: str, measure: str, key: str, text: str = "{:.3f}", **options: Any) -> Task:
    """Rows of `family`, and of `family_tenth` this project's own; of what the first has not, all of the second."""
    paths = [RESULTS / folder / f"{data}.json" for folder in ("family", "family_tenth")]
    whole, tenth = (_rows(path) if path.exists() else [] for path in paths)
    own = [row for row in tenth or whole if row["system"] == OWN]
    rows = [row for row in whole or tenth if row["system"] != OWN] + own
    return Task(task, measure, _values(rows, key, _system), _values(rows, "seconds", _system), text=text, **options)


def tasks() -> list[Task]:
    """The rows of the table, from the results that are committed."""
    lines = [row for row in _rows(RESULTS / "lines.json") if row["data"] == "unbalanced"]
    spheres = [row for row in _rows(RESULTS / "spheres.json", "table") if row["data"] == "spheres100"]
    with (RESULTS / "mnist.csv").open() as file:
        runs = mnist.by_system(csv.DictReader(file))
    digits = {system: runs[system]["jsd_nats_conf0.8"] for system in mnist.SYSTEMS}
    segments, off = "four segments, masses .7 .1 .1 .1", "share of samples off the data by >"
    own = _family("lines_unbalanced", segments, "", "off_manifold_0.05")
    far = _family("spheres100", "two 100-spheres", f"{off} .1 R", "off_manifold_0.1", text="{:.4f}")
    return [
        _family("lines_unbalanced", segments, "score", "score"),
        Task("the same", f"{off} .05", {**_values(lines, "off_manifold_0.05", _system), OWN: own.values[OWN]},
             {**_values(lines, "seconds", _system), OWN: own.seconds[OWN]},
             "authors' program, run by us: DMGAN-PL .048 (3 seeds), WGAN-GP .250 (1 seed)"),
        _family("circles", "two nested circles", "score", "score"),
        _family("ring", "ring of 8 Gaussians", "score", "score"),
        _family("grid", "grid of 25 Gaussians", "score", "score"),
        _family("grid", "the same", WITHIN, "high_quality_3sd_2500", "{:.1%}", perfect=PERFECT,
                reported="VEEGAN 40 %, GAN 95 %, PacGAN 94 %"),
        _family("grid9", "9 Gaussians, masses 9 to 1", "score", "score"),
        _family("grid25_unequal", "25 Gaussians, masses 1 to 25", "score", "score"),
        _family("grid100", "100 Gaussians", WITHIN, "high_quality_3sd_2500", "{:.1%}", perfect=PERFECT,
                reported="ParticleGAN 98.9 %"),
        _family("spheres", "two spheres", "score", "score"),
        replace(far, values={**_values(spheres, "off_manifold_0.1R", _system), **far.values},
                seconds={**_values(spheres, "seconds", _system), **far.seconds}),
        _family("digits", "digits 8 x 8", "score", "score"),
        Task("MNIST, 256,000 images seen", "JSD of sure samples, nats", digits, {},
             "DMGAN-PL .0006, WGAN-GP .0013 (13.3 million images)"),
    ]  # fmt: skip


def table() -> list[str]:
    """The lines of the Markdown table."""
    return markdown(HEAD, (task.row() for task in tasks()))
