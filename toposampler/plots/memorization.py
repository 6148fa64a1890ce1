"""How near samples come to what was trained on, against real points."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import OKABE_ITO, new_figure


def nearest_training_distances(
    samples_to_train: Tensor, real_to_train: Tensor, quantile: float, label: str, title: str
) -> Figure:
    """Cumulative shares of the distances (n,) and (m,) to the nearest training point, of samples and of real points.

    Real points are held-out ones, or those trained on, each to the nearest other one; the unit is their median. The
    axis is logarithmic: fresh draws of the data have the curve of the real points, and the samples' runs to the left of
    it where they are copies, to the right where they lie off the data. Equal points, at distance 0, are where the axis
    begins. `label` stands at the dotted line, the real points' `quantile`.
    """
    unit = float(real_to_train.double().median()) or 1.0
    limit = float(real_to_train.double().quantile(quantile)) / unit
    distances = {"real points": real_to_train.double() / unit, "samples": samples_to_train.double() / unit}
    apart = torch.cat([x[x > 0] for x in distances.values()])
    begin = 0.5 * float(apart.min()) if len(apart) else 0.5
    figure = new_figure(6.4, 4.2, title)
    axes = figure.subplots()
    styles = {"real points": ("0.3", "--"), "samples": (OKABE_ITO[0], "-")}
    for name, x in distances.items():
        tint, style = styles[name]
        copies = float((x == 0).double().mean())
        shares = torch.arange(1, len(x) + 1) / len(x)
        label_of = name + (f", {copies:.1%} at distance 0" if copies else "")
        axes.step(x.sort().values.clamp(min=begin), shares, style, where="post", color=tint, label=label_of)
    axes.axvline(max(limit, begin), color=OKABE_ITO[3], linestyle=":", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("distance to the nearest training point, over the median of real points'")
    axes.set_ylabel("share that is nearer")
    axes.set_xlim(left=begin)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure
