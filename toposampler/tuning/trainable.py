"""What Ray Tune runs: a trial, with the checkpoints that population based training hands on; or a worker.

A worker is a process that trains one program of trials after the other.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from toposampler.config import to_yaml, validate
from toposampler.distributed.gauges import gauges
from toposampler.errors import StorageError, TrainingStoppedError, UserError, has_no_room
from toposampler.files import write_atomically
from toposampler.training.branch import branch
from toposampler.training.checkpoint import newest_checkpoint
from toposampler.training.config import RunConfig, differences, load_config, run_folder
from toposampler.training.lock import locked
from toposampler.tuning.post import fetched
from toposampler.tuning.programs import PATIENCE_S, Outcome, train_program
from toposampler.tuning.trial import Plan, reports, runs

STEP, FAILED = "generator_steps", "failed"
"""names of what a report holds beside metrics: generator steps done, and why the trial failed, if it has"""
NO_ROOM = "no_room"
"""the name under which a trial or a worker reports, in place of what it has come to, that the disk is full"""
NUMBER, OUTCOMES = "program", "outcomes"
"""names of what a worker reports: the number of a program, and as JSON what has come of its trials"""


def run_trial(config: dict[str, Any], plan: Plan) -> None:
    """Train one trial and report to Tune, from where its folder says that it stands.

    `config["order"]["values"]` are the searched values, by dotted key. The trial's name is Tune's, as a trial that
    exploits another gets its whole config. Errors that would come again are reported, not raised: after others Tune
    tries again.
    """
    name = tune.get_context().get_trial_name()
    folder = plan.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, patience_s=PATIENCE_S):  # what a killed driver has left running is gone soon
        step = 0
        try:
            configs = runs(plan, name, config["order"]["values"])
            torch.set_num_threads(configs[0].cluster.cpus_per_worker)
            write_atomically(folder / "config.yaml", to_yaml(configs[0]))
            if plan.exchanges:
                _take_over(configs, tune.get_checkpoint())
            moved = config["order"]["values"] if plan.exchanges else {}
            newest: dict[Path, Path] = {}  # the checkpoints written here, by the folder of their run
            told = reports(folder, plan, configs, moved, lambda _, path: newest.update({path.parent.parent: path}))
            # A trial that is stopped leaves by an exception of Tune's.
            with gauges(plan.folder.parent.name, {name: folder}), closing(told):
                for step, metrics in told:
                    with _carried(configs if plan.exchanges else [], newest) as checkpoint:
                        tune.report({**metrics, STEP: step}, checkpoint=checkpoint)
        except (TrainingStoppedError, UserError, OSError) as error:
            if isinstance(error, OSError) and not has_no_room(error):
                raise
            why = NO_ROOM if has_no_room(error) else FAILED
            worst = {key: float("inf") if way == "minimize" else -float("inf") for key, way in plan.objectives.items()}
            tune.report({**worst, STEP: step, why: str(error)})


def run_worker(config: dict[str, Any], plan: Plan) -> None:
    """Train the programs that the driver posts for this worker, until there are no more; report each to Tune.

    `config` has the `worker`'s number and the folder of the `post`. The process lasts: what it has imported, compiled
    and loaded serves all programs. After a report returns, the driver has heard it, and has posted what is next.
    """
    base = validate(RunConfig, plan.base)
    torch.set_num_threads(base.cluster.cpus_per_worker)
    load = cache(base.data.load)
    done = -1
    while (program := fetched(Path(config["post"]), config["worker"], done)) is not None:
        try:
            with gauges(plan.folder.parent.name, {order.name: plan.folder / order.name for order in program.members}):
                outcomes = train_program(plan, program, load)
        except UserError as error:
            outcomes = {order.name: Outcome(objectives={}, failed=str(error)) for order in program.members}
        except (StorageError, OSError) as error:
            if not has_no_room(error):
                raise
            tune.report({NUMBER: program.number, NO_ROOM: str(error)})
            return
        done = program.number
        tune.report({NUMBER: done, OUTCOMES: json.dumps(outcomes)})


def _take_over(configs: Sequence[RunConfig], given: tune.Checkpoint | None) -> None:
    """Bring each run's folder in line with its config: from the checkpoint that Tune gave, else from its own newest.

    Tune gives a trial that exploits another the other's checkpoint, and one that was paused its own.
    """
    for config in configs:
        known = run_folder(config) / "config.yaml"
        if known.exists() and differences(load_config(known), config):
            if given is not None:
                with given.as_directory() as place:
                    branch(config, Path(place) / f"{config.name}.pt")
            elif own := newest_checkpoint(run_folder(config) / "checkpoints"):
                branch(config, own[0])


@contextmanager
def _carried(configs: Sequence[RunConfig], newest: Mapping[Path, Path]) -> Iterator[tune.Checkpoint | None]:
    """The newest checkpoints of the runs as one of Tune's, which copies it; None for no runs.

    `newest` are those known to be good, by the folder of their run; for the others the newest readable one is found.
    """
    if not configs:
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        for config in configs:
            path = newest.get(run_folder(config))
            if path is None and (found := newest_checkpoint(run_folder(config) / "checkpoints")):
                path = found[0]
            if path is not None:
                shutil.copy(path, Path(place) / f"{config.name}.pt")
        yield tune.Checkpoint.from_directory(place)
