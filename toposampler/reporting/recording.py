"""What a report shows of a run that only its end knows, when data and generators are at hand: for `report.json`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toposampler import __version__
from toposampler.data import Dataset, describe
from toposampler.metrics.evaluate import can_count
from toposampler.metrics.findings import Assignment, Findings
from toposampler.reporting.encoding import packed, picture, quantized
from toposampler.reporting.tear import GENERATORS, tear_maps
from toposampler.systems import System

REAL, BETWEEN, BARS, NEAREST = 1000, 300, 40, 6
"""real points, samples between components, longest bars of a barcode, and samples of a generator, at most"""


class Taken(Protocol):
    """A snapshot of a training, as `toposampler.training.snapshots` has them."""

    @property
    def step(self) -> int: ...
    @property
    def generators(self) -> NDArray: ...
    @property
    def prior(self) -> NDArray | None: ...
    @property
    def samples(self) -> NDArray | None: ...
    @property
    def grid(self) -> NDArray | None: ...


def content(
    system: System,
    dataset: Dataset,
    taken: Sequence[Taken],
    findings: Findings,
    found: Assignment,
    whole: bool,
) -> dict[str, Any]:
    """The content of `report.json`, but for the words.

    Args:
        system: with averaged weights in place.
        dataset: the real data.
        taken: snapshots in the order of their steps.
        findings: of the final samples.
        found: the points behind them.
        whole: whether this process holds all generators; otherwise their latent spaces are not mapped.
    """
    makers = [maker.id for maker in findings.makers]
    parts: dict[str, Any] = {
        "data": {"lines": describe(dataset), "sha256": dataset.digest(), "n": len(dataset)},
        "environment": _environment(),
    }
    if len(dataset.shape) == 3:
        parts["film"] = _images(dataset, taken)
        parts["nearest"] = _nearest(dataset, makers, found)
    else:
        parts["film"] = _points(dataset, taken, found)
    if whole:
        reach, maps = tear_maps(system, dataset, makers, found)
        parts["tear"] = {
            "reach": reach,
            "dim": system.latent.dim,
            "maps": [
                {
                    "generator": one.generator,
                    "side": len(one.stretch),
                    "components": packed(one.components, "u1"),
                    "stretch": packed(one.stretch, "f4"),
                }
                for one in maps
            ],
        }
    return parts


def _points(dataset: Dataset, taken: Sequence[Taken], found: Assignment) -> dict[str, Any]:
    """The film of points, in the plane that figures show, and barcodes of as many real points."""
    from toposampler.plots.scatter import frame, plane  # here, as matplotlib takes half a second

    flat = dataset.transform is None or found.real.shape[1] <= 2

    def seen(x: Tensor) -> Tensor:
        return (dataset.to_units(x) if flat else x).double()

    basis, names = plane(seen(found.real))
    real = seen(found.real[:REAL]) @ basis
    view = frame(real)
    low, high = view.low.numpy(), view.high.numpy()
    shown = [one for one in taken if one.samples is not None]
    frames = [(seen(torch.from_numpy(one.samples)) @ basis).numpy() for one in shown]
    n = len(frames[0]) if frames else 0
    between = found.between.nonzero()[:, 0][:BETWEEN]
    return {
        "kind": "points",
        "steps": [one.step for one in shown],
        "n": n,
        "axes": [name + ("" if flat else ", columns standardized") for name in names],
        "low": low.tolist(),
        "high": high.tolist(),
        "one_scale": view.one_scale,
        "xy": quantized(np.stack(frames) if frames else np.zeros((0, 0, 2)), low, high),
        "ids": packed(np.stack([one.generators for one in shown]) if frames else np.zeros(0), "u2"),
        "real": quantized(real.numpy(), low, high),
        "between": quantized((seen(found.x[between]) @ basis).numpy(), low, high),
        "between_ids": packed(found.generators[between].numpy(), "u2"),
        "bars": [_bars(torch.from_numpy(one.samples)) for one in shown] if can_count(dataset) else [],
        "real_bars": _bars(found.real[:n]) if n and can_count(dataset) else [],
    }


def _bars(x: Tensor) -> list[float]:
    """The longest bars of the 0-dimensional barcode of points x (n, d), the longest first, as networks see lengths."""
    from toposampler.topology import deaths  # here, as numba takes half a second

    return deaths(x.float()).sort(descending=True).values[:BARS].tolist() if len(x) > 1 else []


def _images(dataset: Dataset, taken: Sequence[Taken]) -> dict[str, Any]:
    """The film of images: a row for each generator, a PNG for each step."""
    shown = [one for one in taken if one.grid is not None]
    pictures = [picture(one.grid) for one in shown if one.grid is not None]
    columns = pictures[0]["columns"] if pictures else 0
    wide = min(columns, len(dataset.x))  # of few images there is one row, or a short one
    rows = min(2, len(dataset.x) // wide) if wide else 0
    real = _bytes(dataset.x[: rows * wide]).reshape(rows, wide, *dataset.shape) if wide else None
    return {
        "kind": "images",
        "steps": [one.step for one in shown],
        "rows": [one.generators.tolist() for one in shown],
        "frames": pictures,
        "real": None if real is None else picture(real),
    }


def _nearest(dataset: Dataset, makers: Sequence[int], found: Assignment) -> list[dict[str, Any]]:
    """Of each active generator some images, and below each the nearest real one among those compared."""
    rows = []
    for k in makers[: 2 * GENERATORS]:
        mine = (found.generators == k).nonzero()[:, 0][:NEAREST]
        pair = torch.stack([found.x[mine], found.real[found.nearest[mine]]]).unflatten(2, dataset.shape)
        rows.append({"generator": k, **picture(_bytes(pair))})
    return rows


def _bytes(images: Tensor) -> NDArray:
    """Images in [-1, 1] as uint8."""
    return ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def _environment() -> dict[str, str]:
    """What the run was made with, as far as it may change numbers; no names of machines or users."""
    return {
        "toposampler": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
