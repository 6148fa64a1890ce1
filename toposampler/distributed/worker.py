"""What runs in each Ray Train worker: the training of `toposampler.training`, with checkpoints told to Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from toposampler.config import validate
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.training.config import RunConfig
from toposampler.training.run import train

Outcome = dict[str, Any] | UserError | TrainingStoppedError | None


def train_worker(content: dict[str, Any]) -> Outcome:
    """Train the run that `content`, a RunConfig as plain values, describes; the result on rank 0, else None.

    Errors that would come again are returned, not raised: Ray takes a raised one for a lost worker and tries again.
    """
    try:
        config = validate(RunConfig, content)
        torch.set_num_threads(config.cluster.cpus_per_worker)
        return train(config, on_checkpoint=report_checkpoint)
    except (UserError, TrainingStoppedError) as error:
        return error


def report_checkpoint(step: int, path: Path) -> None:
    """Tell Ray Train of the checkpoint `path` after `step` generator steps. Every rank calls it: it is a barrier.

    Nothing is copied: the file is already in the run's folder, which every node sees.
    """
    checkpoint = Checkpoint(str(path)) if ray.train.get_context().get_world_rank() == 0 else None
    ray.train.report({"step": step}, checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)
