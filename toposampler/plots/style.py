"""What the figures share: one color per generator, one size of type, one kind of legend."""

from __future__ import annotations

import colorsys

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""eight colors that color-blind readers can tell apart (Okabe and Ito 2008)"""
GRAY = "0.7"
"""of generators that a legend does not name"""
PRIOR, SHARE = "generator: prior r(c)", "generator: share"
"""titles of legends"""
GOLDEN_RATIO = 0.618  # as a step of hue: no two of the next dozen come close
LEGEND_ROWS = 25


def color(k: int) -> str | tuple[float, float, float]:
    """Color of generator k, the same in every figure; after the first eight, steps of hue that merely differ."""
    if k < len(OKABE_ITO):
        return OKABE_ITO[k]
    return colorsys.hsv_to_rgb(k * GOLDEN_RATIO % 1, 0.8, (0.5, 0.9, 0.7)[k % 3])


def others(n: int, share: float) -> str:
    """What a legend says of the `n` generators that it does not name."""
    return f"{n} other{'s'[: n > 1]}: {share:.1%}"


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` x `height` inches. It belongs to no window, so nothing needs closing."""
    figure = Figure(figsize=(width, height), dpi=150, layout="compressed")
    figure.suptitle(title, fontsize=12)
    return figure


def outside_legend(figure: Figure, axes: Axes, title: str) -> None:
    """The legend of `axes` on the right of the figure, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        title=title,
        loc="outside right upper",
        ncols=-(-len(handles) // LEGEND_ROWS),
        fontsize=7,
        title_fontsize=8,
        columnspacing=0.8,
        markerscale=4,
        frameon=False,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
