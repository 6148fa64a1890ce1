"""Which trials go on: Ray's ASHA with what earlier drivers saw, and Ray's PBT within the ranges of the space."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining, TrialScheduler

from toposampler.distributed.stop import ask
from toposampler.records import read_records
from toposampler.tuning.config import ASHA, PBT, Sweep
from toposampler.tuning.ledger import Entry
from toposampler.tuning.spaces import Number, Space
from toposampler.tuning.trial import STEP, trial_name


def scheduler(sweep: Sweep, earlier: Sequence[Entry]) -> TrialScheduler | None:
    """The sweep's scheduler, which knows of the `earlier` trials that have ended; None where every trial goes on."""
    mode = "min" if sweep.sign == 1 else "max"
    match sweep.config.scheduler:
        case ASHA(reduction=reduction):
            kind = AsyncHyperBandScheduler if sweep.base.cluster.num_workers == 1 else _asking(sweep.folder / "trials")
            asha = kind(
                STEP, sweep.metric, mode, max_t=sweep.steps, grace_period=sweep.every, reduction_factor=reduction
            )
            _recall(asha, sweep, earlier)
            return asha
        case PBT(quantile=quantile, resample=resample):
            # In step with each other: a trial that exploits another neither gains nor loses steps.
            return _population(sweep.steps)(
                STEP,
                sweep.metric,
                mode,
                perturbation_interval=sweep.every,
                quantile_fraction=quantile,
                custom_explore_fn=Explorer(sweep.space, resample, sweep.config.seed),
                log_config=False,
                synch=True,
            )
        case _:
            return None


def _population(last: int) -> type[PopulationBasedTraining]:
    """PBT that leaves trials alone that have done their `last` step: Ray's would have them exploit others once more."""

    class Population(PopulationBasedTraining):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if result[STEP] >= last:
                return str(TrialScheduler.STOP)
            return str(super().on_trial_result(tune_controller, trial, result))

    return Population


def _asking(trials: Path) -> type[AsyncHyperBandScheduler]:
    """ASHA that asks a trial to stop where Tune would kill its process, given the folder of all trials.

    A trial of several workers leads a group of Ray Train's. Were it killed, the place that is reserved for the group
    would stay reserved, and the next trial wait for it; asked by a file in its run's folder, it ends in order.
    """

    class Asking(AsyncHyperBandScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(tune_controller, trial, result)
            if decision != TrialScheduler.STOP or result[STEP] >= self._max_t:
                return str(decision)
            for run in (trials / str(trial)).glob("seed-*"):
                ask(run)
            return str(TrialScheduler.CONTINUE)

    return Asking


def _recall(asha: AsyncHyperBandScheduler, sweep: Sweep, earlier: Sequence[Entry]) -> None:
    """Tell `asha` of the reports of trials that ended under an earlier driver: its rungs are as if it had been one."""
    for entry in earlier:
        if entry.outcome == "running":
            continue
        trial = SimpleNamespace(trial_id=trial_name(entry.number))
        asha.on_trial_add(None, trial)
        for record in read_records(sweep.folder / "trials" / trial_name(entry.number) / "metrics.jsonl"):
            asha.on_trial_result(None, trial, {STEP: record.step, sweep.metric: record.metrics[f"eval/{sweep.metric}"]})


class Explorer:
    """Moves the constants that a trial takes over from another: each a step within its range, or drawn anew.

    Ray's own exploration multiplies by .8 or 1.2 and leaves the range: a decay of .99 would become 1.19.
    """

    def __init__(self, space: Space, resample: float, seed: int) -> None:
        self._space, self._resample, self._rng = space, resample, random.Random(seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """The `config` of the trial that is exploited, with new values."""
        values = dict(config["order"]["values"])
        for key, parameter in self._space.items():
            assert isinstance(parameter, Number), "checked before the sweep began"
            anew = self._rng.random() < self._resample
            values[key] = parameter.drawn(self._rng) if anew else parameter.moved(values[key], self._rng)
        return {**config, "order": {**config["order"], "values": values}}
