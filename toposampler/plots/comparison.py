"""Several models side by side, with intervals: all metrics, and precision against recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toposampler.plots.style import color, new_figure

REAL = "real"
"""name of the row that real data have: gray, a band over all others"""
COLUMNS = 4


class Interval(NamedTuple):
    """A mean and how sure it is."""

    mean: float
    half: float | None = None
    """half of its interval; None: there is one value only"""


@dataclass(frozen=True)
class Operation:
    """What a sampler keeps of a model, or the model itself, at rate 1."""

    precision: Interval
    recall: Interval
    rate: float
    """share of the proposals that are kept"""


def metric_panels(
    metrics: Mapping[str, Mapping[str, Interval]], directions: Mapping[str, str], rows: Sequence[str], title: str
) -> Figure:
    """A panel for each of `metrics`, by its name: the value of each of `rows` that has it, with its interval.

    A row has one color in all panels. The interval of the row `real` is a gray band. Panels say which values are
    better, in the words of `directions`, of which `-` is none.
    """
    columns = min(COLUMNS, len(metrics))
    n = -(-len(metrics) // columns)
    figure = new_figure(2.6 * columns + 1.2, (0.22 * len(rows) + 0.75) * n + 0.5, title)
    panels = list(figure.subplots(n, columns, sharey=True, squeeze=False).flat)
    for axes, (name, values) in zip(panels, metrics.items(), strict=False):
        _panel(axes, values, rows)
        better = "" if directions[name] == "-" else f"better: {directions[name]}"
        axes.set_title(f"{name}\n{better}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    for unused in panels[len(metrics) :]:
        unused.remove()
    return figure


def _panel(axes: Axes, values: Mapping[str, Interval], rows: Sequence[str]) -> None:
    """Draw the values of those of `rows` that have one, each in its line."""
    for i, row in enumerate(rows):
        if row not in values:
            continue
        mean, half = values[row]
        tint = "0.4" if row == REAL else color(i - 1)
        if row == REAL:
            axes.axvspan(mean - (half or 0), mean + (half or 0), color="0.85", linewidth=1)
        axes.errorbar([mean], [i], xerr=half, fmt="o", markersize=4, color=tint, capsize=2, linewidth=1.2)
    axes.margins(x=0.15)
    axes.grid(axis="x", alpha=0.3)


def precision_recall(curves: Mapping[str, Sequence[Operation]], title: str) -> Figure:
    """Precision over recall of each of `curves`, with both intervals, joined in their order; the rate of acceptance
    beside its ends."""
    figure = new_figure(7.5, 4.5, title)
    axes = figure.subplots()
    for i, (name, operations) in enumerate(curves.items()):
        recalls, precisions = [of.recall.mean for of in operations], [of.precision.mean for of in operations]
        axes.plot(recalls, precisions, color=color(i), marker="o", markersize=4, linewidth=1, label=name)
        for of in operations:
            x, y, tint = of.recall, of.precision, color(i)
            axes.errorbar(x.mean, y.mean, y.half, x.half, color=tint, fmt="none", capsize=2, linewidth=0.8, alpha=0.7)
        for of in dict.fromkeys((operations[0], operations[-1])):
            place = (of.recall.mean, of.precision.mean)
            axes.annotate(f"{of.rate:.0%}", place, (4, 4), textcoords="offset points", fontsize=7, color=color(i))
    figure.legend(
        title="numbers: acceptance rate",
        loc="outside lower center",
        ncols=3,
        fontsize=7,
        title_fontsize=8,
        frameon=False,
    )
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    return figure
