"""How near samples come to what was trained on, against real points."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import OKABE_ITO, new_figure


def nearest_training_distances(samples_to_train: Tensor, real_to_train: Tensor, quantile: float, title: str) -> Figure:
    """Cumulative shares of the distances (n,) and (m,) to the nearest training point, of samples and of real points.

    Real points are held-out ones, or those trained on, each to the nearest other one. Copies make the samples' curve
    start at 0 and run above; the dotted line is the real points' `quantile`, and the label says what share of samples
    lies left of it.
    """
    limit = float(real_to_train.double().quantile(quantile))
    closer = float((samples_to_train < limit).double().mean())
    figure = new_figure(5.6, 4.0, title)
    axes = figure.subplots()
    for distances, colour, name in ((real_to_train, "0.3", "real points"), (samples_to_train, OKABE_ITO[0], "samples")):
        shares = torch.arange(1, len(distances) + 1) / len(distances)
        axes.step(distances.sort().values, shares, where="post", color=colour, label=name)
    label = f"{closer:.1%} of samples left of {quantile:.0%} of real points"
    axes.axvline(limit, color=OKABE_ITO[3], linestyle=":", label=label)
    axes.set_xlabel("distance to the nearest training point")
    axes.set_ylabel("share that is nearer")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
