"""The end of a run in words, and its report: what `result.json` says beside metrics, `report.json` and
`figures/report.html`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.files import write_atomically
from toposampler.metrics.evaluate import evaluate
from toposampler.metrics.findings import find
from toposampler.records import read_records
from toposampler.reporting.encoding import plain
from toposampler.reporting.recording import content
from toposampler.reporting.words import verdict, warnings
from toposampler.systems import System
from toposampler.training.snapshots import read_snapshots

REAL = 2000
"""real points that are evaluated as samples, against as many others, at most"""
FRAMES = 40
"""snapshots that a report plays, at most"""

log = logging.getLogger(__name__)


def conclude(
    folder: Path,
    averaged: AbstractContextManager[System],
    dataset: Dataset,
    sampled: tuple[Tensor, Tensor],
    labels: Tensor | None,
    seed: int,
    whole: bool,
) -> dict[str, Any]:
    """Write `report.json` to the run's `folder`, and return what `result.json` says beside the metrics.

    Args:
        folder: of the run, with its records and snapshots.
        averaged: puts the averaged weights in place while it is entered.
        dataset: the real data.
        sampled: (n, *shape) in the user's units, and the generators (n,) that made them.
        labels: (N,) components that the system has found in the data.
        seed: which points are compared.
        whole: whether this process holds all generators.
    """
    with averaged as system:
        prior = None if (p := system.prior()) is None else p.detach().cpu()
        findings, found = find(dataset, *sampled, prior, seed, labels)
        shown = content(system, dataset, read_snapshots(folder, FRAMES), findings, found, whole)
    records = read_records(folder / "metrics.jsonl")
    words = {
        "verdict": verdict(findings),
        "warnings": list(warnings(findings, records, len(dataset))),
        "findings": findings.as_json(),
        "evaluated": len(sampled[0]),
        "real": real_against_real(dataset, seed),
    }
    write_atomically(folder / "report.json", json.dumps(plain(shown), separators=(",", ":")))
    return words


def real_against_real(dataset: Dataset, seed: int) -> dict[str, Any]:
    """What the metrics of the same names are of real points, as samples, against as many others: `n`, `metrics`.

    Of fewer points than a run's samples: its distances are larger, its coverage is less, than of as many.
    """
    n = min(REAL, len(dataset.x) // 2)
    if n < 2:
        return {"n": 0, "metrics": {}}
    order = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(seed))
    others = Dataset(
        dataset.x[order[n:]],
        None if dataset.labels is None else dataset.labels[order[n:]],
        dataset.weights,
        dataset.manifold,
        dataset.transform,
    )
    return {"n": n, "metrics": evaluate(others, dataset.to_units(dataset.x[order[:n]]), None, None, seed, n)}


def write_page(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `figures/report.html` of the run in `folder`, which ends with `result`."""
    from toposampler.reporting.html import page
    from toposampler.reporting.runs import read_run

    (folder / "figures").mkdir(exist_ok=True)
    write_atomically(folder / "figures" / "report.html", page([read_run(folder, folder.name, result)]))
