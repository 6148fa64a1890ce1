"""One training on Ray Train: a group of workers, started again from the newest checkpoint if one is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from toposampler.distributed.cluster import cluster
from toposampler.distributed.resources import per_worker
from toposampler.distributed.worker import train_worker
from toposampler.training.config import RunConfig, run_folder

SILENCE_S = 120
"""Seconds a worker waits for the others in an all-reduce before it counts them as lost."""


def launch(config: RunConfig) -> dict[str, Any]:
    """Train `config` on the workers it asks for and return the result. `config.output` must be absolute.

    Raises what `toposampler.training.run.train` raises, and UserError if the cluster is too small.
    """
    with cluster(config.cluster):
        outcome = _fit(_trainer(config))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _trainer(config: RunConfig) -> TorchTrainer:
    checkpoints = run_folder(config) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    # Ray's own list of checkpoints: training finds the newest good one by itself, while Ray would refuse to start
    # where one of the list was deleted, or Ray itself has been updated since.
    (checkpoints / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    asked = config.cluster
    return TorchTrainer(
        train_worker,
        train_loop_config=config.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=asked.num_workers, use_gpu=asked.use_gpu, resources_per_worker=per_worker(asked)
        ),
        torch_config=TorchConfig("nccl" if asked.use_gpu else "gloo", timeout_s=SILENCE_S),
        run_config=RayRunConfig(
            name=checkpoints.name,
            storage_path=str(checkpoints.parent),
            failure_config=FailureConfig(asked.max_failures, controller_failure_limit=1),
        ),
    )


def _fit(trainer: TorchTrainer) -> Any:
    """What the worker function returned on rank 0.

    `fit()` takes Ctrl-C for itself in the main thread, and swallows it: so it runs in another.
    """
    future = ThreadPoolExecutor(1).submit(trainer.fit)
    return future.result().return_value
