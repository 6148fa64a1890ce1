"""One training on Ray Train: a group of workers, started again from the newest checkpoint if one is lost."""

from __future__ import annotations

from typing import Any

from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from toposampler.distributed.resources import per_worker
from toposampler.distributed.worker import Outcome, train_worker
from toposampler.training.config import RunConfig, run_folder

SILENCE_S = 120
"""Seconds a worker waits for the others in an all-reduce before it counts them as lost."""


def fit(config: RunConfig) -> dict[str, Any]:
    """Train `config`, whose `output` must be absolute, on the connected cluster and return the result.

    Raises what `toposampler.training.run.train` raises, and Ray's TrainingFailedError for faults.
    """
    outcome: Outcome = _trainer(config).fit().return_value
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None, "rank 0 returns the result"
    return outcome


class _Trainer(TorchTrainer):
    """Leaves Ctrl-C alone: Ray's own handler swallows it, and the run would end as if it were complete."""

    def _register_sigint_handler(self, controller: object) -> None:
        pass


def _trainer(config: RunConfig) -> _Trainer:
    checkpoints = run_folder(config) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    # Ray's own list of checkpoints: training finds the newest good one by itself, while Ray would refuse to start
    # where one of the list was deleted, or Ray itself has been updated since.
    (checkpoints / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    asked = config.cluster
    return _Trainer(
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
