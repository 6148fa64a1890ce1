"""The trials of a sweep on Ray Tune: how many at a time, which next, which go on, and what their driver is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import toposampler.distributed  # noqa: F401  (sets Ray's environment variables)

os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is the driver's own
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # trials write their own records
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")  # short runs exchange often
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune prints tables of its own, whatever its verbosity

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, Searcher

from toposampler.config import ClusterConfig
from toposampler.distributed.capacity import nodes as connected_nodes
from toposampler.distributed.resources import (
    Node,
    chosen,
    per_worker,
    shortage,
    this_machine,
    workers_on,
    workers_that_fit,
)
from toposampler.errors import StorageError, UserError
from toposampler.tuning.spaces import Values
from toposampler.tuning.trainable import FAILED, NO_ROOM, STEP, run_trial
from toposampler.tuning.trial import Order, Plan

DRIVER_MEMORY = 300e6
"""bytes reserved for the process that leads a trial of several workers; it needs no CPU, which the workers have"""


class Follower(Protocol):
    """Who is told how the trials go; calls come from one thread."""

    def reported(self, name: str, values: Values, step: int, objectives: Mapping[str, float]) -> None:
        """A trial has come to `step`."""
        ...

    def ended(self, name: str, failure: str | None) -> None:
        """A trial has ended, or was stopped; `failure` says why it failed, if it did."""
        ...

    def no_room(self, reason: str) -> None:
        """A trial has left off, as the disk is full: no further ones are to begin."""
        ...


def out_of_room(reason: str) -> StorageError:
    """The end of a sweep of which a trial, or a program, could not write: `reason` says where."""
    return StorageError(
        f"the sweep has stopped: {reason}; once there is room, the same command with --resume continues what has not "
        "ended"
    )


def concurrent_trials(nodes: Sequence[Node], cluster: ClusterConfig, most: int | None) -> int:
    """How many trials at a time `nodes` have room for, but no more than `most`: counted worker by worker.

    Raises UserError, saying what is missing, if there is room for none.
    """
    whole = [replace(node, free=node.total) for node in nodes]
    if short := shortage(cluster, whole, "the cluster" if len(nodes) > 1 else nodes[0].name):
        raise UserError(f"no trial fits: {short}")
    counts = [workers_on(per_worker(cluster), node.total) for node in chosen(cluster, nodes)]
    if cluster.placement_strategy == "STRICT_PACK":
        fit = sum(count // cluster.num_workers for count in counts)
    else:
        fit = workers_that_fit(cluster, counts) // cluster.num_workers
    return min(max(1, fit), most or fit)  # an elastic trial may begin with fewer workers


def nodes() -> list[Node]:
    """The machines of the connected cluster, or this one."""
    return connected_nodes() if ray.is_initialized() else [this_machine()]


def trial_resources(cluster: ClusterConfig) -> tune.PlacementGroupFactory:
    """What Tune reserves for a trial: its one worker's resources; of a group, which Ray Train reserves, nearly none.

    Were the group's driver given a CPU, drivers could fill a small cluster, and each would wait for its workers.
    """
    if cluster.num_workers > 1:
        return tune.PlacementGroupFactory([{"memory": DRIVER_MEMORY}])
    labels = {"bundle_label_selector": [dict(cluster.label_selector)]} if cluster.label_selector else {}
    return tune.PlacementGroupFactory([per_worker(cluster)], **labels)


class Unsaved:
    """What Tune writes to disk without it: Tune's own state is never resumed, the sweep's ledger is."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Orders(Unsaved, Searcher):
    """Gives Tune one order after the other, each asked for when there is room for it."""

    def __init__(self, take: Callable[[], Order | None]) -> None:
        super().__init__()
        self._take = take

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """See Tune's Searcher."""
        order = self._take()
        return Searcher.FINISHED if order is None else {"order": vars(order)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Tune's Searcher; a Follower is told more."""


class _Told(Unsaved, tune.Callback):
    """Tells a Follower what Tune tells its callbacks."""

    def __init__(self, follower: Follower, objectives: Sequence[str]) -> None:
        self._follower, self._objectives = follower, objectives

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if NO_ROOM in result:
            self._follower.no_room(result[NO_ROOM])
        elif FAILED not in result:
            objectives = {name: float(result[name]) for name in self._objectives}
            self._follower.reported(str(trial), trial.config["order"]["values"], result[STEP], objectives)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if NO_ROOM not in trial.last_result:
            self._follower.ended(str(trial), trial.last_result.get(FAILED))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._follower.ended(str(trial), said(trial))


def run(
    plan: Plan,
    cluster: ClusterConfig,
    take: Callable[[], Order | None] | Sequence[Order],
    follower: Follower,
    concurrency: int,
    folder: Path,
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run trials on the connected cluster until there are no more.

    Args:
        plan: what the trials have in common.
        cluster: what each of them asks for.
        take: gives the next order, None when there are no more; or all of them, where the scheduler (population based
            training) must know all before it begins.
        follower: told how they go.
        concurrency: trials at a time.
        folder: for what Tune writes; nothing in it is read again.
        scheduler: which trials go on; None: all of them.
    """
    silence()
    if callable(take):
        space: dict[str, Any] = {}
        search: dict[str, Any] = {"search_alg": _Orders(take), "num_samples": -1, "max_concurrent_trials": concurrency}
    else:
        space = {"order": tune.grid_search([vars(order) for order in take])}
        search = {"search_alg": BasicVariantGenerator(max_concurrent=concurrency)}
    run_tune(
        tune.with_parameters(run_trial, plan=plan),
        cluster,
        space,
        {**search, "scheduler": scheduler or FIFOScheduler()},
        _name,
        _Told(follower, list(plan.objectives)),
        folder,
    )


def said(trial: Trial) -> str:
    """Why Tune gives a trial up: the last line of what it says, and where the rest is."""
    lines = [line.strip() for line in str(trial.get_error()).splitlines() if line.strip()]
    return f"{lines[-1]} (all of it: {trial.local_path}/error.txt)"


def silence() -> None:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it says is said by who is told


def run_tune(
    trainable: Any,
    cluster: ClusterConfig,
    space: dict[str, Any],
    settings: dict[str, Any],
    name: Callable[[Trial], str],
    callback: tune.Callback,
    folder: Path,
) -> None:
    """Run `trainable` on Tune with the points of `space`; `settings` are of its TuneConfig."""
    tune.Tuner(
        tune.with_resources(trainable, trial_resources(cluster)),
        param_space=space,
        tune_config=tune.TuneConfig(
            **settings,
            trial_name_creator=name,
            trial_dirname_creator=name,
            # A process that is kept saves the next trial seconds; one that leads a group must end for it to end.
            reuse_actors=cluster.num_workers == 1,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=cluster.max_failures),
            verbose=0,
        ),
    ).fit()


def _name(trial: Trial) -> str:
    return str(trial.config["order"]["name"])
