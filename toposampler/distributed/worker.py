"""What runs in each Ray Train worker: the training of `toposampler.training`, with checkpoints told to Ray."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from toposampler.config import validate
from toposampler.distributed.evaluator import RayEvaluator
from toposampler.distributed.events import log_events
from toposampler.distributed.gauges import gauges
from toposampler.distributed.growth import note_workers
from toposampler.distributed.stop import RESIZE, STOP, answer, is_asked, request
from toposampler.errors import RunInterruptedError, TrainingStoppedError, UserError
from toposampler.storage import Store
from toposampler.training.config import RunConfig, as_known, run_address, run_folder
from toposampler.training.entry import train
from toposampler.training.mirror import mirrored
from toposampler.training.stopping import MINUTES

Outcome = dict[str, Any] | UserError | TrainingStoppedError | RunInterruptedError | None

ASK_EVERY = 4
"""looks for a stop, a quarter of a second each, between two for a node that is about to go: Ray looks once a second"""

log = logging.getLogger(__name__)


def train_worker(content: dict[str, Any]) -> Outcome:
    """Train a run; the result on rank 0, else None.

    `content` has under `run` a RunConfig as plain values, and under `registered` what the driver was told of, which is
    known here too once it has been unpickled.

    Errors that would come again are returned, not raised: Ray takes a raised one for a lost worker and tries again.
    """
    rank = ray.train.get_context().get_world_rank()
    try:
        config = validate(RunConfig, content["run"])
        torch.set_num_threads(config.cluster.cpus_per_worker)
        with mirrored(config, rank) as here, gauges(here.name, {"": run_folder(here)} if rank == 0 else {}):
            return _train_and_answer(here, rank == 0)
    except (UserError, TrainingStoppedError, RunInterruptedError) as error:
        return error


def _train_and_answer(config: RunConfig, first: bool) -> dict[str, Any] | None:
    """Train; where the run is asked to stop, say so to the driver (rank 0), and raise RunInterruptedError."""
    folder = run_folder(config)
    if first:
        log_events(folder)
        if config.cluster.min_workers is not None:
            note_workers(folder, ray.train.get_context().get_world_size())
    try:
        return _train_through_preemptions(config, folder)
    except RunInterruptedError as error:
        if first and error.reason != RESIZE:
            answer(folder, str(error))
        raise


def _train_through_preemptions(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """Train; when a node is about to be taken away, save a checkpoint at once and go on for as long as it stays.

    Ray Train starts the group again when the node is gone. Raises RunInterruptedError if the run is asked to stop.
    """
    if config.seeds is not None:  # workers are not in step, and none can wait for the others at a checkpoint
        return train(config, should_stop=lambda: STOP if is_asked(folder) else None, progress=False)
    evaluator = partial(RayEvaluator, cluster=config.cluster)
    preemption = _Preemption()

    def should_stop() -> str | None:
        announced = preemption.is_new()  # on every rank, whatever files it sees
        return request(folder) or ("preemption" if announced else None)

    while True:
        try:
            saved = partial(report_checkpoint, config)
            return train(config, saved, should_stop, progress=False, make_evaluator=evaluator)
        except RunInterruptedError as error:
            if error.reason in (STOP, RESIZE, MINUTES):  # as rank 0 saw it: the file may not be on another node yet
                raise
            log.info("a node of this run is about to be taken away: saved a checkpoint, and continuing until then")


class _Preemption:
    """Whether Ray has announced that a node of this worker group will be taken away.

    Every rank makes one, and asks it as often as the others: Ray has them wait for each other, for 1.4 ms (one worker)
    to 4 ms (two), as measured on two busy cores.
    """

    def __init__(self) -> None:
        self._known = ray.train.get_preemption_info()
        self._asked = 0

    def is_new(self) -> bool:
        """True once after each announcement, of which Ray is asked every `ASK_EVERY` calls."""
        self._asked += 1
        if self._asked % ASK_EVERY:
            return False
        before, self._known = self._known, ray.train.get_preemption_info()
        return self._known != before


def report_checkpoint(config: RunConfig, step: int, path: Path) -> None:
    """Tell Ray Train of the checkpoint `path` after `step` generator steps. Every rank calls it: it is a barrier.

    Ray copies nothing: the file is already in the run's folder, which every node sees, or on its way to the run's
    address, where training looks for it itself. A driver that has asked for a
    stop is told first, as Ray takes its time.
    """
    first, folder = ray.train.get_context().get_world_rank() == 0, run_folder(config)
    if first and is_asked(folder):
        answer(folder, f"stopped after generator step {step}; checkpoint: {as_known(config, path)}")
    checkpoint = _named(config, path) if first else None
    ray.train.report({"step": step}, checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


def _named(config: RunConfig, path: Path) -> Checkpoint:
    """The checkpoint `path` as Ray Train names it."""
    address = run_address(config)
    if address is None:
        return Checkpoint(str(path))
    store = Store(address)
    return Checkpoint(store.at(f"checkpoints/{path.name}"), store.filesystem)
