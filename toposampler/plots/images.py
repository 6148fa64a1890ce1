"""Images in a grid: a row per generator, or all mixed, each framed in the color of its generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from toposampler.plots.style import PRIOR, SHARE, color, new_figure, outside_legend

INCHES_PER_IMAGE = 0.6


def image_grid(images_by_generator: Sequence[tuple[str, Tensor]], title: str) -> Figure:
    """A row of images (n, C, H, W) in [-1, 1] for each label; C is 1 or 3, n may differ from row to row."""
    labels, rows = zip(*images_by_generator, strict=True)
    height = rows[0].shape[2]
    gap, canvas = _canvas(rows)
    figure = new_figure(max(map(len, rows)) * INCHES_PER_IMAGE + 1.2, len(rows) * INCHES_PER_IMAGE + 0.6, title)
    axes = figure.subplots()
    axes.imshow(canvas.numpy(), interpolation="nearest")
    middles = [row * (height + gap) + (height - 1) / 2 for row in range(len(rows))]
    axes.set_yticks(middles, labels, fontsize=9)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return figure


def framed_grid(images: Tensor, ids: Tensor, prior: Tensor | None, title: str, columns: int = 12) -> Figure:
    """Images (n, C, H, W) in [-1, 1], each framed in the color of the generator that made it, ids (n,).

    The legend has the prior (K,) of these generators, or their shares of the images if it is None.
    """
    rows = images.split(columns)
    height, width = images.shape[2:]
    gap, canvas = _canvas(rows)
    figure = new_figure(columns * INCHES_PER_IMAGE + 1.2, len(rows) * INCHES_PER_IMAGE + 0.6, title)
    axes = figure.subplots()
    axes.imshow(canvas.numpy(), interpolation="nearest")
    shares = torch.bincount(ids) / len(ids) if prior is None else prior
    for k in ids.unique().tolist():
        axes.scatter([], [], s=3, marker="s", color=color(k), label=f"{k}: {shares[k]:.1%}")
    for i, k in enumerate(ids.tolist()):
        left, top = i % columns * (width + gap) - 0.5, i // columns * (height + gap) - 0.5
        axes.add_patch(Rectangle((left, top), width, height, fill=False, linewidth=2, edgecolor=color(k)))
    outside_legend(figure, axes, SHARE if prior is None else PRIOR)
    axes.set_axis_off()
    return figure


def _canvas(rows: Sequence[Tensor]) -> tuple[int, Tensor]:
    """Rows of images (n, C, H, W) in [-1, 1] on white, as one (height, width, 3) in [0, 1], and the gaps in pixels."""
    height, width = rows[0].shape[2:]
    gap = 1 + width // 16
    columns = max(map(len, rows))
    canvas = torch.ones(len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = (image.clamp(-1, 1).permute(1, 2, 0) + 1) / 2
    return gap, canvas
