"""One trial of a sweep: a training run, or one for each of several seeds, and their reports.

A trial has a folder: a run's folder for each seed in it, `metrics.jsonl` with what the seeds agree on at each report,
`result.json` at the end. It is all that is needed to go on after a kill, and that MLflow is told.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from toposampler.config import merge_overrides, validate
from toposampler.data import Dataset
from toposampler.distributed.driver import stored_result
from toposampler.distributed.trainer import train_on_workers
from toposampler.errors import RunInterruptedError, TrainingStoppedError
from toposampler.files import write_atomically
from toposampler.plugins import Registered
from toposampler.records import RecordWriter, read_records
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.run import OnCheckpoint, Run, begin
from toposampler.training.together import advance_together

POLL_S = 0.2

Metrics = dict[str, float]
Report = tuple[int, Metrics]
"""generator step, and what was measured there"""
Reports = Generator[Report, None, None]


@dataclass(frozen=True)
class Plan:
    """What the trials of a sweep have in common."""

    base: dict[str, Any]
    """a RunConfig as plain values"""
    folder: Path
    """of all trials, absolute, seen by all machines"""
    seeds: tuple[int, ...]
    """each trial is trained with each of them"""
    every: int
    """generator steps between two reports"""
    aggregate: Literal["mean", "median", "worst"]
    """what of the seeds' metrics is reported"""
    objectives: Mapping[str, Literal["minimize", "maximize"]]
    """metrics that every report has, and which way is better"""
    exchanges: bool = False
    """whether reports carry checkpoints, for other trials to resume from"""
    registered: Registered = field(default_factory=Registered, compare=False)
    """what the driver was told of: a trial's process knows it once the plan has been unpickled"""


@dataclass(frozen=True)
class Order:
    """A trial that is to be run."""

    name: str
    values: Mapping[str, Any]
    """the searched values, by dotted key"""


def trial_name(number: int) -> str:
    """The name of a trial: of its folder, and in MLflow."""
    return f"trial-{number:03d}"


def runs(plan: Plan, name: str, values: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of the trial `name` with the searched `values`, one for each seed."""
    steps = {"training.evaluate_every": plan.every, "training.checkpoint_every": plan.every}
    place = {"output": str(plan.folder / name), "tracking.enabled": False}
    return [
        validate(RunConfig, merge_overrides(plan.base, {**values, **steps, **place, "name": f"seed-{s}", "seed": s}))
        for s in plan.seeds
    ]


def reports(
    folder: Path,
    plan: Plan,
    configs: Sequence[RunConfig],
    moved: Mapping[str, float],
    saved: OnCheckpoint | None = None,
) -> Reports:
    """Train the runs of a trial, all to one report before any to the next: (generator step, objectives).

    Begins with the newest report that the trial has recorded. What is found is recorded in the trial's folder, with the
    `moved` constants as `value/...`: those that are others at other steps. `saved` is called after each checkpoint that
    is written in this process.

    Raises TrainingStoppedError if an objective is not finite, and what training raises.
    """
    records = RecordWriter(folder / "metrics.jsonl")
    first = min(records.last_step, *map(_newest_report, configs))
    with ExitStack() as stack:
        if configs[0].cluster.num_workers == 1:
            data = cache(configs[0].data.load)  # of all seeds
            found: Iterator[Sequence[Report]] = stack.enter_context(closing(_here(configs, first, data, saved)))
        elif len(configs) == 1:
            found = zip(stack.enter_context(closing(_on_workers(configs[0], first))), strict=True)
        else:  # all workers that there are belong to one run: one after the other
            found = zip(*(_on_workers_to_the_end(config, first) for config in configs), strict=True)
        for looks in found:
            yield noted(folder, plan, configs, looks, moved, records)


def noted(
    folder: Path,
    plan: Plan,
    configs: Sequence[RunConfig],
    looks: Sequence[Report],
    moved: Mapping[str, float],
    records: RecordWriter,
) -> Report:
    """Record what the runs of a trial have come to at one step, `looks`, each with all its metrics; see `reports`."""
    (step,) = {step for step, _ in looks}
    for config, (_, own) in zip(configs, looks, strict=True):
        _check_objectives(plan, config.seed, step, own)
    metrics = _agreed([metrics for _, metrics in looks], plan)
    of_seeds = {
        of_seed(config.seed, name): own[f"eval/{name}"]
        for config, (_, own) in zip(configs, looks, strict=True)
        for name in plan.objectives
        if len(looks) > 1
    }
    records.write(step, metrics | of_seeds | {f"value/{key}": value for key, value in moved.items()})
    if step == configs[0].training.generator_steps:
        _write_result(folder, configs, metrics)
    return step, {name: metrics[f"eval/{name}"] for name in plan.objectives}


def of_seed(seed: int, metric: str) -> str:
    """The name under which a trial of several seeds records an objective of one of them."""
    return f"seed/{seed}/{metric}"


def _check_objectives(plan: Plan, seed: int, step: int, metrics: Metrics) -> None:
    """Raises TrainingStoppedError if an objective is not finite: it could be compared with no other trial's."""
    for name in plan.objectives:
        if not isfinite(value := metrics[f"eval/{name}"]):
            raise TrainingStoppedError(f"{name} is {value} at generator step {step} with seed {seed}")


def _agreed(of_seeds: Sequence[Metrics], plan: Plan) -> Metrics:
    """The metrics that all seeds have, as one: objectives as the plan says, others as their mean.

    Generators have no order that seeds share, so the masses of single ones are kept of a single seed only.
    """
    if len(of_seeds) == 1:
        return of_seeds[0]
    names = [name for name in of_seeds[0] if all(name in m for m in of_seeds) and not name.startswith("mass/")]
    agreed = {}
    for name in names:
        values = [metrics[name] for metrics in of_seeds]
        way = plan.objectives.get(name.removeprefix("eval/"))
        if way is None or plan.aggregate == "mean":
            agreed[name] = fmean(values)
        elif plan.aggregate == "median":
            agreed[name] = median(values)
        else:
            agreed[name] = max(values) if way == "minimize" else min(values)
    return agreed


def _write_result(folder: Path, configs: Sequence[RunConfig], metrics: Metrics) -> None:
    """`result.json` of a trial: what its seeds agree on, and each seed's own."""
    results = {str(config.seed): stored_result(config) or {} for config in configs}
    result = {
        "metrics": {name.removeprefix("eval/"): v for name, v in metrics.items() if name.startswith("eval/")},
        "generator_steps": configs[0].training.generator_steps,
        "seconds": round(sum(result["seconds"] for result in results.values()), 1),
        "seeds": {seed: {key: result[key] for key in ("metrics", "model")} for seed, result in results.items()},
    }
    write_atomically(folder / "result.json", json.dumps(result, indent=2))


def _here(
    configs: Sequence[RunConfig], first: int, data: Callable[[], Dataset], saved: OnCheckpoint | None
) -> Generator[list[Report], None, None]:
    """Train runs in this process as one program, and wait at each report from `first` on: of each run its generator
    step, and all its metrics.

    The runs are built once, where the first step is due, and resume from one report to the next as they are. `data` is
    called then, for what they are trained on.
    """
    runs: list[Run] = []
    with ExitStack() as stack:

        def begun() -> list[Run]:
            if not runs:
                left = [config for config in configs if stored_result(config) is None]
                runs.extend(stack.enter_context(begin(config, saved, dataset=data())) for config in left)
            return runs

        for step in report_steps(configs[0], first):
            if any(recorded(config, step) is None for config in configs):
                _advance(begun(), step)
            yield [(step, recorded(config, step) or {}) for config in configs]
        if any(stored_result(config) is None for config in configs):
            _advance(begun(), configs[0].training.generator_steps)
            for run in begun():
                run.finish()
    yield [end_of(config, stored_result(config) or {}) for config in configs]


def _advance(runs: Sequence[Run], step: int) -> None:
    """Train until `step`: one run as it is, several as one program."""
    if len(runs) == 1:
        runs[0].advance(step)
    else:
        advance_together(runs, step)


def _on_workers(config: RunConfig, first: int) -> Reports:
    """As `_here`, on a group of Ray Train's workers, which train on while a report is looked at.

    Ends early, after the reports there are, if the run is asked to stop (`toposampler.distributed.stop`).
    """
    outcome: list[dict[str, Any] | Exception] = []

    def work() -> None:
        try:
            outcome.append(stored_result(config) or train_on_workers(config))
        except Exception as error:  # raised below, where somebody waits for it
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for step in report_steps(config, first):
        while (found := recorded(config, step)) is None and thread.is_alive():
            time.sleep(POLL_S)
        if found := found or recorded(config, step):
            yield step, found
    thread.join()
    (ended,) = outcome
    if isinstance(ended, RunInterruptedError):
        return
    if isinstance(ended, Exception):
        raise ended
    yield end_of(config, ended)


def _on_workers_to_the_end(config: RunConfig, first: int) -> Reports:
    """As `_on_workers`, with the whole run trained before its first report is given."""
    yield from list(_on_workers(config, first))


def report_steps(config: RunConfig, first: int) -> range:
    """The steps of a run's reports from `first` on, but for its end."""
    every, last = config.training.evaluate_every, config.training.generator_steps
    return range(max(first, every), last, every)


def _newest_report(config: RunConfig) -> int:
    """The step of the newest report of a run, 0 if there is none; its end counts when all is written."""
    if stored_result(config):
        return config.training.generator_steps
    evaluated = [r.step for r in read_records(run_folder(config) / "metrics.jsonl") if _is_report(r.metrics)]
    return evaluated[-1] if evaluated else 0


def recorded(config: RunConfig, step: int) -> Metrics | None:
    """The metrics of a run's report at `step`, if it has come so far."""
    for record in read_records(run_folder(config) / "metrics.jsonl"):
        if record.step == step and _is_report(record.metrics):
            return record.metrics
    return None


def _is_report(metrics: Metrics) -> bool:
    return any(name.startswith("eval/") for name in metrics)


def end_of(config: RunConfig, result: dict[str, Any]) -> tuple[int, Metrics]:
    """The last report of a run: its last record, and the final evaluation."""
    last = config.training.generator_steps
    losses = read_records(run_folder(config) / "metrics.jsonl")[-1].metrics
    return last, losses | {f"eval/{name}": value for name, value in result["metrics"].items()}
