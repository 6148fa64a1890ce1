"""Evaluation beside training (`cluster.evaluate_beside`): another process measures samples while training goes on.

Rank 0 draws the samples, as it does without, and hands them over: the metrics are the same to the last bit. A record
holds the metrics of its own step, so it is written once they are there, and later records wait for it: `metrics.jsonl`
has the same lines in the same order. One evaluation at a time is in flight; where the next one is due, or a checkpoint
is written at a later step, training waits. A checkpoint of the same step holds what is recorded of that step, and a
resumed run evaluates it again. So a kill loses and doubles nothing.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.metrics.evaluate import Evaluation, evaluation
from toposampler.plugins import Registered

LOSSES = 3
"""processes that may be lost before a run evaluates in its own process"""
UNFINISHED = "record"
"""in a checkpoint: what is recorded of its step beside the evaluation that was in flight"""
NICENESS = 10
"""of a process that evaluates: where CPUs are scarce, training has them first"""

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A line of `metrics.jsonl` that is to be written."""

    step: int
    metrics: Mapping[str, float]
    measured: float | None
    """when, in seconds since 1970; None: when it is written"""


class Drawn(NamedTuple):
    """What an evaluation looks at, on the CPU."""

    samples: Tensor
    """(n, *shape), in the user's units"""
    ids: Tensor
    """(n,) the generators that made them"""
    prior: Tensor | None
    """(K,)"""


class SampleMetrics:
    """Measures samples of a run, in this process or, pickled, in another one.

    Args:
        dataset: what is real.
        seed: of the choice of real samples.
        least_active: see `metrics.evaluate.evaluation`.
    """

    def __init__(self, dataset: Dataset, seed: int, least_active: float | None = None) -> None:
        self._least_active = least_active
        self._dataset, self._seed, self._registered = replace(dataset, rows=None), seed, Registered()
        self.threads = torch.get_num_threads()
        """that torch computes with where training is: other numbers of threads round otherwise"""

    def evaluation(self, drawn: Drawn) -> Evaluation:
        """What the samples show against as many real ones. Raises as `metrics.evaluate.evaluation`."""
        return evaluation(self._dataset, *drawn, self._seed, len(drawn.samples), self._least_active)

    def metrics(self, drawn: Drawn) -> dict[str, float]:
        """The metrics of an evaluation, by name."""
        return self.evaluation(drawn).metrics

    def outcome(self, drawn: Drawn) -> dict[str, float] | Exception:
        """The metrics, or what was raised, for another process; in words, where it cannot be pickled."""
        try:
            return self.metrics(drawn)
        except Exception as error:
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:
                return RuntimeError(f"{type(error).__name__}: {error}")
            return error


class EvaluatorLostError(Exception):
    """The process that evaluates has ended, or never begun. The message says why."""


class Evaluator(Protocol):
    """Another process that evaluates."""

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        """Hand samples over, at once. The result is what `SampleMetrics.metrics` gives or raises there, or
        EvaluatorLostError."""
        ...

    def close(self) -> None:
        """End the process, whatever it is at."""
        ...


MakeEvaluator = Callable[[SampleMetrics], Evaluator]


class Beside:
    """Holds records back until the evaluation before them is there. Of rank 0; see the module.

    Args:
        evaluate: of the run.
        make: makes the process.
    """

    def __init__(self, evaluate: SampleMetrics, make: MakeEvaluator) -> None:
        self._judge, self._make = evaluate, make
        self._evaluator: Evaluator | None = make(evaluate)
        self._losses = 0
        self._drawn: Drawn | None = None
        self._result: Future[dict[str, float]] | None = None
        self._held: list[Entry] = []

    def add(self, entry: Entry, drawn: Drawn | None = None) -> list[Entry]:
        """Take the record of a step, and what is to be evaluated for it; returns the records that can be written now.

        Waits, with `drawn`, for the evaluation before. Raises as that does.
        """
        ready = self.ready(wait=drawn is not None)
        if drawn is not None:
            self._drawn, self._result = drawn, self._start(drawn)
        if self._result is None:
            return [*ready, entry]
        self._held.append(entry)
        return ready

    def ready(self, wait: bool = False) -> list[Entry]:
        """The records that can be written now; with `wait`, all. Raises as the evaluation does."""
        if self._result is None or not (wait or self._result.done()):
            return []
        (first, *later), self._held = self._held, []
        result, self._result = self._result, None
        metrics = self._come(result)
        self._drawn = None
        return [first._replace(metrics={**first.metrics, **{f"eval/{name}": v for name, v in metrics.items()}}), *later]

    def waiting(self, step: int) -> Mapping[str, float] | None:
        """What the record of `step` holds beside its evaluation, if that is in flight."""
        in_flight = self._result is not None and self._held[0].step == step
        return self._held[0].metrics if in_flight else None

    def close(self) -> None:
        """End the process; an evaluation in flight is given up."""
        if self._evaluator is not None:
            self._evaluator.close()
        self._evaluator = None

    def _start(self, drawn: Drawn) -> Future[dict[str, float]]:
        if self._evaluator is None and self._losses < LOSSES:
            self._evaluator = self._make(self._judge)
        if self._evaluator is not None:
            return self._evaluator.start(drawn)
        here: Future[dict[str, float]] = Future()
        here.set_result(self._judge.metrics(drawn))
        return here

    def _come(self, result: Future[dict[str, float]]) -> dict[str, float]:
        """The metrics in `result`, waited for; where the process is lost, those of an evaluation in this one."""
        try:
            return result.result()
        except EvaluatorLostError as error:
            self._losses += 1
            then = "the next has a new one" if self._losses < LOSSES else "further ones have none either"
            log.warning(
                "the process that evaluates beside training is lost: %s; this evaluation is done in the training "
                "process, and %s",
                error,
                then,
            )
        self.close()
        assert self._drawn is not None, "it is kept until its result is there"
        return self._judge.metrics(self._drawn)
