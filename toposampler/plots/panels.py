"""Samples of many systems side by side, a panel each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.scatter import MARGIN, plane
from toposampler.plots.style import OKABE_ITO, new_figure

COLUMNS = 6
BLUE, VERMILION = OKABE_ITO[0], OKABE_ITO[3]


def sample_panels(real: Tensor, panels: Mapping[str, tuple[Tensor, Tensor]], title: str) -> Figure:
    """For each title a panel: samples (n, d) blue, or red where off (n,) bool says so, on real points (N, d) in gray.

    All panels have the frame of the real points and, for d > 2, their first two principal components as axes; the share
    of samples that lie outside is written in the corner.
    """
    basis, _ = plane(real)
    support = real @ basis
    low, high = support.amin(dim=0), support.amax(dim=0)
    room = MARGIN * (high - low).max()
    low, high = low - room, high + room
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = 2.0 * float((high[1] - low[1]) / (high[0] - low[0]))
    figure = new_figure(max(5.0, 2.0 * columns + 0.2), (height + 0.3) * rows + 0.5, title)  # 5: room for a title
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, (x, off)) in zip(grid, panels.items(), strict=False):
        xy = x @ basis
        axes.scatter(*support.T, s=2, color="0.8", linewidths=0)
        for where, color in ((~off, BLUE), (off, VERMILION)):
            axes.scatter(*xy[where].T, s=2, color=color, alpha=0.6, linewidths=0)
        axes.set_title(name, fontsize=8)
        axes.set_xlim(float(low[0]), float(high[0]))
        axes.set_ylim(float(low[1]), float(high[1]))
        axes.set_aspect("equal", adjustable="box")
        outside = float(((xy < low) | (xy > high)).any(dim=1).double().mean())
        if outside:
            axes.text(0.03, 0.03, f"{outside:.1%} out of view", fontsize=6, transform=axes.transAxes)
    for axes in figure.axes:
        axes.set_xticks([])
        axes.set_yticks([])
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    return figure
