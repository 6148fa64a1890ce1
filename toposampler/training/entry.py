"""Training from a configuration to its result: of one run, or of one for each of several seeds."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from toposampler.data import Dataset
from toposampler.errors import RunInterruptedError, TimeUsedError
from toposampler.nn.custom import Networks
from toposampler.storage import is_address
from toposampler.training.config import RunConfig, with_init
from toposampler.training.console import shown, telling_the_end
from toposampler.training.mirror import mirrored
from toposampler.training.process_group import ProcessGroup
from toposampler.training.run import OnCheckpoint, begin
from toposampler.training.seeds import train_seeds
from toposampler.training.stopping import MINUTES, ShouldStop, limited


def train(
    config: RunConfig,
    on_checkpoint: OnCheckpoint | None = None,
    should_stop: ShouldStop = lambda: None,
    dataset: Dataset | None = None,
    networks: Networks | None = None,
    init_from: str | Path | None = None,
    init_state: Literal["weights", "full"] | None = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Train to the end, from the newest good checkpoint of the run if there is one; with `config.seeds` all of them.

    Works with neither Ray nor MLflow. Where a torch.distributed group is initialized, every process of it calls this
    with the same configuration and sees the same folder and the same data; rank 0 writes to it.

    Args:
        config: of the run.
        on_checkpoint: called on every rank after each checkpoint, with the generator step and the file.
        should_stop: asked on every rank, after the same step, a few times a second; once it gives a reason on rank 0,
            the run ends with a checkpoint.
        dataset: trained on in place of what `config.data` would load; the same on every rank.
        networks: in place of those that `config.system` names; the same on every rank.
        init_from: the trained model to begin with, in place of what `config.init_from` names.
        init_state: what of it, in place of `config.init_state`.
        progress: show on stderr, on rank 0, how far the run has come, and first what it is too short for.

    Returns the content of `result.json` on rank 0, None on others; with several seeds it is as of `seeds.summary`, and
    `on_checkpoint` is not called. Raises on every rank alike (but for what happens on
    rank 0 after the last step): UserError as `check` does, if another process is training this run, if its newest
    checkpoint is not damaged but cannot be read, or if workers read different data; TrainingStoppedError if a
    loss or parameter is not finite, replicas drift apart, or the run's folder cannot be written to;
    RunInterruptedError if it was asked to stop, TimeUsedError if by `training.minutes`.
    """
    config, telling = with_init(config, init_from, init_state), progress and ProcessGroup.current().rank == 0
    if is_address(config.output):
        with mirrored(config, ProcessGroup.current().rank) as here:
            return train(here, on_checkpoint, should_stop, dataset, networks, progress=progress)
    try:
        return _train(config, on_checkpoint, limited(should_stop, config.training.minutes), dataset, networks, telling)
    except RunInterruptedError as error:
        if error.reason != MINUTES:
            raise
        raise TimeUsedError(f"training.minutes {config.training.minutes:g} are used: {error}", MINUTES) from None


def _train(
    config: RunConfig,
    on_checkpoint: OnCheckpoint | None,
    should_stop: ShouldStop,
    dataset: Dataset | None,
    networks: Networks | None,
    telling: bool,
) -> dict[str, Any] | None:
    """As `train`, of a run in a folder; with `telling` progress is shown."""
    if config.seeds is not None:
        return train_seeds(config, should_stop, dataset, networks, telling)
    if telling:
        on_checkpoint = telling_the_end(config, on_checkpoint)
    with (
        begin(config, on_checkpoint, should_stop, dataset, networks) as run,
        shown(run.config, run.dataset) if telling else nullcontext(),
    ):
        return run.train()
