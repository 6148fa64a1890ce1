"""Programs of trials on Ray Tune, whose trials are workers here: processes that train one program after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from toposampler.config import ClusterConfig
from toposampler.tuning.engine import Unsaved, run_tune, said, silence
from toposampler.tuning.post import post
from toposampler.tuning.programs import Outcome, Program
from toposampler.tuning.trainable import NO_ROOM, NUMBER, OUTCOMES, run_worker
from toposampler.tuning.trial import Plan


class Source(Protocol):
    """Who gives out programs; calls come from one thread."""

    def take(self) -> Program | None:
        """The next program; None: none now, or none any more."""
        ...

    def done(self, program: Program, outcomes: Mapping[str, Outcome]) -> None:
        """A program has come to its step."""
        ...

    def no_room(self, reason: str) -> None:
        """A program has left off, as the disk is full: no further ones are to begin."""
        ...

    def finished(self) -> bool:
        """Whether there will be no more."""
        ...


TrainPrograms = Callable[[Plan, ClusterConfig, Source, int, Path], None]
"""who has the programs of a source trained: `run_programs`, or a function of the same arguments"""


def run_programs(plan: Plan, cluster: ClusterConfig, source: Source, workers: int, folder: Path) -> None:
    """Have the programs of `source` trained on the connected cluster, by `workers` processes that last.

    Tune places the workers, and starts those anew that are lost, `cluster.max_failures` times each; the trials of a
    program whose worker is lost for good have failed. What Tune writes, and the workers' post, goes into `folder`.
    """
    silence()
    place = folder / "post"
    while not source.finished():
        shutil.rmtree(place, ignore_errors=True)
        dealer = _Dealer(source, place, workers)
        dealer.deal()
        if not dealer.busy:  # there was nothing left to do
            continue
        numbers: dict[str, Any] = {"worker": tune.grid_search(list(range(workers))), "post": str(place)}
        search = {"search_alg": BasicVariantGenerator(max_concurrent=workers), "scheduler": FIFOScheduler()}
        run_tune(tune.with_parameters(run_worker, plan=plan), cluster, numbers, search, _worker_name, dealer, folder)


class _Dealer(Unsaved, tune.Callback):
    """Gives programs to the workers that have none, and its results to their source."""

    def __init__(self, source: Source, place: Path, workers: int) -> None:
        self._source, self._place = source, place
        self._idle, self._at = list(range(workers)), dict[int, Program]()

    @property
    def busy(self) -> bool:
        """Whether some worker has a program."""
        return bool(self._at)

    def deal(self) -> None:
        """Post a program for each worker that waits, while there are any."""
        while self._idle and (program := self._source.take()) is not None:
            worker = self._idle.pop(0)
            self._at[worker] = program
            post(self._place, worker, program)
        if not self._at and self._source.finished():
            for worker in self._idle:
                post(self._place, worker, None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        worker = trial.config["worker"]
        if worker in self._at and result[NUMBER] == self._at[worker].number:
            if NO_ROOM in result:
                del self._at[worker]  # it has ended
                self._source.no_room(result[NO_ROOM])
                self.deal()
                return
            self._over(worker, json.loads(result[OUTCOMES]), idle=True)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        worker, reason = trial.config["worker"], said(trial)
        if worker in self._at:
            lost = {order.name: Outcome(objectives={}, failed=reason) for order in self._at[worker].members}
            self._over(worker, lost, idle=False)
        elif worker in self._idle:
            self._idle.remove(worker)

    def _over(self, worker: int, outcomes: Mapping[str, Outcome], idle: bool) -> None:
        program = self._at.pop(worker)
        if idle:
            self._idle.append(worker)
        self._source.done(program, outcomes)
        self.deal()


def _worker_name(trial: Trial) -> str:
    return f"worker-{trial.config['worker']}"
