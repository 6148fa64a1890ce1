"""Figures of `benchmarks/spheres.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import OKABE_ITO, new_figure

POINTS = 3000
BLUE, VERMILION = OKABE_ITO[0], OKABE_ITO[3]
SMOOTHED = 5
"""records averaged in a curve of the training dynamics"""


def samples_off_the_manifold(runs: Mapping[str, tuple[Tensor, Tensor]], tau: float) -> Figure:
    """Samples (n, 3) of each system, seen from the side; those farther than `tau` radii from both spheres stand out.

    `runs` holds, by name, samples and their distances (n, 2) from the two spheres, in radii.
    """
    figure = new_figure(2.9 * len(runs), 2.9, f"Two spheres: samples farther than {tau:g} radii from both, in red")
    for axes, (name, (x, distance)) in zip(figure.subplots(1, len(runs), sharey=True), runs.items(), strict=True):
        off = distance.min(dim=1).values > tau
        every = max(1, len(x) // POINTS)  # not the first ones: samples come in the order of their branches
        for where, color, size in ((~off, "0.6", 1), (off, VERMILION, 3)):
            some = x[::every][where[::every]]
            axes.scatter(some[:, 0], some[:, 1], s=size, color=color, alpha=0.6, linewidths=0)
        axes.set_title(f"{name}\n{off.double().mean():.2%} off", fontsize=9)
        axes.set_aspect("equal", adjustable="box")
        axes.set_xlim(-3.6, 3.6)
        axes.set_ylim(-1.8, 1.8)
        axes.tick_params(labelsize=8)
    return figure


def isoperimetry(rows: Sequence[dict[str, Any]], tau: float) -> Figure:
    """Left: what the critic still tells apart over training; right: samples off the spheres against their gap."""
    kinds = list(dict.fromkeys(row["generator"] for row in rows))
    gaps = sorted({row["gap"] for row in rows})
    figure = new_figure(10.5, 4.0, "A generator that cannot stretch loses: 3,000 generator steps")
    left, right = figure.subplots(1, 2)
    for kind, color in zip(kinds, OKABE_ITO, strict=False):
        mine = [row for row in rows if row["generator"] == kind]
        for row in mine:
            if row["gap"] == 2:
                advantage = torch.tensor(row["critic_advantage"])
                smooth = advantage.unfold(0, SMOOTHED, 1).mean(dim=1)
                steps = torch.linspace(0, 1, len(smooth))
                left.plot(steps, smooth, color=color, linewidth=1, label=kind if row["seed"] == 0 else None)
        off = [[row["off_manifold_0.1R"] for row in mine if row["gap"] == gap] for gap in gaps]
        right.plot(
            [row["gap"] for row in mine],
            [row["off_manifold_0.1R"] for row in mine],
            "o",
            color=color,
            markersize=4,
            alpha=0.7,
        )
        right.plot(gaps, [sum(values) / len(values) for values in off], color=color, linewidth=1, label=kind)
    d = torch.linspace(0, max(gaps), 200)
    least = (2 * torch.special.ndtr((d - 2 * tau).clamp(min=0) / 2) - 1).clamp(min=0)
    right.fill_between(
        d, 0, least, color="0.85", label="impossible at L = 1 and equal masses:\nbelow 2 Φ((D - 2τ) / 2) - 1"
    )
    left.set_xlabel("share of training")
    left.set_ylabel("critic's advantage: E_real D - E_fake D")
    left.set_title("gap D = 2 radii: the critic keeps its lead", fontsize=10)
    left.axhline(0, color="0.3", linewidth=0.8)
    right.set_xlabel("gap D between the two spheres (radii)")
    right.set_ylabel(f"share of samples off both by more than {tau:g} R")
    right.set_title("dots: seeds; lines: their mean", fontsize=10)
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return figure
