"""Runs that a benchmark trains once, side by side, and reads again when it is started anew."""

from __future__ import annotations

import json
import multiprocessing
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from toposampler.training import RunConfig, train
from toposampler.training.config import run_folder
from toposampler.training.lock import locked
from toposampler.training.run import check

Task = TypeVar("Task")
Row = TypeVar("Row")


def trained(config: RunConfig) -> dict[str, Any]:
    """The result of the run `config`: trained on one thread, or read where it is complete.

    Raises UserError if the folder holds the results of other constants, or another process is at work there.
    """
    torch.set_num_threads(1)
    check(config)
    result_file = run_folder(config) / "result.json"
    with locked(run_folder(config)):  # a benchmark that was killed can have left a worker behind
        result: dict[str, Any] | None = json.loads(result_file.read_text()) if result_file.exists() else train(config)
    assert result is not None
    return result


def side_by_side(function: Callable[[Task], Row], tasks: Iterable[Task], processes: int) -> list[Row]:
    """`function` of each task, in `processes` processes at a time."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, tasks))


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results` as JSON to `path`, with the hardware they were measured on."""
    hardware = f"{platform.processor() or platform.machine()}, 1 thread a run, torch {torch.__version__}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"hardware": hardware, **results}, indent=1) + "\n")
