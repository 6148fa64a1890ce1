"""Barcodes of several clouds side by side: how many pieces each is in, and at what distance they come together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.scatter import frame, plane
from toposampler.plots.style import OKABE_ITO, new_figure
from toposampler.topology import deaths, estimate_components

POINTS = 1000
"""points of a cloud that `evenly` takes: bars of more are many, and take long"""
BARS = 20
"""bars shown of a cloud, the longest: the others are many and short"""


def barcodes(clouds: Mapping[str, Tensor], title: str, view: Tensor | None = None, counted: bool = True) -> Figure:
    """`clouds`, points (n, d) by name, and below each its 0-dimensional barcode and number of components.

    Balls grow around the points, and a bar ends at the distance at which a piece joins another one; the last piece is
    never joined. Pieces of a few points only, by the rule of `estimate_components`, are counted as outliers.

    Args:
        clouds: of as many points each, as bars are shorter the more points.
        title: of the figure.
        view: points (m, d) whose axes and frame all panels have, such as the real ones; None: each has its own.
        counted: False: a barcode does not tell how many components such points have, and none is said.
    """
    figure = new_figure(0.5 + 2.6 * len(clouds), 5.6, title)
    panels = figure.subplots(2, len(clouds), squeeze=False, height_ratios=(1, 1))
    for (above, below), (name, x) in zip(panels.T, clouds.items(), strict=True):
        basis, axis_names = plane(x if view is None else view)
        xy = x @ basis
        above.scatter(*xy.T, s=3, color="0.3", alpha=0.5, linewidths=0)
        if view is not None:
            _frame_of(above, view @ basis, xy)
        else:
            above.set_aspect("equal", adjustable="datalim")
        above.tick_params(labelsize=8)
        above.set_xlabel(axis_names[0], fontsize=8)
        found = _barcode(below, x, counted)
        above.set_title(f"{name}: {found}" if counted else name, fontsize=10)
    blue = "blue: pieces that outlast the rest" if counted else "components are not counted"
    figure.supxlabel(f"distance at which a piece joins another; {blue}", fontsize=9)
    return figure


def evenly(clouds: Mapping[str, Tensor], most: int = POINTS) -> dict[str, Tensor]:
    """As many points of each of `clouds`, (n, *shape) by name, at most `most` and evenly over its rows: (m, d)."""
    n = min(most, *map(len, clouds.values()))
    return {name: x[torch.linspace(0, len(x) - 1, n).long()].flatten(1) for name, x in clouds.items()}


def _frame_of(axes: Axes, real: Tensor, xy: Tensor) -> None:
    """Have `axes` show the frame of real points (n, 2), and say which share of points (m, 2) is not in it."""
    view = frame(real)
    view.apply(axes)
    if view.one_scale:
        axes.set_aspect("equal", adjustable="box")
    if outside := view.outside(xy):
        axes.text(0.03, 0.03, f"{outside:.1%} out of view", fontsize=7, transform=axes.transAxes)


def _barcode(axes: Axes, x: Tensor, counted: bool) -> str:
    """Draw the longest bars of x (n, d), and say how many components and outliers they are."""
    components = estimate_components(x)
    lengths = deaths(x)
    told = counted and components.count > 1
    outlasting = int((lengths >= components.separating).sum()) if told else 0
    bars = lengths[-BARS:].flip(0).tolist()
    colors = [OKABE_ITO[0] if i < outlasting else "0.7" for i in range(len(bars))]
    axes.barh(range(1, len(bars) + 1), bars, color=colors)
    longest = bars[0] or 1.0  # equal points: no bar has a length
    arrow = {"arrowstyle": "-|>", "color": OKABE_ITO[0], "linewidth": 4}
    axes.annotate("", (1.15 * longest, 0), (0, 0), arrowprops=arrow)
    axes.set_xlim(0, 1.2 * longest)
    axes.set_ylim(len(bars) + 0.7, -0.9)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    outliers = max(0, outlasting + 1 - components.count)
    numbers = [(components.count, "component"), *([(outliers, "outlier")] if outliers else [])]
    return ", ".join(f"{k} {what}{'s'[: k > 1]}" for k, what in numbers)
