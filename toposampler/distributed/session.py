"""A whole run, seen from the driver: checked, launched on Ray, shown on the way, recorded on MLflow."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toposampler.config import flatten
from toposampler.distributed.launch import launch
from toposampler.errors import UserError
from toposampler.periodic import Periodic
from toposampler.tracking.uri import tracking_uri
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.progress import Progress
from toposampler.training.run import check

SHOW_EVERY_S, DELIVER_EVERY_S = 0.5, 2.0

log = logging.getLogger(__name__)


def train_run(config: RunConfig) -> dict[str, Any]:
    """Train `config`, or go on with it, and return its result. A complete run is not trained again.

    Raises UserError for bad input, before a cluster starts where that can be seen, and TrainingStoppedError.
    """
    config = config.model_copy(update={"output": str(Path(config.output).absolute())})  # workers run elsewhere
    check(config)
    with recorded(config):
        return stored_result(config) or launch_shown(config)


def stored_result(config: RunConfig) -> dict[str, Any] | None:
    """The result of a complete run; None if it is not complete."""
    path = run_folder(config) / "result.json"
    return json.loads(path.read_text()) if path.exists() else None


def launch_shown(config: RunConfig) -> dict[str, Any]:
    metrics = run_folder(config) / "metrics.jsonl"
    with (
        Progress(metrics, config.training.generator_steps, sys.stderr) as progress,
        Periodic(progress.refresh, SHOW_EVERY_S),
    ):
        return launch(config)


@contextmanager
def recorded(config: RunConfig) -> Iterator[None]:
    """Keep MLflow up with the run while the block runs, and tell it how the block ended.

    Raises UserError at the start if the server does not answer and is required.
    """
    if not config.tracking.enabled:
        yield
        return
    # Imported here because mlflow takes seconds, and may be missing where it is not wanted.
    from toposampler.tracking.server import check_tracking
    from toposampler.tracking.tracker import Tracker

    uri = tracking_uri(config.tracking, Path(config.output))
    try:
        check_tracking(uri)
    except UserError as error:
        if config.tracking.required:
            raise
        log.warning("%s", error)
    tracker = Tracker(
        run_folder(config), uri, config.tracking.experiment, flatten(config.model_dump(mode="json")), _tags(config)
    )
    try:
        with Periodic(tracker.deliver, DELIVER_EVERY_S):
            yield
    except Exception:
        tracker.close("FAILED")
        raise
    except BaseException:  # Ctrl-C or SIGTERM
        tracker.close("KILLED")
        raise
    tracker.close("FINISHED")


def _tags(config: RunConfig) -> dict[str, str]:
    """What runs are found by: data, system, and the commit of the code where it lies in a git checkout."""
    tags = {"data": config.data.name, "system": config.system.name}
    here = Path(__file__).parent
    git = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return tags | {"mlflow.source.git.commit": git.stdout.strip()} if git.returncode == 0 else tags
