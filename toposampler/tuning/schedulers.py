"""Which trials go on: Ray's ASHA with what earlier drivers saw, and Ray's PBT within the ranges of the space."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining, TrialScheduler

from toposampler.distributed.stop import ask
from toposampler.records import read_records
from toposampler.tuning.config import ASHA, PBT, Sweep
from toposampler.tuning.ledger import Entry
from toposampler.tuning.spaces import Number, Space
from toposampler.tuning.trainable import STEP
from toposampler.tuning.trial import trial_name


def scheduler(sweep: Sweep, earlier: Sequence[Entry]) -> TrialScheduler | None:
    """The sweep's scheduler, which knows what the `earlier` trials have come to; None where every trial goes on."""
    mode = "min" if sweep.sign == 1 else "max"
    match sweep.config.scheduler:
        case ASHA(reduction=reduction):
            return Halving(sweep, mode, reduction, earlier)
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


class Halving(AsyncHyperBandScheduler):
    """Ray's ASHA, which continues after a kill as if there had been none.

    Its rungs are filled with all that the `earlier` trials have recorded, in the order in which they did. Trials are
    known by their names: Tune gives a trial that goes on another id. One that was to be stopped at its newest report,
    when the driver was killed, is stopped when it gives that report again.

    A trial of several workers, which leads a group of Ray Train's, is asked to stop by a file in its run's folder. Were
    its process killed, as Tune does, the place that is reserved for the group would stay reserved, and the next trial
    would wait for it.
    """

    def __init__(self, sweep: Sweep, mode: str, reduction: int, earlier: Sequence[Entry]) -> None:
        super().__init__(
            STEP, sweep.metric, mode, max_t=sweep.steps, grace_period=sweep.every, reduction_factor=reduction
        )
        self._trials = sweep.folder / "trials"
        self._asks = sweep.base.cluster.num_workers > 1
        self._to_be_stopped: set[str] = set()
        self._recall(sweep.metric, [trial_name(entry.number) for entry in earlier])

    def _recall(self, metric: str, names: Sequence[str]) -> None:
        """Evaluate again what the trials `names` have recorded."""
        recorded = [(record, name) for name in names for record in read_records(self._trials / name / "metrics.jsonl")]
        for name in names:
            super().on_trial_add(None, _known_by(name))
        for record, name in sorted(recorded, key=lambda of: of[0].time):
            value = record.metrics[f"eval/{metric}"]
            if not math.isfinite(value):  # of a version that recorded it: the trial has failed, and has no rank
                continue
            decision = super().on_trial_result(None, _known_by(name), {STEP: record.step, metric: value})
            if decision == TrialScheduler.STOP:
                self._to_be_stopped.add(name)
            elif not self._asks:  # it trained on after what was evaluated before, so it had been let go on
                self._to_be_stopped.discard(name)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _known_by(str(trial)))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, _known_by(str(trial)), result)
        if str(trial) not in self._to_be_stopped and decision != TrialScheduler.STOP:
            return str(TrialScheduler.CONTINUE)
        if not self._asks or result[STEP] >= self._max_t:
            return str(TrialScheduler.STOP)
        for run in (self._trials / str(trial)).glob("seed-*"):
            ask(run)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _known_by(str(trial)), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, _known_by(str(trial)))


def _known_by(name: str) -> Any:
    """A trial as Ray's ASHA needs it: with an id, here its name."""
    return SimpleNamespace(trial_id=name)


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
