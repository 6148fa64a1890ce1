"""What a classifier makes of samples: how sure it is of them, and how varied each class is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from toposampler.plots.style import color, new_figure, outside_legend


def quality_curves(thresholds: Sequence[float], curves: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Share of samples with max softmax >= t, over thresholds t (T,): a curve (T,) by name, "real" dashed."""
    figure = new_figure(5.6, 4.0, title)
    axes = figure.subplots()
    colors = _colors(curves)
    for name, shares in curves.items():
        axes.plot(thresholds, shares, "--" if name == "real" else "-", color=colors[name], label=name)
    axes.set_xlabel("t")
    axes.set_ylabel("share of samples with max softmax ≥ t")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def class_bars(values: Mapping[str, Sequence[float]], ylabel: str, title: str) -> Figure:
    """For each class a bar of each named series, values (M,), side by side: as MSD per class; "real" gray."""
    n_classes = len(next(iter(values.values())))
    figure = new_figure(min(max(6.6, 1 + 0.7 * n_classes), 24), 3.6, title)
    axes = figure.subplots()
    width, colors = 0.8 / len(values), _colors(values)
    for i, (name, heights) in enumerate(values.items()):
        left = [c - 0.4 + (i + 0.5) * width for c in range(n_classes)]
        axes.bar(left, heights, width, color=colors[name], label=name)
    axes.set_xticks(range(n_classes))
    axes.set_xlabel("class")
    axes.set_ylabel(ylabel)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    outside_legend(figure, axes, "")
    return figure


def _colors(names: Iterable[str]) -> dict[str, str | tuple[float, float, float]]:
    """A color for each name, the same in both figures; "real" is gray."""
    others = [name for name in names if name != "real"]
    return {"real": "0.5"} | {name: color(k) for k, name in enumerate(others)}
