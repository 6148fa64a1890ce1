"""Clouds of points in the plane, colored by the generator that made them, or is taken to have made them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import GRAY, PRIOR, SHARE, color, new_figure, others, outside_legend

MARGIN = 0.3
"""room around the real points, as a share of their larger extent"""
ONE_SCALE = 8.0
"""ratio of the extents of two columns up to which both axes have one scale: beyond, a figure would be a line"""


def generators_scatter(
    real: Tensor, fake: Tensor, generator_ids: Tensor, prior: Tensor | None, named: Tensor, title: str
) -> Figure:
    """Real points (N, *shape) and generated ones (n, *shape) side by side, colored by generator_ids (n,).

    The frame is that of the real points, so figures of a run can be compared; what lies outside is counted.
    The legend names the `named` generators (K,) bool, with their prior (K,), or share of samples if it is None; samples
    of others are gray.
    """
    basis, names = plane(real)
    real_xy, fake_xy = real.flatten(1) @ basis, fake.flatten(1) @ basis
    view = frame(real_xy)
    outside = view.outside(fake_xy)
    shares = shares_of(generator_ids, len(named)) if prior is None else prior

    figure = new_figure(9.5, 4.4, title)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.scatter(real_xy[:, 0], real_xy[:, 1], s=3, color="0.4", alpha=0.4, linewidths=0)
    _scatter_by_id(right, fake_xy, generator_ids, shares, named)
    outside_legend(figure, right, SHARE if prior is None else PRIOR)
    view.apply(left)
    left.set_title(f"{len(real):,} real", fontsize=10)
    right.set_title(f"{len(fake):,} generated" + (f", {outside:.1%} out of view" if outside else ""), fontsize=10)
    for axes in (left, right):
        _name_axes(axes, names, view.one_scale)
    return figure


def samples_scatter(
    fake: Tensor,
    ids: Tensor,
    title: str,
    legend: str,
    shares: Tensor | None = None,
    named: Tensor | None = None,
    real: Tensor | None = None,
) -> Figure:
    """Generated points (n, *shape) colored by generators, ids (n,).

    Under `legend` stand the `named` ones (K,) bool with their `shares` (K,), and samples of others are gray; None: all
    that made samples, and the share that each made. Points are seen along the axes of the `real` ones (N, *shape), or
    where these are not at hand, along their own.
    """
    basis, names = plane(fake if real is None else real)
    figure = new_figure(6.0, 4.4, title)
    axes = figure.subplots()
    xy = fake.flatten(1) @ basis
    shares = shares_of(ids, int(ids.max()) + 1) if shares is None else shares
    _scatter_by_id(axes, xy, ids, shares, shares > 0 if named is None else named)
    outside_legend(figure, axes, legend)
    _name_axes(axes, names, frame(xy).one_scale)
    return figure


def shares_of(ids: Tensor, n: int) -> Tensor:
    """Share of the samples with generators ids (m,) that each of n generators made: (n,)."""
    return torch.bincount(ids, minlength=n) / len(ids)


@dataclass(frozen=True)
class Frame:
    """What a panel shows of the plane."""

    low: Tensor
    """(2,) the lower left corner"""
    high: Tensor
    """(2,) the upper right corner"""
    one_scale: bool
    """whether both axes have one scale"""

    def outside(self, xy: Tensor) -> float:
        """Share of points (n, 2) that are out of view."""
        return float(((xy < self.low) | (xy > self.high)).any(dim=1).double().mean())

    def apply(self, axes: Axes) -> None:
        """Have `axes` show it."""
        axes.set_xlim(float(self.low[0]), float(self.high[0]))
        axes.set_ylim(float(self.low[1]), float(self.high[1]))


def frame(xy: Tensor) -> Frame:
    """The frame of real points (n, 2), with room around them. Points that extend much farther in one direction than in
    the other have a scale for each."""
    low, high = xy.amin(dim=0), xy.amax(dim=0)
    least, most = sorted((high - low).tolist())
    one_scale = least == 0 or most <= ONE_SCALE * least
    room = (MARGIN * (high - low).max()).expand(2) if one_scale else MARGIN * (high - low)
    return Frame(low - room, high + room, one_scale)


def plane(points: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """The plane to see points (n, *shape) in, as a basis (d, 2), and the names of its axes.

    Two dimensions are seen as they are, one on a line, more along the first two principal components, each with the
    sign that makes its largest coordinate positive: else figures of other points of the same data would be mirrored.
    """
    x = points.flatten(1)
    d = x.shape[1]
    if d <= 2:
        return torch.eye(d, 2, dtype=x.dtype), ("x1", "x2" if d == 2 else "")
    some = x[:: 1 + len(x) // 1000]  # enough for two directions, and quick on images
    basis = torch.linalg.svd(some - some.mean(dim=0), full_matrices=False).Vh[:2].T
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    return basis, (f"principal component 1 of {d}", f"principal component 2 of {d}")


def _scatter_by_id(axes: Axes, xy: Tensor, ids: Tensor, shares: Tensor, named: Tensor) -> None:
    """Points (n, 2) in the colors of their ids (n,); the legend has the `named` ids (K,) bool with their shares (K,),
    and all others as one."""
    for k in named.nonzero()[:, 0].tolist():
        mine = xy[ids == k]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=3, color=color(k), alpha=0.6, linewidths=0, label=f"{k}: {shares[k]:.1%}"
        )
    rest = ~named[ids]
    if rest.any():
        label = others(int((~named).sum()), float(shares[~named].sum()))
        axes.scatter(xy[rest, 0], xy[rest, 1], s=3, color=GRAY, alpha=0.6, linewidths=0, label=label)


def _name_axes(axes: Axes, names: tuple[str, str], one_scale: bool) -> None:
    """Name both axes, and give them one scale if they are to have it."""
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if one_scale:
        axes.set_aspect("equal", adjustable="box")
