"""Sampling by several processes: actors of Ray, each with the model, that write the parts of a job between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property

import ray
import torch
from ray.util import ActorPool

from toposampler.config import ClusterConfig
from toposampler.distributed.cluster import cluster
from toposampler.distributed.resources import per_worker
from toposampler.errors import UserError
from toposampler.rejection.base import Cost
from toposampler.sampling.writing import SamplingJob, Writer

RESTARTS = 3
"""times each lost worker is started again; the part it was at is written anew"""


def write_on_workers(job: SamplingJob, workers: int) -> Iterator[Cost]:
    """Write all parts of `job`; the cost of each, as it is written.

    All machines must see the model and the draft of the output, which has begun, under the same path. Raises UserError
    if there is no room for so many workers, OSError if a part cannot be written, and Ray's ActorDiedError for faults.
    """
    config = ClusterConfig(num_workers=workers, use_gpu=job.device == "cuda")
    with ExitStack() as stack:
        try:
            stack.enter_context(cluster(config))
        except UserError as error:
            raise UserError(f"--workers {workers}: {error}") from None
        has = per_worker(config)
        actor = ray.remote(
            num_cpus=has["CPU"], num_gpus=has.get("GPU", 0), max_restarts=RESTARTS, max_task_retries=RESTARTS
        )(_Worker)
        pool = ActorPool([actor.remote(job) for _ in range(workers)])
        for outcome in pool.map_unordered(lambda worker, part: worker.write.remote(part), job.parts):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


class _Worker:
    """One process. Errors that would come again are returned, not raised: Ray would wrap them in its own."""

    def __init__(self, job: SamplingJob) -> None:
        torch.set_num_threads(1)
        self._job = job

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self._job)

    def write(self, part: int) -> Cost | Exception:
        try:
            return self._writer.write(part)
        except (UserError, OSError) as error:
            return error
