"""A whole run, seen from the driver: checked, recorded on MLflow, shown on the way, trained on Ray or right here."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toposampler.background import Periodic
from toposampler.config import TrackingConfig, as_text, flatten
from toposampler.data import Dataset, describe
from toposampler.distributed.commit import git_commit
from toposampler.distributed.events import Events, log_events
from toposampler.distributed.resources import shortage, this_machine
from toposampler.distributed.stop import STOP, answer, is_asked, stoppable
from toposampler.errors import RunInterruptedError, UserError
from toposampler.extras import how_to_install, installed, require
from toposampler.lookup import fetch_initial
from toposampler.storage import address_of, is_address
from toposampler.tracking.uri import VARIABLE, how_to_look, tracking_uri
from toposampler.training.checkpoint import model_of
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.entry import train
from toposampler.training.lock import locked
from toposampler.training.mirror import mirrored, viewed
from toposampler.training.networks import names_in
from toposampler.training.progress import Progress
from toposampler.training.run import check
from toposampler.training.run_length import faults

if TYPE_CHECKING:
    from toposampler.tracking.about import About

SHOW_EVERY_S, DELIVER_EVERY_S, WATCH_EVERY_S = 0.5, 2.0, 5.0

log = logging.getLogger(__name__)


def launch(config: RunConfig, local: bool = False) -> dict[str, Any]:
    """Train `config`, or resume it, and return its result. A complete run is not trained again: that is printed.

    With `local` it is trained in this process, without Ray, to the same bits as one worker trains it.

    Raises UserError for bad input, before a cluster starts wherever that can be seen; TrainingStoppedError; and
    StoppedBySignalError, with a checkpoint of this moment, at the first SIGINT or SIGTERM while it trains (in the main
    thread; from another one the caller's handlers stand).
    """
    start = time.monotonic()
    with viewed(absolute(config)) as (config, view):
        say(f"loading the data {config.data.name}")
        dataset = check(config)
        for line in describe(dataset):
            say(f"  {line}")
        with locked(run_folder(config)):  # check has made the folder
            fetch_initial(config, dataset)
            check_tracking(config)
            if result := stored_result(config):
                print("complete: nothing is left to train; give another --name to train anew. Its result:", flush=True)
                with recorded(config, dataset):  # MLflow may still lack its end
                    return result
            events = Events(run_folder(config))
            with (
                room(config, local),
                recorded(config, dataset),
                shown(config, events, local),
                nullcontext() if view is None else view.following(),
                stoppable(run_folder(config), has_begun=events.any),
            ):
                result = _train_here(config) if local else _train_on_workers(config)
            say(f"done after {timedelta(seconds=round(time.monotonic() - start))}")
            return result


def say(what: str) -> None:
    """Tell on stderr what is being done, or what came of it."""
    print(what, file=sys.stderr, flush=True)


@contextmanager
def room(config: RunConfig, local: bool) -> Iterator[None]:
    """Have what the run asks for while the block runs: a cluster, or with `local` this machine.

    Raises UserError if there is less.
    """
    if local:
        if config.cluster.num_workers > 1:
            raise UserError(f"--local trains in this process alone: cluster.num_workers {config.cluster.num_workers}")
        if short := shortage(config.cluster, [this_machine()], "this machine"):
            raise UserError(short)
        yield
        return
    from toposampler.distributed.cluster import cluster  # here, because Ray takes seconds and may be missing

    address = os.environ.get("RAY_ADDRESS")
    say(f"connecting to the Ray cluster at {address}" if address else "starting Ray")
    with cluster(config.cluster):
        yield


def _train_on_workers(config: RunConfig) -> dict[str, Any]:
    """Train on the workers of the connected cluster."""
    from toposampler.distributed.trainer import train_on_workers

    workers = config.cluster.num_workers
    say(f"waiting for {workers} worker{'s'[: workers > 1]}")
    return train_on_workers(config)


def _train_here(config: RunConfig) -> dict[str, Any]:
    """Train in this process, as a single worker of Ray would."""
    torch.set_num_threads(config.cluster.cpus_per_worker)
    with mirrored(config) as here:
        folder = run_folder(here)
        log_events(folder)
        try:
            result = train(here, should_stop=lambda: STOP if is_asked(folder) else None, progress=False)
        except RunInterruptedError as error:  # of a run at an address the driver, too, looks into another folder
            answer(folder, str(error))
            raise
    assert result is not None, "rank 0 returns the result"
    return result


def absolute(config: RunConfig) -> RunConfig:
    """`config` with its folders and files absolute: workers may have another working folder than the driver.

    Raises UserError for what no file can be called.
    """
    output = config.output if is_address(config.output) else str(_absolute("output", run_folder(config).parent))
    files = {key: _absolute(f"data.{key}", path) for key, path in config.data if isinstance(path, Path)}
    return config.model_copy(update={"output": output, "data": config.data.model_copy(update=files)})


def _absolute(key: str, path: Path) -> Path:
    try:
        with suppress(OSError):  # absent, say: whoever uses it finds that out and says so
            os.stat(path)
    except ValueError as error:
        raise UserError(f"{key}: {str(path)!r} cannot be a file or folder: {error}") from None
    return path.absolute()


def stored_result(config: RunConfig) -> dict[str, Any] | None:
    """The result of a complete run: one that has both `result.json`, of its last step, and the model named in it; None
    for another.

    Raises UserError if `result.json` is damaged.
    """
    path = run_folder(config) / "result.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        complete = (
            result["generator_steps"] == config.training.generator_steps and model_of(path.parent, result).exists()
        )
        return result if complete else None
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:  # no JSON, or no result
        raise UserError(f"{path} is damaged ({error}); remove it, and the run resumes to its end") from None


def check_tracking(config: RunConfig) -> None:
    """Raises UserError if MLflow does not answer; only warns where it is not required. Also as `read_delivery` does.

    Where MLflow is not installed, or there is none but a file beside runs that are no files, a run that names none goes
    on without, and says so; for one that does, UserError.
    """
    if config.tracking.enabled and not installed("mlflow"):
        without = "--tracking.enabled false trains without it"
        if config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"):
            require("mlflow", "mlflow", "recording the run on MLflow", without)
        say(f"not recorded on MLflow, which is not installed: {how_to_install('mlflow')} ({without})")
    if config.tracking.enabled and not _has_mlflow(config):
        place = address_of(config.output)
        say(f"not recorded on MLflow: none is named, and no SQLite file can lie at {place}; set tracking.uri")
    if not recorded_on_mlflow(config):
        return
    from toposampler.tracking.server import check_server  # here, because mlflow takes seconds and may be missing
    from toposampler.tracking.tracker import read_delivery

    say("connecting to MLflow")
    uri = tracking_uri(config.tracking, Path(config.output))
    read_delivery(run_folder(config), uri, config.tracking.experiment)
    try:
        check_server(uri, config.tracking.experiment)
    except UserError as error:
        if config.tracking.required:
            raise
        log.warning("warning: %s", error)


def recorded_on_mlflow(config: RunConfig) -> bool:
    """Whether the run is recorded on MLflow, and not in its folder alone."""
    return config.tracking.enabled and installed("mlflow") and _has_mlflow(config)


def _has_mlflow(config: RunConfig) -> bool:
    """Whether there is an MLflow for the run: one that is named, or a file beside it."""
    return bool(config.tracking.uri or os.environ.get(VARIABLE)) or address_of(config.output) is None


@contextmanager
def recorded(config: RunConfig, dataset: Dataset | None = None) -> Iterator[None]:
    """Keep MLflow up with the run, of `dataset`, while the block runs, and tell it how the block ended."""
    if not recorded_on_mlflow(config):
        yield
        return
    from toposampler.distributed.recorder import Recorder  # as above
    from toposampler.tracking.tracker import Tracker

    uri = tracking_uri(config.tracking, Path(config.output))

    def make(run: RunConfig, further: Mapping[str, str]) -> Tracker:
        parameters = flatten(run.model_dump(mode="json"))
        about = None if dataset is None else about_run(run, dataset)
        return Tracker(run_folder(run), uri, config.tracking.experiment, parameters, {**tags(run), **further}, about)

    tracker = Recorder(config, make)
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


def where_to_look(tracking: TrackingConfig, folder: Path) -> str:
    """What to type, or where to go, to see the run or the sweep in `folder` on MLflow."""
    from toposampler.tracking.tracker import noted_delivery  # as above

    noted, uri = noted_delivery(folder), tracking_uri(tracking, folder.parent)
    return how_to_look(uri, None if noted is None else noted.experiment_id)


def tags(config: RunConfig) -> dict[str, str]:
    """What runs are found by: data, system, the model they begin with, the user, the commit of the code."""
    from toposampler.tracking.about import user  # as above

    names = {"data": config.data.name, "system": config.system.name}
    if config.init_from is not None:
        names |= {"init_from": config.init_from, "init_state": config.init_state}
    names |= user()
    return names | {"mlflow.source.git.commit": commit} if (commit := git_commit()) else names


def about_run(config: RunConfig, dataset: Dataset) -> About:
    """What MLflow records of the run `config` on `dataset`."""
    from toposampler.tracking.about import About, Data  # as above

    source = {key: as_text(value) for key, value in config.data}
    data = Data(config.data.name, dataset.digest(), source, len(dataset), tuple(dataset.shape))
    return About(description(config, dataset), data, names_in(config.system))


def description(config: RunConfig, dataset: Dataset) -> str:
    """The run in words."""
    training, page = config.training, (type(config.system).__doc__ or "").partition("\n")[0]
    begins = {"weights": "Begins with the weights of", "full": "Continues the training of"}[config.init_state]
    generators = f"{config.system.K} generator{'s'[: config.system.K > 1]}"
    lines = [
        f"**{config.system.name}**, {generators}, on **{config.data.name}**: {describe(dataset)[0]}.",
        page,
        f"{training.generator_steps:,} generator steps, batches of {training.batch_size:,}, seed {config.seed}.",
        *([] if config.init_from is None else [f"{begins} {config.init_from}."]),
        *(f"Note: {fault}." for fault in faults(config)),
    ]
    return "\n\n".join(filter(None, lines))


@contextmanager
def shown(config: RunConfig, events: Events, local: bool = False) -> Iterator[None]:
    """Tell on stderr how far the run has come, and what happens to it and its cluster, while the block runs."""
    metrics = run_folder(config) / "metrics.jsonl"
    with (
        Progress(metrics, config.training.generator_steps, sys.stderr) as progress,
        Periodic(progress.refresh, SHOW_EVERY_S),
        Periodic(events.refresh, SHOW_EVERY_S),
        nullcontext() if local else _watched(config, metrics),
    ):
        yield


def _watched(config: RunConfig, metrics: Path) -> Periodic:
    """Watches over the room that the cluster has for the run."""
    from toposampler.distributed.capacity import Watch

    return Periodic(Watch(config.cluster, metrics).refresh, WATCH_EVERY_S)
