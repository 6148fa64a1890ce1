"""The table of results in README.md, made from the committed results of the benchmarks: `python benchmarks/tables.py`.

Each row is one task and one measure: the systems of this package, the best of the other systems under the same budget,
and what papers report. Parentheses hold the worst seed. What papers report was measured with networks and budgets of
their own.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import mnist
from table_text import markdown

RESULTS = Path(__file__).parent / "results"
OWN = ("dmgan_pl", "dmgan", "topo_dmgan", "toposampler", "component_gan")
"""the systems of the two papers, and this project's own; all others are baselines"""
TENTH = "component_gan, a tenth of the budget"
"""rows of benchmarks/results/family_tenth"""
HEAD = ("task", "measure", "ours", "best baseline here", "reported", "cost of ours, one run")

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
    more: bool = False
    """more is better"""
    text: str = "{:.4f}"

    def row(self) -> list[str]:
        """The cells of the row."""
        own = self._order([system for system in self.values if system in OWN])[:1]
        own += [TENTH] if TENTH in self.values else []
        others = self._order([system for system in self.values if system not in (*OWN, TENTH)])
        cost = "; ".join(f"{fmean(self.seconds[system]):,.0f} s" for system in own if self.seconds.get(system))
        ours = "; ".join(map(self._cell, own))
        return [self.name, self.measure, ours, self._cell(others[0]) if others else "-", self.reported, cost or "-"]

    def _order(self, systems: Sequence[str]) -> list[str]:
        return sorted(systems, key=lambda system: fmean(self.values[system]), reverse=self.more)

    def _cell(self, system: str) -> str:
        """`system: mean (worst), number of seeds`."""
        values = self.values[system]
        mean, worst = (self.text.format(value) for value in (fmean(values), (min if self.more else max)(values)))
        seeds = f"{len(values)} seed" + "s" * (len(values) > 1)
        name, comma, budget = system.partition(",")
        spread = f" ({worst})" if len(values) > 1 else ""
        return f"`{name}`{comma}{budget} {mean}{spread}, {seeds}"


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


def _family(data: str, task: str, measure: str, key: str, **options: Any) -> Task:
    rows = _rows(RESULTS / "family" / f"{data}.json")
    tenth = RESULTS / "family_tenth" / f"{data}.json"
    rows += [row | {"system": TENTH} for row in (_rows(tenth) if tenth.exists() else []) if row["system"] in OWN]
    return Task(task, measure, _values(rows, key, _system), _values(rows, "seconds", _system), **options)


def tasks() -> list[Task]:
    """The rows of the table, from the results that are committed."""
    lines = [row for row in _rows(RESULTS / "lines.json") if row["data"] == "unbalanced"]
    spheres = [row for row in _rows(RESULTS / "spheres.json", "table") if row["data"] == "spheres100"]
    with (RESULTS / "mnist.csv").open() as file:
        runs = mnist.by_system(csv.DictReader(file))
    digits = {system: runs[system]["jsd_nats_conf0.8"] for system in mnist.SYSTEMS}
    return [
        Task("four segments, masses .7 .1 .1 .1", "share of samples off the data by > .05",
             _values(lines, "off_manifold_0.05", _system), _values(lines, "seconds", _system),
             "authors' program, run here: DMGAN-PL .048, WGAN-GP .250"),
        _family("lines_unbalanced", "the same", "score", "score", text="{:.3f}"),
        _family("ring", "ring of 8 Gaussians", "score", "score", text="{:.3f}"),
        _family("grid", "grid of 25 Gaussians", "score", "score", text="{:.3f}"),
        _family("grid", "the same", "share within 3 sd of a mode", "high_quality_3sd_2500", more=True,
                text="{:.1%}", reported="VEEGAN 40 %, PacGAN 94 %"),
        _family("grid9", "3 x 3 Gaussians, masses 9 to 1", "score", "score", text="{:.3f}"),
        Task("two 100-spheres", "share of samples off the data by > .1 R",
             _values(spheres, "off_manifold_0.1R", _system), _values(spheres, "seconds", _system)),
        _family("digits", "digits 8 x 8", "score", "score", text="{:.3f}"),
        Task("MNIST, 256,000 images seen", "JSD of sure samples, nats", digits, {},
             "DMGAN-PL .0006, WGAN-GP .0013 (13.3 million images)"),
    ]  # fmt: skip


def table() -> list[str]:
    """The lines of the Markdown table."""
    return markdown(HEAD, (task.row() for task in tasks()))
