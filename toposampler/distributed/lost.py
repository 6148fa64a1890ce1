"""Workers that were lost, among the events of a run: Ray Train's controller writes them down."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from toposampler.distributed.events import LINE, events_file


class LostWorkers(UserCallback):
    """Writes down, in Ray Train's controller, which workers were lost and why."""

    def __init__(self, folder: Path) -> None:
        self._path = events_file(folder)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Told of each look at the workers that found some lost; Ray Train starts the group again, or gives up."""
        for rank, error in sorted(worker_exceptions.items()):
            record = logging.makeLogRecord({"msg": f"worker {rank} failed: {_reason(error)}"})
            try:
                with self._path.open("a") as file:
                    file.write(LINE.format(record) + "\n")
            except OSError:  # a full disk, say: whatever is raised here would end the run
                return


def _reason(error: Exception) -> str:
    """The cause in one line: Ray's own messages run over a page."""
    text = str(error)
    if "gloo/transport" in text:  # every worker that survives says so
        return "it has lost another worker"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].partition(" Worker exit type")[0][:200] if lines else type(error).__name__
