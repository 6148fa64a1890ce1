"""What Ray Tune runs as one trial: its reports, and the checkpoints that population based training hands on."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from ray import tune

from toposampler.config import to_yaml
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.files import write_atomically
from toposampler.training.branch import branch
from toposampler.training.checkpoint import newest_checkpoint
from toposampler.training.config import RunConfig, differences, load_config, run_folder
from toposampler.training.lock import locked
from toposampler.tuning.trial import Plan, reports, runs

STEP, FAILED = "generator_steps", "failed"
"""names of what a report holds beside metrics: generator steps done, and why the trial failed, if it has"""
PATIENCE_S = 60.0
"""how long a trial waits for the processes of a killed driver to leave its folder"""
POLL_S = 0.2


def run_trial(config: dict[str, Any], plan: Plan) -> None:
    """Train one trial and report to Tune, from where its folder says that it stands.

    `config["order"]["values"]` are the searched values, by dotted key. The trial's name is Tune's, as a trial that
    exploits another gets its whole config. Errors that would come again are reported, not raised: after others Tune
    tries again.
    """
    name = tune.get_context().get_trial_name()
    folder = plan.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
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
            with closing(told):  # a trial that is stopped leaves by an exception of Tune's
                for step, metrics in told:
                    with _carried(configs if plan.exchanges else [], newest) as checkpoint:
                        tune.report({**metrics, STEP: step}, checkpoint=checkpoint)
        except (TrainingStoppedError, UserError) as error:
            worst = {key: float("inf") if way == "minimize" else -float("inf") for key, way in plan.objectives.items()}
            tune.report({**worst, STEP: step, FAILED: str(error)})


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep others off a trial's folder; what a killed driver has left running is gone soon, and waited for."""
    deadline = time.monotonic() + PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except UserError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
        yield


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
