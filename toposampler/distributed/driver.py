"""A whole run, seen from the driver: checked, recorded on MLflow, shown on the way, trained on Ray."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from toposampler.background import Periodic
from toposampler.config import flatten
from toposampler.distributed.capacity import Watch
from toposampler.distributed.cluster import cluster
from toposampler.distributed.events import Events
from toposampler.distributed.jobs import git_commit
from toposampler.distributed.stop import stoppable
from toposampler.distributed.trainer import train_on_workers
from toposampler.errors import RunInterruptedError, UserError
from toposampler.tracking.uri import tracking_uri
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.lock import locked
from toposampler.training.progress import Progress
from toposampler.training.run import check

SHOW_EVERY_S, DELIVER_EVERY_S, WATCH_EVERY_S = 0.5, 2.0, 5.0

log = logging.getLogger(__name__)


def launch(config: RunConfig) -> dict[str, Any]:
    """Train `config`, or go on with it, and return its result. A complete run is not trained again: that is printed.

    Raises UserError for bad input, before a cluster starts wherever that can be seen; TrainingStoppedError; and
    StoppedBySignalError, with a checkpoint of this moment, at the first SIGINT or SIGTERM while it trains (in the main
    thread; from another one the caller's handlers stand).
    """
    config = absolute(config)
    check(config)
    with locked(run_folder(config)):  # check has made the folder
        check_tracking(config)
        if result := stored_result(config):
            print("complete: nothing is left to train; give another --name to train anew. Its result:", flush=True)
            with recorded(config):  # MLflow may still lack its end
                return result
        events = Events(run_folder(config))
        with (
            cluster(config.cluster),
            recorded(config),
            shown(config, events),
            stoppable(run_folder(config), has_begun=events.any),
        ):
            return train_on_workers(config)


def absolute(config: RunConfig) -> RunConfig:
    """`config` with its folders and files absolute: workers may have another working folder than the driver.

    Raises UserError for what no file can be called.
    """
    output = _absolute("output", run_folder(config).parent)
    files = {key: _absolute(f"data.{key}", path) for key, path in config.data if isinstance(path, Path)}
    return config.model_copy(update={"output": str(output), "data": config.data.model_copy(update=files)})


def _absolute(key: str, path: Path) -> Path:
    try:
        with suppress(OSError):  # absent, say: whoever uses it finds that out and says so
            os.stat(path)
    except ValueError as error:
        raise UserError(f"{key}: {str(path)!r} cannot be a file or folder: {error}") from None
    return path.absolute()


def stored_result(config: RunConfig) -> dict[str, Any] | None:
    """The result of a complete run: one that has both `result.json` and the model named in it; None for another.

    Raises UserError if `result.json` is damaged.
    """
    path = run_folder(config) / "result.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        return result if Path(result["model"]).exists() else None
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:  # no JSON, or no result
        raise UserError(f"{path} is damaged ({error}); remove it, and the run goes on to its end again") from None


def check_tracking(config: RunConfig) -> None:
    """Raises UserError if MLflow does not answer; only warns where it is not required. Also as `read_delivery` does."""
    if not config.tracking.enabled:
        return
    from toposampler.tracking.server import check_server  # here, because mlflow takes seconds and may be missing
    from toposampler.tracking.tracker import read_delivery

    uri = tracking_uri(config.tracking, Path(config.output))
    read_delivery(run_folder(config), uri, config.tracking.experiment)
    try:
        check_server(uri, config.tracking.experiment)
    except UserError as error:
        if config.tracking.required:
            raise
        log.warning("warning: %s", error)


@contextmanager
def recorded(config: RunConfig) -> Iterator[None]:
    """Keep MLflow up with the run while the block runs, and tell it how the block ended."""
    if not config.tracking.enabled:
        yield
        return
    from toposampler.tracking.tracker import Tracker  # as above

    uri = tracking_uri(config.tracking, Path(config.output))
    parameters = flatten(config.model_dump(mode="json"))
    tracker = Tracker(run_folder(config), uri, config.tracking.experiment, parameters, tags(config))
    try:
        with Periodic(tracker.deliver, DELIVER_EVERY_S):
            yield
    except (RunInterruptedError, KeyboardInterrupt):
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def tags(config: RunConfig) -> dict[str, str]:
    """What runs are found by: data, system, and the commit of the code where it is known."""
    names = {"data": config.data.name, "system": config.system.name}
    return names | {"mlflow.source.git.commit": commit} if (commit := git_commit()) else names


@contextmanager
def shown(config: RunConfig, events: Events) -> Iterator[None]:
    """Tell on stderr how far the run has come, and what happens to it, while the block runs."""
    metrics = run_folder(config) / "metrics.jsonl"
    with (
        Progress(metrics, config.training.generator_steps, sys.stderr) as progress,
        Periodic(progress.refresh, SHOW_EVERY_S),
        Periodic(events.refresh, SHOW_EVERY_S),
        Periodic(Watch(config.cluster, metrics).refresh, WATCH_EVERY_S),
    ):
        yield
