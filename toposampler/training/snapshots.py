"""What the report's slider plays: samples of one seed at some steps of a training, each step a small file.

`snapshots/step_*.npz` in the run's folder holds what the averaged generators, those that are evaluated, make of the
same latents at that step: `samples`, float32 as networks see them, and `generators`, who made each; or for images
`grid`, uint8 (rows, columns, C, H, W) from black to white, with a row for each generator of `generators`; and `prior`.

The steps follow from the length of the run alone, so every worker knows them, and a run that resumes from a checkpoint
writes what it would have written without the stop. A run that is lengthened keeps what it has and adds as many again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toposampler.files import write_atomically
from toposampler.systems import System
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

APART = 50
"""generator steps between two snapshots, at least, on average over the run: what keeps their cost below 2 %"""
POINTS, NUMBERS = 500, 32_000
"""points in a snapshot, at most, and coordinates, at most, unless there are fewer than `LEAST` points"""
LEAST = 64
ROWS, COLUMNS, SIDE = 24, 8, 32
"""generators in a grid of images, images of each, and pixels of their longer side, at most"""
PIXELS = 150_000
"""numbers in a grid, at most, unless a row would have fewer than two images"""
PLACE = "snapshots"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What the generators made at one step."""

    step: int
    """generator steps done"""
    generators: NDArray
    """(n,) int64: of each sample, or of each row of the grid"""
    prior: NDArray | None
    """(K,) float64; None: a single generator"""
    samples: NDArray | None
    """(n, d) float32, as networks see points; None: images"""
    grid: NDArray | None
    """(rows, columns, C, H, W) uint8; None: points"""


@cache
def snapshot_steps(total: int, most: int) -> frozenset[int]:
    """The steps at which a run of `total` generator steps is looked at: at most `most`, the first and last among them.

    A third is spaced evenly on a logarithmic scale, as most changes early; the others evenly.
    """
    count = min(most, 2 + total // APART)
    if most == 0:
        return frozenset()
    if count < 3:
        return frozenset([0, total][2 - count :])
    early = np.geomspace(1, total, count // 3 + 1).round().astype(int).tolist()
    even = np.linspace(0, total, count - len(early) + 1).round().astype(int).tolist()
    return frozenset(early + even)


def take_snapshot(system: System, shape: tuple[int, ...], seed: int, shards: ProcessGroup) -> dict[str, NDArray]:
    """The content of a snapshot of `system`, whose averaged weights are in place, for samples of `shape`.

    Where the ensemble is spread over `shards`, all of them call this, and rank 0 gets the samples.
    """
    prior = system.prior()
    content = {} if prior is None else {"prior": prior.double().cpu().numpy()}
    if len(shape) == 1:
        n = max(LEAST, min(POINTS, NUMBERS // shape[0]))
        samples, ids = draw_samples(system, n, seed, shards=shards)
        return content | {"samples": samples.float().cpu().numpy(), "generators": ids.numpy()}
    rows = _rows(system.K, prior)
    height, width = (max(1, round(side * min(1, SIDE / max(shape[1:])))) for side in shape[1:])
    columns = max(2, min(COLUMNS, PIXELS // (len(rows) * shape[0] * height * width)))
    grid = []
    for k in rows:
        x = draw_samples(system, columns, seed, generator=k, shards=shards)[0].float().cpu()
        if len(x):  # on other ranks than the first of a sharded run there are none
            x = x if x.shape[2:] == (height, width) else F.interpolate(x, (height, width), mode="area")
            grid.append(((x.nan_to_num().clamp(-1, 1) + 1) * 127.5).round().byte())
    images = torch.stack(grid).numpy() if grid else np.zeros((0, 0, *shape), np.uint8)
    return content | {"grid": images, "generators": np.array(rows, np.int64)}


def _rows(n_generators: int, prior: Tensor | None) -> list[int]:
    """The generators that have a row: all, or those of most mass where they are too many, in their order."""
    if n_generators <= ROWS or prior is None:
        return list(range(min(n_generators, ROWS)))
    return sorted(prior.argsort(descending=True)[:ROWS].tolist())


def write_snapshot(folder: Path, step: int, content: dict[str, NDArray]) -> None:
    """Write the `content` of a snapshot of the run in `folder`, in the place of an earlier one of this `step`."""
    place, file = folder / PLACE, BytesIO()
    place.mkdir(exist_ok=True)
    np.savez_compressed(file, **content)  # type: ignore[arg-type]
    write_atomically(place / f"step_{step:08d}.npz", file.getvalue())


def drop_snapshots_after(folder: Path, step: int) -> None:
    """Remove what the run in `folder` has of later steps than `step`: it went back there, and passes them again."""
    for path, at in _files(folder):
        if at > step:
            path.unlink(missing_ok=True)


def read_snapshots(folder: Path, most: int) -> list[Snapshot]:
    """The snapshots of the run in `folder` in their order, at most `most`, evenly chosen with the first and the last.

    One that cannot be read is left out, with a warning: it is for the eye alone.
    """
    files = list(_files(folder))
    chosen = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int))
    read = (_read(*files[i]) for i in chosen.tolist())
    return [snapshot for snapshot in read if snapshot is not None]


def _read(path: Path, step: int) -> Snapshot | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        return Snapshot(step, parts["generators"], parts.get("prior"), parts.get("samples"), parts.get("grid"))
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        log.warning("the snapshot %s is left out of the report: %s", path, error)
        return None


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted((folder / PLACE).glob("step_*.npz")):
        if path.stem.removeprefix("step_").isdigit():
            yield path, int(path.stem.removeprefix("step_"))
