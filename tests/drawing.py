"""Figures and reports of runs are not made: drawing those of one run costs six times its short training."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure
from PIL import Image

from toposampler import plots
from toposampler.training import conclusion, run, seeds

SAVEFIG = Figure.savefig
CONCLUDE, WRITE_PAGE = run.conclude, run.write_page
PLOTS = {name: getattr(plots, name) for name in plots.__all__}


def leave_out_figures() -> None:
    """From now on every figure in this process is empty and is written as a PNG of one pixel; runs have no report."""
    run.conclude = lambda *_: {}
    run.write_page = seeds.write_page = conclusion.write_page = lambda *_: None
    for name in PLOTS:
        setattr(plots, name, lambda *_, **__: Figure())
    Figure.savefig = _save_a_pixel  # type: ignore[method-assign]


def draw_figures() -> None:
    """From now on figures in this process are drawn, and reports written, as users have them."""
    run.conclude = CONCLUDE
    run.write_page = seeds.write_page = conclusion.write_page = WRITE_PAGE
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
