"""Many small jobs side by side: a function of each of several tasks, on actors of Ray of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
import torch
from ray.util import ActorPool

from toposampler.config import ClusterConfig
from toposampler.distributed.cluster import cluster
from toposampler.distributed.resources import per_worker
from toposampler.errors import UserError

Task = TypeVar("Task")
Answer = TypeVar("Answer")
MapUnordered = Callable[[Callable[[Task], Answer], Iterable[Task]], Iterator[Answer]]

RESTARTS = 3
"""times each lost worker is started again; it does the task it was at anew"""


@contextmanager
def worker_pool(workers: int) -> Iterator[MapUnordered[Any, Any]]:
    """`map_unordered(function, tasks)` for the block: answers as they come, by so many workers.

    All machines must have the function's module in reach. Raises UserError if there is no room for so many workers, and
    if the function raised one; other errors as Ray wraps them, ActorDiedError for a worker lost too often.
    """
    config = ClusterConfig(num_workers=workers)
    with cluster(config):
        actor = ray.remote(num_cpus=per_worker(config)["CPU"], max_restarts=RESTARTS, max_task_retries=RESTARTS)(
            _Worker
        )
        pool = ActorPool([actor.remote() for _ in range(workers)])

        def map_unordered(function: Callable[[Task], Answer], tasks: Iterable[Task]) -> Iterator[Answer]:
            for outcome in pool.map_unordered(lambda worker, task: worker.call.remote(function, task), tasks):
                if isinstance(outcome, UserError):
                    raise outcome
                yield outcome

        yield map_unordered


class _Worker:
    """One process. A UserError is returned, not raised: Ray would wrap it in its own."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def call(self, function: Callable[[Task], Answer], task: Task) -> Answer | UserError:
        try:
            return function(task)
        except UserError as error:
            return error
