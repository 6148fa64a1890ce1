"""Images in a grid, a row per generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from toposampler.plots.style import new_figure

INCHES_PER_IMAGE = 0.6


def image_grid(images_by_generator: Sequence[tuple[str, Tensor]], title: str) -> Figure:
    """A row of images (n, C, H, W) in [-1, 1] for each label; C is 1 or 3, n may differ from row to row."""
    rows, columns = len(images_by_generator), max(len(images) for _, images in images_by_generator)
    height, width = images_by_generator[0][1].shape[2:]
    gap = 1 + width // 16
    canvas = torch.ones(rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    for row, (_, images) in enumerate(images_by_generator):
        for column, image in enumerate(images):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = (image.clamp(-1, 1).permute(1, 2, 0) + 1) / 2

    figure = new_figure(columns * INCHES_PER_IMAGE + 1.2, rows * INCHES_PER_IMAGE + 0.6, title)
    axes = figure.subplots()
    axes.imshow(canvas.numpy(), interpolation="nearest")
    middles = [row * (height + gap) + (height - 1) / 2 for row in range(rows)]
    axes.set_yticks(middles, [label for label, _ in images_by_generator], fontsize=9)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return figure
