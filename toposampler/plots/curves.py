"""Curves over generator steps: the prior, the terms of the losses, evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import GRAY, OKABE_ITO, color, new_figure, others, outside_legend


def prior_over_steps(
    steps: Sequence[int], priors: Tensor, true_weights: Tensor | None, named: Tensor, title: str
) -> Figure:
    """Prior r(c), priors (T, K), at generator steps (T,); dashed: the true masses (M,) of the components, if M <= K.

    The legend names the `named` generators (K,) bool, with their prior at the end; others are gray.
    """
    figure = new_figure(7.0, 4.0, title)
    axes = figure.subplots()
    if true_weights is not None and len(true_weights) <= priors.shape[1]:  # else no generator can have one to itself
        for weight in true_weights.unique().tolist():
            axes.axhline(weight, color="0.3", linestyle="--", linewidth=1, label=f"true: {weight:.1%}")
    for curve in priors.T[~named]:
        axes.plot(steps, curve, color=GRAY, linewidth=1)
    for k in named.nonzero()[:, 0].tolist():
        axes.plot(steps, priors[:, k], color=color(k), label=f"{k}: {priors[-1, k]:.1%}")
    if not named.all():
        axes.plot([], [], color=GRAY, label=others(int((~named).sum()), float(priors[-1, ~named].sum())))
    outside_legend(figure, axes, "generator: at the end")
    axes.set_xlabel("generator steps")
    axes.set_ylabel("prior r(c)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure


Series = Sequence[tuple[int, float]]
"""values over generator steps"""


AT_THE_END = "; red, and the number: the final evaluation, of more samples"


def terms_over_steps(
    terms: Mapping[str, Series], title: str, last: Mapping[str, tuple[int, float]] | None = None
) -> Figure:
    """Each of `terms`, and of the single values in `last`, in a panel of its own, over the same generator steps.

    Those in `last` are marked, and their panels say how much they are. No line leads there: a value of more samples is
    not one more of the same series.
    """
    last = {} if last is None else last
    names = [*dict.fromkeys([*terms, *last])]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.2 * columns + 0.4, 2.0 * rows + 0.6, title)
    panels = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for i, name in enumerate(names):
        if name in terms:
            panels[i].plot(*zip(*terms[name], strict=True), color=OKABE_ITO[0], linewidth=1)
        if name in last:
            panels[i].plot(*last[name], "o", color=OKABE_ITO[3], markersize=4)
        panels[i].set_title(f"{name}: {last[name][1]:.4g}" if name in last else name, fontsize=9)
        panels[i].grid(alpha=0.3)
        panels[i].tick_params(labelsize=8, labelbottom=i + columns >= len(names))  # the lowest of its column
    for unused in panels[len(names) :]:
        unused.remove()
    figure.supxlabel("generator steps" + (AT_THE_END if last else ""), fontsize=10)
    return figure
