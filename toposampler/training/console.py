"""What a training in this process tells on stderr: in a notebook, in `toposampler.fit`, in a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toposampler.background import Periodic
from toposampler.data import Dataset, describe
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.progress import Progress
from toposampler.training.run_length import faults

SHOW_EVERY_S = 0.5


@contextmanager
def shown(config: RunConfig, dataset: Dataset) -> Iterator[None]:
    """Tell what is trained, on what, what the run is too short for, and how far it has come, while the block runs."""
    folder, steps = run_folder(config), config.training.generator_steps
    notes = [f"note: {fault}" for fault in faults(config)]
    training = f"training {config.system.name} for {steps:,} generator steps in {folder}"
    print(*describe(dataset), *notes, training, sep="\n", file=sys.stderr)
    with Progress(folder / "metrics.jsonl", steps, sys.stderr) as progress, Periodic(progress.refresh, SHOW_EVERY_S):
        yield


def telling_the_end(
    config: RunConfig, on_checkpoint: Callable[[int, Path], None] | None
) -> Callable[[int, Path], None]:
    """`on_checkpoint`, which also tells that the last step is done, and what comes then."""

    def tell(step: int, path: Path) -> None:
        if on_checkpoint is not None:
            on_checkpoint(step, path)
        if step == config.training.generator_steps:
            print("trained; evaluating the samples and drawing figures", file=sys.stderr)

    return tell
