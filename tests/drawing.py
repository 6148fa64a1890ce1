"""Figures of runs are not drawn: composing and drawing those of one run costs six times its short training."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure
from PIL import Image

from toposampler import plots

SAVEFIG = Figure.savefig
PLOTS = {name: getattr(plots, name) for name in plots.__all__}


def leave_out_figures() -> None:
    """From now on every figure in this process is empty and is written as a PNG of one pixel."""
    for name in PLOTS:
        setattr(plots, name, lambda *_, **__: Figure())
    Figure.savefig = _save_a_pixel  # type: ignore[method-assign]


def draw_figures() -> None:
    """From now on figures in this process are drawn, as users have them."""
    for name, plot in PLOTS.items():
        setattr(plots, name, plot)
    Figure.savefig = SAVEFIG  # type: ignore[method-assign]


def _save_a_pixel(figure: Figure, file: str | Path | BinaryIO, **_: Any) -> None:
    content = BytesIO()
    Image.new("L", (1, 1)).save(content, "PNG")
    if isinstance(file, str | Path):
        Path(file).write_bytes(content.getvalue())
    else:
        file.write(content.getvalue())
