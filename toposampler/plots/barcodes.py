"""Barcodes of several clouds side by side: how many pieces each is in, and at what distance they come together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.scatter import plane
from toposampler.plots.style import OKABE_ITO, new_figure
from toposampler.topology import deaths, estimate_components

POINTS = 1000
"""most points of a cloud that are looked at"""
BARS = 20
"""bars shown of a cloud, the longest: the others are many and short"""


def barcodes(clouds: Mapping[str, Tensor], title: str) -> Figure:
    """`clouds`, points (n, *shape) by name, and below each its 0-dimensional barcode and number of components.

    Balls grow around the points, and a bar ends at the distance at which a piece joins another one; the last piece is
    never joined. Pieces of a few points only, by the rule of `estimate_components`, are counted as strays. As many
    points are taken of each cloud, evenly over its rows, as bars are shorter the more points.
    """
    n = min(POINTS, *map(len, clouds.values()))
    figure = new_figure(0.5 + 2.6 * len(clouds), 5.6, title)
    panels = figure.subplots(2, len(clouds), squeeze=False, height_ratios=(1, 1))
    for (above, below), (name, points) in zip(panels.T, clouds.items(), strict=True):
        x = points[torch.linspace(0, len(points) - 1, n).long()].flatten(1)
        basis, axis_names = plane(x)
        above.scatter(*(x @ basis).T, s=3, color="0.3", alpha=0.5, linewidths=0)
        above.set_aspect("equal", adjustable="datalim")
        above.tick_params(labelsize=8)
        above.set_xlabel(axis_names[0], fontsize=8)
        above.set_title(f"{name}: {_barcode(below, x)}", fontsize=10)
    figure.supxlabel("distance at which a piece joins another; blue: pieces that outlast the rest", fontsize=9)
    return figure


def _barcode(axes: Axes, x: Tensor) -> str:
    """Draw the longest bars of x (n, d), and say how many components and strays they are."""
    components = estimate_components(x)
    lengths = deaths(x)
    outlasting = int((lengths >= components.separating).sum()) if components.count > 1 else 0
    bars = lengths[-BARS:].flip(0).tolist()
    colours = [OKABE_ITO[0] if i < outlasting else "0.7" for i in range(len(bars))]
    axes.barh(range(1, len(bars) + 1), bars, color=colours)
    longest = bars[0] or 1.0  # equal points: no bar has a length
    arrow = {"arrowstyle": "-|>", "color": OKABE_ITO[0], "linewidth": 4}
    axes.annotate("", (1.15 * longest, 0), (0, 0), arrowprops=arrow)
    axes.set_xlim(0, 1.2 * longest)
    axes.set_ylim(len(bars) + 0.7, -0.9)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    strays = max(0, outlasting + 1 - components.count)
    counted = [(components.count, "component"), *([(strays, "stray")] if strays else [])]
    return ", ".join(f"{k} {what}{'s'[: k > 1]}" for k, what in counted)
