"""Clouds of points in the plane, coloured by the generator that made them, or is taken to have made them."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import colour, new_figure, outside_legend

MARGIN = 0.3
"""room around the real points, as a share of their larger extent"""
ONE_SCALE = 8.0
"""ratio of the extents of two columns up to which both axes have one scale: beyond, a figure would be a line"""


def generators_scatter(real: Tensor, fake: Tensor, generator_ids: Tensor, prior: Tensor | None, title: str) -> Figure:
    """Real points (N, *shape) and generated ones (n, *shape) side by side, coloured by generator_ids (n,).

    The frame is that of the real points, so figures of a run can be compared; what lies outside is counted.
    The legend names the generators that made samples, with their prior (K,), or share of samples if it is None.
    """
    basis, names = plane(real)
    real_xy, fake_xy = real.flatten(1) @ basis, fake.flatten(1) @ basis
    low, high = real_xy.amin(dim=0), real_xy.amax(dim=0)
    one_scale = _one_scale(real_xy)
    room = (MARGIN * (high - low).max()).expand(2) if one_scale else MARGIN * (high - low)
    outside = float(((fake_xy < low - room) | (fake_xy > high + room)).any(dim=1).double().mean())
    shares = torch.bincount(generator_ids) / len(generator_ids) if prior is None else prior

    figure = new_figure(9.5, 4.4, title)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.scatter(real_xy[:, 0], real_xy[:, 1], s=3, color="0.4", alpha=0.4, linewidths=0)
    _scatter_by_id(right, fake_xy, generator_ids, shares)
    outside_legend(figure, right, "generator: share" if prior is None else "generator: prior r(c)")
    left.set_xlim(float(low[0] - room[0]), float(high[0] + room[0]))
    left.set_ylim(float(low[1] - room[1]), float(high[1] + room[1]))
    left.set_title(f"{len(real):,} real", fontsize=10)
    right.set_title(f"{len(fake):,} generated" + (f", {outside:.1%} out of view" if outside else ""), fontsize=10)
    for axes in (left, right):
        _name_axes(axes, names, one_scale)
    return figure


def samples_scatter(fake: Tensor, ids: Tensor, title: str, legend: str) -> Figure:
    """Generated points (n, *shape) coloured by generators, ids (n,); the share of each stands under `legend`."""
    basis, names = plane(fake)
    figure = new_figure(6.0, 4.4, title)
    axes = figure.subplots()
    xy = fake.flatten(1) @ basis
    _scatter_by_id(axes, xy, ids, torch.bincount(ids) / len(ids))
    outside_legend(figure, axes, legend)
    _name_axes(axes, names, _one_scale(xy))
    return figure


def plane(points: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """The plane to see points (n, *shape) in, as a basis (d, 2), and the names of its axes.

    Two dimensions are seen as they are, one on a line, more along the first two principal components.
    """
    x = points.flatten(1)
    d = x.shape[1]
    if d <= 2:
        return torch.eye(d, 2, dtype=x.dtype), ("x1", "x2" if d == 2 else "")
    some = x[:: 1 + len(x) // 1000]  # enough for two directions, and quick on images
    basis = torch.linalg.svd(some - some.mean(dim=0), full_matrices=False).Vh[:2].T
    return basis, (f"principal component 1 of {d}", f"principal component 2 of {d}")


def _scatter_by_id(axes: Axes, xy: Tensor, ids: Tensor, shares: Tensor) -> None:
    """Points (n, 2) in the colour of their ids (n,), each id that occurs labelled with its share (K,)."""
    for k in ids.unique().tolist():
        label = f"{k}: {shares[k]:.1%}"
        mine = xy[ids == k]
        axes.scatter(mine[:, 0], mine[:, 1], s=3, color=colour(k), alpha=0.6, linewidths=0, label=label)


def _one_scale(xy: Tensor) -> bool:
    """Whether points (n, 2) extend about as far in both directions, or in one alone."""
    least, most = sorted((xy.amax(dim=0) - xy.amin(dim=0)).tolist())
    return least == 0 or most <= ONE_SCALE * least


def _name_axes(axes: Axes, names: tuple[str, str], one_scale: bool) -> None:
    """Name both axes, and give them one scale if they are to have it."""
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if one_scale:
        axes.set_aspect("equal", adjustable="box")
