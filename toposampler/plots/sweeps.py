"""What a sweep found: objectives against what was searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from toposampler.plots.style import OKABE_ITO, new_figure

BEST, STOPPED, COLORS = OKABE_ITO[3], "0.75", "viridis"
ABSENT = "absent"
"""where a key does not exist in a trial"""


@dataclass(frozen=True)
class Point:
    """One trial of a sweep."""

    values: Mapping[str, object]
    """searched values, numbers or others, by key; a key may be absent"""
    objectives: Sequence[float]
    complete: bool
    """trained to its end, not stopped early"""
    best: bool


def parallel_coordinates(
    points: Sequence[Point], keys: Sequence[str], log: Sequence[bool], objective: str, title: str
) -> Figure:
    """Every trial as a line through its values, colored by its first objective; the best one thick, stopped ones thin.

    An axis is that of its key's values, by their logarithm where `log` says so, or lists what is no number.
    """
    figure = new_figure(1.7 * (len(keys) + 1) + 1.0, 4.4, title)
    axes = figure.subplots()
    columns = [_Scale([p.values.get(key) for p in points], log=by_log) for key, by_log in zip(keys, log, strict=True)]
    results = _Scale([p.objectives[0] for p in points if p.complete] or [p.objectives[0] for p in points], log=False)
    colors = ScalarMappable(Normalize(results.low, results.high), COLORS)
    for point in sorted(points, key=lambda p: (p.best, p.complete)):
        heights = [scale.height(point.values.get(key)) for scale, key in zip(columns, keys, strict=True)]
        heights.append(min(1.12, results.height(point.objectives[0])))
        color = BEST if point.best else colors.to_rgba(np.asarray(point.objectives[0])) if point.complete else STOPPED
        axes.plot(range(len(heights)), heights, color=color, linewidth=2.5 if point.best else 1.2, alpha=0.9)
    paper = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"}
    for i, scale in enumerate([*columns, results]):
        axes.axvline(i, color="0.2", linewidth=0.8)
        for height, label in scale.ticks():
            axes.annotate(label, (i, height), (4, 0), textcoords="offset points", fontsize=7, va="center", bbox=paper)
    axes.set_xticks(range(len(keys) + 1), [*(_broken(key) for key in keys), objective], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.17)
    axes.spines[:].set_visible(False)
    handles = [Line2D([], [], color=BEST, linewidth=2.5, label="best")]
    if not all(p.complete for p in points):
        handles.append(Line2D([], [], color=STOPPED, label="stopped early"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8, frameon=False)
    figure.colorbar(colors, ax=axes, label=f"{objective} of complete trials", pad=0.02)
    return figure


def objective_by_key(
    points: Sequence[Point], keys: Sequence[str], log: Sequence[bool], objective: str, title: str
) -> Figure:
    """The first objective against each key in a panel of its own; hollow: stopped early, so not comparable."""
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    figure = new_figure(3.3 * columns + 0.4, 2.7 * rows + 0.7, title)
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, key, by_log in zip(panels, keys, log, strict=False):
        having = [p for p in points if key in p.values]
        _objective_panel(axes, having, [p.values[key] for p in having], by_log)
        axes.set_xlabel(key, fontsize=9)
    for axes in panels[::columns]:
        axes.set_ylabel(objective, fontsize=9)
    for unused in panels[len(keys) :]:
        unused.remove()
    figure.legend(handles=_marks(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def pareto_front(points: Sequence[Point], front: Sequence[bool], names: tuple[str, str], title: str) -> Figure:
    """The first two objectives of complete trials against each other; those that none beats in all are joined."""
    figure = new_figure(5.6, 4.4, title)
    axes = figure.subplots()
    complete = [((p.objectives[0], p.objectives[1]), on) for p, on in zip(points, front, strict=True) if p.complete]
    xy = [place for place, on in complete if not on]
    axes.scatter([x for x, _ in xy], [y for _, y in xy], color="0.6", s=25, label="beaten by another in all objectives")
    line = sorted(place for place, on in complete if on)
    axes.plot([x for x, _ in line], [y for _, y in line], "o-", color=BEST, label="Pareto front")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def best_over_steps(
    curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], objective: str, title: str
) -> Figure:
    """The best objective so far, (steps, values) of each repeat of each named search, over all trials' steps."""
    figure = new_figure(6.6, 4.2, title)
    axes = figure.subplots()
    for i, (name, repeats) in enumerate(curves.items()):
        for j, (steps, values) in enumerate(repeats):
            axes.step(steps, values, where="post", color=OKABE_ITO[i], alpha=0.8, linewidth=1.3,
                      label=name if j == 0 else None)  # fmt: skip
    axes.set_xlabel("generator steps of all trials together")
    axes.set_ylabel(f"best {objective} so far")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


class _Scale:
    """Where the values of one axis lie, from 0 to 1; what is no number has places in turn."""

    def __init__(self, values: Sequence[object], log: bool) -> None:
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self.numeric = bool(numbers) and len(numbers) == sum(v is not None for v in values)
        self.log = log
        self.names: list[str] = []
        self.low, self.high = (min(numbers), max(numbers)) if self.numeric else (0.0, 1.0)
        if not self.numeric:
            self.names = sorted({str(v) for v in values if v is not None}) or [ABSENT]
        self.absent = any(v is None for v in values)

    def height(self, value: object) -> float:
        """Where `value` lies; below the axis if it is absent."""
        if value is None:
            return -0.1
        if not self.numeric:
            return self.names.index(str(value)) / max(1, len(self.names) - 1)
        assert isinstance(value, int | float)
        low, high, x = (math.log10(v) if self.log else float(v) for v in (self.low, self.high, value))
        return 0.5 if high == low else (x - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """(height, label) of the axis."""
        if not self.numeric:
            marks = [(self.height(name), name) for name in self.names]
        else:
            marks = [(self.height(v), f"{v:.3g}") for v in dict.fromkeys((self.low, self.high))]
        return [*marks, (-0.1, ABSENT)] if self.absent else marks


def _objective_panel(axes: Axes, points: Sequence[Point], values: Sequence[object], log: bool) -> None:
    for point, value in zip(points, values, strict=True):
        color = BEST if point.best else OKABE_ITO[0]
        x = value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        face = color if point.complete else "none"
        axes.scatter([x], [point.objectives[0]], s=70 if point.best else 28, marker="*" if point.best else "o",
                     facecolors=face, edgecolors=color, linewidths=1, zorder=3 if point.best else 2)  # fmt: skip
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _marks() -> list[Line2D]:
    color = OKABE_ITO[0]
    return [
        Line2D([], [], marker="*", markersize=10, linestyle="none", color=BEST, label="best"),
        Line2D([], [], marker="o", linestyle="none", color=color, label="trained to the end"),
        Line2D([], [], marker="o", linestyle="none", color=color, markerfacecolor="none", label="stopped early"),
    ]


def _broken(key: str) -> str:
    """A dotted key over two lines, if it has parts."""
    return key.replace(".", ".\n", 1)
