"""One training on Ray Train: a group of workers, started again from the newest checkpoint if one is lost."""

from __future__ import annotations

from contextlib import nullcontext
from math import nextafter
from typing import Any, Literal

from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig

from toposampler.background import Periodic
from toposampler.config import ClusterConfig
from toposampler.distributed.cluster import first_line
from toposampler.distributed.growth import LOOK_EVERY_S, Growth
from toposampler.distributed.lost import LostWorkers
from toposampler.distributed.ray_private import UninterruptedTrainer
from toposampler.distributed.resources import per_worker
from toposampler.distributed.stop import RESIZE
from toposampler.distributed.worker import Outcome, train_worker
from toposampler.errors import RunInterruptedError, TrainingStoppedError, UserError
from toposampler.plugins import Registered
from toposampler.storage import Store, reason
from toposampler.training.config import RunConfig, run_address, run_folder

CHECKPOINTS = "checkpoints"
"""folder in a run's, and the name by which Ray Train knows the training"""
SILENCE_S = 600
"""Seconds a worker waits for the others before it counts them as lost: those that die are noticed at once, and rank 0
may be long at an evaluation."""
MAX_STARTS = 60
"""Times Ray Train tries in vain to start the workers, some five seconds each, before it gives the run up."""
NEVER_S = 1e9
"""Seconds between two looks of Ray Train for machines that have come: it would end the workers without a checkpoint,
and `growth.py` does it with one."""


def train_on_workers(config: RunConfig) -> dict[str, Any]:
    """Train `config`, whose `output` must be absolute, on the connected cluster and return the result.

    Of a run at an address it is the one that the driver sees (`training.mirror.viewed`).

    Raises what `toposampler.training.train` raises, TrainingStoppedError if Ray's own process that leads the workers is
    lost, and Ray's TrainingFailedError for faults.
    """
    growth = Growth(config.cluster, run_folder(config))
    try:
        while True:
            growth.clear()
            with nullcontext() if config.cluster.min_workers is None else Periodic(growth.look, LOOK_EVERY_S):
                outcome: Outcome = _trainer(config).fit().return_value
            if not (isinstance(outcome, RunInterruptedError) and outcome.reason == RESIZE):
                break
    except (ActorDiedError, OutOfMemoryError) as error:  # a page of Ray's own state, of which the first line says why
        raise TrainingStoppedError(
            f"Ray lost the process that leads the workers: {first_line(error)}; the same command resumes from the "
            "newest checkpoint"
        ) from None
    finally:
        growth.clear()
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None, "rank 0 returns the result"
    return outcome


def _trainer(config: RunConfig) -> UninterruptedTrainer:
    place = _place(config)
    failures = FailureConfig(config.cluster.max_failures, controller_failure_limit=MAX_STARTS)
    return UninterruptedTrainer(
        train_worker,
        train_loop_config={"run": config.model_dump(mode="json"), "registered": Registered()},
        scaling_config=scaling(config.cluster),
        torch_config=TorchConfig(backend(config.cluster), timeout_s=SILENCE_S),
        run_config=RayRunConfig(
            name=CHECKPOINTS,
            storage_path=place.path,
            storage_filesystem=place.filesystem,
            failure_config=failures,
            callbacks=[LostWorkers(run_folder(config))],
        ),
    )


def _place(config: RunConfig) -> Store:
    """Where the run is, and there nothing of what Ray Train has noted of its checkpoints.

    Training finds the newest good one by itself, while Ray would refuse to start where one of its list was deleted, or
    Ray itself has been updated since. Raises UserError if nothing can be removed there.
    """
    place = Store(run_address(config) or f"file://{run_folder(config)}")
    try:
        place.delete(f"{CHECKPOINTS}/checkpoint_manager_snapshot.json")
    except OSError as error:
        raise UserError(f"output: {place.address} cannot be written to: {reason(error)}") from None
    return place


def scaling(config: ClusterConfig) -> ScalingConfig:
    """How many workers Ray Train starts, with what, and where."""
    elastic = config.min_workers is not None
    resources = per_worker(config)
    if elastic:
        # Ray Train counts the workers that fit by `//` of floats: 1.0 // 0.2 is 4, 1.0 // 0.19999999999999998 is 5.
        resources = {kind: nextafter(amount, 0.0) if amount % 1 else amount for kind, amount in resources.items()}
    return ScalingConfig(
        num_workers=(config.min_workers, config.num_workers) if elastic else config.num_workers,
        use_gpu=config.use_gpu,
        resources_per_worker=resources,
        placement_strategy=config.placement_strategy,
        label_selector=dict(config.label_selector) or None,
        elastic_resize_monitor_interval_s=NEVER_S,
    )


def backend(config: ClusterConfig) -> Literal["nccl", "gloo"]:
    """How workers talk: NCCL wants a whole GPU for every one."""
    return "nccl" if config.use_gpu and config.gpus_per_worker >= 1 else "gloo"
