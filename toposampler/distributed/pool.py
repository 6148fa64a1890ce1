"""Independent pieces of work for several processes: actors of Ray of one thread each."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Generic, TypeVar

import ray
import torch
from ray.util import ActorPool

from toposampler.config import ClusterConfig
from toposampler.distributed.cluster import cluster
from toposampler.distributed.resources import per_worker
from toposampler.errors import UserError
from toposampler.plugins import Registered

RESTARTS = 3
"""times each lost worker is started again; the piece it was at is done anew"""

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")
Begin = Callable[[], Callable[[Task], Result]]


def on_workers(
    begin: Begin[Task, Result], tasks: Iterable[Task], workers: int, use_gpu: bool = False
) -> Iterator[Result]:
    """The result of each of `tasks`, in the order they are done.

    `begin` is called once in each process, and what it returns once for each task. All machines must see the files it
    reads and writes under the same paths. Raises UserError and OSError as they do, UserError if there is no room for so
    many workers, and Ray's ActorDiedError for faults.
    """
    config = ClusterConfig(num_workers=workers, use_gpu=use_gpu)
    with ExitStack() as stack:
        address = os.environ.get("RAY_ADDRESS")
        where = f"connecting to the Ray cluster at {address}" if address else "starting Ray"
        log.info("%s, workers: %d", where, workers)
        try:
            stack.enter_context(cluster(config))
        except UserError as error:
            raise UserError(f"--workers {workers}: {error}") from None
        has = per_worker(config)
        actor = ray.remote(
            num_cpus=has["CPU"], num_gpus=has.get("GPU", 0), max_restarts=RESTARTS, max_task_retries=RESTARTS
        )(_Worker)
        pool = ActorPool([actor.remote(begin, Registered()) for _ in range(workers)])
        for outcome in pool.map_unordered(lambda worker, task: worker.do.remote(task), tasks):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


class _Worker(Generic[Task, Result]):
    """One process, which knows what is `registered` in the driver.

    Errors that would come again are returned, not raised: Ray would wrap them in its own.
    """

    def __init__(self, begin: Begin[Task, Result], registered: Registered) -> None:
        torch.set_num_threads(1)
        self._begin = begin

    @cached_property
    def _work(self) -> Callable[[Task], Result]:
        return self._begin()

    def do(self, task: Task) -> Any:
        try:
            return self._work(task)
        except (UserError, OSError) as error:
            return error
