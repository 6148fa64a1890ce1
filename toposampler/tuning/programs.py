"""Trials that are trained as one program: which can be, and one round of it, in one process.

Settings that differ only in what the members of a population may differ in (`toposampler.training.population`) step
together, each with all its seeds. A program is trained to a step at which trials are compared; which continue from
there, and together with which, is decided outside. A trial has the folder, the records and the result that it has
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

from toposampler.config import to_yaml
from toposampler.data import Dataset
from toposampler.distributed.driver import stored_result
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.files import write_atomically
from toposampler.records import RecordWriter, read_records
from toposampler.training.config import RunConfig
from toposampler.training.lock import locked
from toposampler.training.population import check_alike
from toposampler.training.run import Run, begin
from toposampler.training.together import advance_together, finish_together
from toposampler.tuning.trial import Order, Plan, end_of, noted, recorded, report_steps, runs

PATIENCE_S = 60.0
"""how long a program waits for the processes of a killed driver to leave the folder of a trial"""


@dataclass(frozen=True)
class Program:
    """Trials that are trained together until a step."""

    number: int
    """of the programs that a driver gives out; none has the number of another"""
    until: int
    """generator steps to be done"""
    members: tuple[Order, ...]


class Outcome(TypedDict):
    """What has come of one trial of a program."""

    objectives: dict[str, float]
    """at the program's last step; none if the trial has failed"""
    failed: str | None
    """why it has ended without them"""


def grouped(plan: Plan, orders: Sequence[Order], most: int, workers: int) -> list[list[Order]]:
    """Trials by the programs they can form: no more than `most` in one, and where it can be one for each worker."""
    alike: list[tuple[RunConfig, list[Order]]] = []
    for order in orders:
        config = runs(plan, order.name, order.values)[0]
        for first, members in alike:
            if _alike(first, config):
                members.append(order)
                break
        else:
            alike.append((config, [order]))
    parts = [part for _, members in alike for part in _cut(members, math.ceil(len(members) / most))]
    while len(parts) < workers and len(largest := max(parts, key=len)) > 1:
        place = parts.index(largest)
        parts[place : place + 1] = _cut(largest, 2)
    return parts


def _alike(one: RunConfig, other: RunConfig) -> bool:
    try:
        check_alike([one, other])
    except UserError:
        return False
    return True


def _cut(members: list[Order], parts: int) -> list[list[Order]]:
    """`members` in so many parts, as equal as can be."""
    ends = [len(members) * i // parts for i in range(parts + 1)]
    return [members[start:end] for start, end in pairwise(ends)]


def train_program(plan: Plan, program: Program, load: Callable[[], Dataset]) -> dict[str, Outcome]:
    """Train the trials of `program` until its step, from where their folders say that they stand.

    `load` gives the data; it is called if a step is left to do. Returns what has come of each trial, by its name. A
    trial fails alone: if a loss, a parameter or an objective of one of its seeds is not finite. Raises StorageError or
    OSError if a folder cannot be written to.
    """
    failed: dict[str, str] = {}
    trials = {order.name: runs(plan, order.name, order.values) for order in program.members}
    with ExitStack() as stack:
        for name, configs in trials.items():
            folder = plan.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder, patience_s=PATIENCE_S))
            write_atomically(folder / "config.yaml", to_yaml(configs[0]))
        _train(trials, program.until, failed, load)
        return {
            order.name: _outcome(plan, order, trials[order.name], program.until, failed.get(order.name))
            for order in program.members
        }


def _train(
    trials: Mapping[str, Sequence[RunConfig]], until: int, failed: dict[str, str], load: Callable[[], Dataset]
) -> None:
    """Have every run come to its report at step `until`; `failed` gets the trials that cannot, with the reason."""
    last = next(iter(trials.values()))[0].training.generator_steps
    with ExitStack() as stack:
        of_trial: dict[str, list[Run]] = {}
        for name, configs in trials.items():
            for config in configs:
                done = stored_result(config) if until == last else recorded(config, until)
                if done is None:
                    before = of_trial.setdefault(name, [])
                    prepared = before[0].prepared if before else None
                    before.append(stack.enter_context(begin(config, dataset=load(), prepared=prepared)))
        names = {id(run): name for name, of in of_trial.items() for run in of}

        def fails(run: Run, error: TrainingStoppedError) -> None:
            failed.setdefault(names[id(run)], str(error))

        left = [run for of in of_trial.values() for run in of]
        if left:
            advance_together(left, until, fails)
        if until == last:
            finish_together((run for run in left if names[id(run)] not in failed), fails)


def _outcome(plan: Plan, order: Order, configs: Sequence[RunConfig], until: int, failure: str | None) -> Outcome:
    """Record what a trial has come to since its last record, and return its objectives at step `until`."""
    folder = plan.folder / order.name
    if failure is not None:
        return Outcome(objectives={}, failed=failure)
    records = RecordWriter(folder / "metrics.jsonl")
    try:
        moved = order.values if plan.exchanges else {}
        steps = [step for step in report_steps(configs[0], records.last_step + plan.every) if step <= until]
        for step in steps:
            noted(folder, plan, configs, [(step, recorded(config, step) or {}) for config in configs], moved, records)
        if until == configs[0].training.generator_steps and records.last_step < until:
            noted(folder, plan, configs, [end_of(c, stored_result(c) or {}) for c in configs], moved, records)
    except TrainingStoppedError as error:
        return Outcome(objectives={}, failed=str(error))
    finally:
        records.close()
    (found,) = [record.metrics for record in read_records(folder / "metrics.jsonl") if record.step == until]
    return Outcome(objectives={name: found[f"eval/{name}"] for name in plan.objectives}, failed=None)
