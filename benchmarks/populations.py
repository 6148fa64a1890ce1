"""Runs of one configuration trained as a population, and results that are kept trial by trial: for benchmarks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runs import write_results
from toposampler.data.base import Dataset
from toposampler.metrics.distance import sliced_wasserstein
from toposampler.nn.custom import Networks
from toposampler.systems.base import System
from toposampler.training import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.population import Population
from toposampler.training.process_group import ProcessGroup

Row = dict[str, Any]


def loops_of(
    config: RunConfig,
    dataset: Dataset,
    seeds: Sequence[int],
    networks: Networks | None = None,
    changed: Callable[[System], None] = lambda system: None,
) -> list[Loop]:
    """A loop of `config` for each of `seeds`, as a run's own, with weights that `changed` may have set anew."""
    prepared, loops = config.system.prepare(dataset), []
    told = replace(dataset, labels=prepared.labels)
    for seed in seeds:
        torch.manual_seed(seed)
        system = prepared.build(dataset.shape, networks)
        changed(system)
        loops.append(Loop(system, told, config.training, seed, torch.device("cpu"), Placement(ProcessGroup())))
    return loops


def stepped(loops: Sequence[Loop], at: Sequence[int]) -> Iterator[int]:
    """Train `loops` together, and yield each of the steps `at`, ascending, when it is reached."""
    program = Population(loops) if len(loops) > 1 else loops[0]
    for step in at:
        while program.step < step:
            program.iteration()
        yield step


@torch.no_grad()
def of_latents(loop: Loop, noise: dict[str, Tensor]) -> Tensor:
    """What the last weights make of fixed latents and generators, tensors (n, ...): (n, *shape)."""
    return loop.system.generate(noise)


def distance(x: Tensor, y: Tensor, directions: int = 128) -> float:
    """The sliced 2-Wasserstein distance of x and y, both (n, *shape), along directions that are always the same."""
    return sliced_wasserstein(x.flatten(1), y.flatten(1), directions, torch.Generator().manual_seed(0))


def kept(path: Path) -> list[Row]:
    """The trials that `path` holds; none if there is no such file."""
    return json.loads(path.read_text())["trials"] if path.exists() else []


def go_on(path: Path, trials: Sequence[Row], rows_of: Callable[[Row], Any]) -> list[Row]:
    """`trials` with `rows`, what `rows_of` finds of each: those that `path` lacks are done, and kept there one by one.

    A trial is what it is asked by, all keys but `rows`, `cpu_seconds` and `date`.
    """
    done = kept(path)
    for trial in trials:
        if any(trial.items() <= row.items() for row in done):
            continue
        start = time.process_time()
        rows = rows_of(trial)
        more = {"cpu_seconds": round(time.process_time() - start, 1), "date": date.today().isoformat(), "rows": rows}
        done.append(trial | more)
        write_results(path, {"trials": done})
        print({name: value for name, value in done[-1].items() if name != "rows"}, flush=True)
    return [next(row for row in done if trial.items() <= row.items()) for trial in trials]
