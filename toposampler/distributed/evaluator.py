"""The process that evaluates beside a training on Ray: an actor, on CPUs of its own, on any node of the cluster.

Ray Train's own means, `ValidationConfig`, validates checkpoints that are reported: its results come to the process that
leads the workers, and with a checkpoint for each. Here an evaluation needs no checkpoint, and its metrics stand in the
record of its step, which rank 0 writes.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayError

from toposampler.config import ClusterConfig
from toposampler.distributed.cluster import first_line
from toposampler.distributed.resources import amounts, of_evaluator
from toposampler.training.beside import NICENESS, Drawn, EvaluatorLostError, SampleMetrics

START_S = 20.0
"""seconds that the actor may take to find its CPUs, from the first evaluation on: its room is checked before a run"""


class RayEvaluator:
    """An actor of Ray for `SampleMetrics.metrics`, with CPUs and threads of one worker. It ends with this process."""

    def __init__(self, evaluate: SampleMetrics, cluster: ClusterConfig) -> None:
        has = of_evaluator(cluster)
        self._asks = amounts(has)
        actor = ray.remote(_Evaluator).options(
            num_cpus=has["CPU"],
            max_restarts=0,
            scheduling_strategy="DEFAULT",  # not in the place that Ray Train has reserved for its workers
            label_selector=dict(cluster.label_selector) or None,
        )
        self._actor = actor.remote(evaluate)
        self._begun = self._actor.begun.remote()
        self._thread = ThreadPoolExecutor(1, "evaluator")

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        """See `training.beside.Evaluator`."""
        return self._thread.submit(self._measured, drawn)

    def close(self) -> None:
        """See `training.beside.Evaluator`."""
        ray.kill(self._actor)
        self._thread.shutdown()  # what it waits for has broken off

    def _measured(self, drawn: Drawn) -> dict[str, float]:
        # As numpy: Ray reads large arrays where they lie, and pickles tensors.
        arrays = [None if part is None else part.numpy() for part in drawn]
        try:
            there, _ = ray.wait([self._begun], timeout=START_S)
            if not there:
                raise EvaluatorLostError(f"no node has had {self._asks} free for it within {START_S:g} s")
            outcome: dict[str, float] | Exception = ray.get(self._actor.measure.remote(*arrays))
        except RayError as error:
            raise EvaluatorLostError(first_line(error)) from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class _Evaluator:
    """The actor."""

    def __init__(self, evaluate: SampleMetrics) -> None:
        os.nice(NICENESS)
        torch.set_num_threads(evaluate.threads)
        self._judge = evaluate

    def begun(self) -> None:
        """Answers once the actor is there."""

    def measure(self, samples: np.ndarray, ids: np.ndarray, prior: np.ndarray | None) -> Any:
        """What `SampleMetrics.outcome` gives. Ray's arrays cannot be written to, as tensors of torch can."""
        parts = [None if part is None else torch.from_numpy(part.copy()) for part in (samples, ids, prior)]
        return self._judge.outcome(Drawn(*parts))  # type: ignore[arg-type]  # as they were sent
