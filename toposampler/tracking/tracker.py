"""One run on MLflow, kept up with its run folder: nothing lost and nothing doubled, whatever dies in between.

`metrics.jsonl` is the spool. Complete lines are delivered in bulk, and only then is the offset noted in
`tracking.json`. A batch delivered twice (the server died before it answered, or this process before it noted the
offset) changes nothing: MLflow's SQL store keeps a metric once per name, time, step and value, and the time is the
record's own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from toposampler.config import without_password
from toposampler.errors import UserError
from toposampler.files import write_atomically
from toposampler.records import Record, read_records
from toposampler.tracking.about import About, log_model, tell
from toposampler.tracking.server import cause, experiment_id
from toposampler.training.checkpoint import checkpoint_step, model_of

Status = Literal["FINISHED", "FAILED", "KILLED"]
Item = TypeVar("Item")

PARENT = "mlflow.parentRunId"
"""the tag by which MLflow shows a run below another"""
ARTIFACTS = ("config.yaml", "best.yaml", "result.json", "samples.npz", "figures")
"""what is recorded of a run's folder, or a sweep's, where it has them"""
METRICS_PER_CALL, PARAMETERS_PER_CALL = 1000, 100  # the limits of MLflow's REST interface
PATIENCE = 20.0  # seconds that the end of a run waits for a server that does not answer
PAUSE = 2.0  # seconds between two attempts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """How far a run is delivered: the content of `tracking.json`."""

    uri: str
    """without name and password"""
    experiment: str
    run_id: str | None = None
    """None: no run has been created yet"""
    offset: int = 0
    """bytes of metrics.jsonl delivered"""
    status: Status | None = None
    """how the run has ended; None: it has not"""
    experiment_id: str | None = None
    """of the run's experiment; None: noted by an earlier version"""
    model: str | None = None
    """the file of the checkpoint that is logged as the run's model"""


class Tracker:
    """Delivers the run in `folder` to the MLflow at `uri`, resuming where an earlier process stopped.

    Raises UserError as `read_delivery` does. A `uri` that cannot be used shows when something is to be delivered.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        experiment: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        about: About | None = None,
    ) -> None:
        self._folder = folder
        self._about = about
        self._parameters = parameters
        self._tags = tags
        self._uri = uri
        self._done = read_delivery(folder, uri, experiment)
        self._opened: str | None = None  # the id of the run, once this process has opened it
        self._warned = False

    @property
    def run_id(self) -> str | None:
        """The id of the run on the server; None while it has not been created."""
        return self._done.run_id

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient(self._uri)

    def deliver(self) -> None:
        """Deliver the records that are new. If the server gives no answer, one warning: they wait for a later call.

        A run that is finished, with all its records there, is left alone.
        """
        try:
            if not self._all_told("FINISHED"):
                self._deliver_records(self._open_run())
            self._warned = False
        except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
            if not self._warned:
                log.warning("MLflow at %s: %s. Training continues.", self._done.uri, cause(error))
            self._warned = True

    def close(self, status: Status) -> None:
        """Deliver the rest, the results and how the run ended, waiting `PATIENCE` seconds for the server to answer.

        A killed run gets one attempt: whoever killed it is waiting.
        """
        if self._all_told(status):
            return
        deadline = time.monotonic() + (0 if status == "KILLED" else PATIENCE)
        while True:
            try:
                self._close(status)
            except Exception as error:  # as in deliver()
                if time.monotonic() + PAUSE < deadline:
                    time.sleep(PAUSE)
                    continue
                log.warning(
                    "MLflow at %s: %s. Not delivered: %d records and the end of the run. They are safe in %s; "
                    "submit the same run again to deliver them.",
                    self._done.uri, cause(error), len(self._undelivered()), self._folder,
                )  # fmt: skip
            return

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set `tags` of the run, if there is one. Without an answer, one warning: tags are not kept for later."""
        try:
            for key, value in tags.items() if self.run_id else ():
                self._client.set_tag(self.run_id, key, value)
        except Exception as error:  # as in deliver()
            log.warning("MLflow at %s: %s. Not set: %s of %s", self._done.uri, cause(error), dict(tags), self._folder)

    def _open_run(self) -> str:
        """The id of this run on the server: the one in `tracking.json` if it is still there, else a new one."""
        if self._opened is None:
            run = self._stored_run() or self._create_run()
            self._log_parameters(run)
            if self._about is not None:
                tell(self._client, run, self._about)
            self._client.update_run(run.info.run_id, status="RUNNING")
            self._note(replace(self._done, status=None, experiment_id=run.info.experiment_id))
            self._opened = run.info.run_id
        return self._opened

    def _stored_run(self) -> Run | None:
        """The run that `tracking.json` names; None if there is none, or it was deleted, or the whole database."""
        if self._done.run_id is None:
            return None
        try:
            run = self._client.get_run(self._done.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _create_run(self) -> Run:
        """A new run, noted before anything else is done: a kill must not leave a run that nobody knows of."""
        experiment = experiment_id(self._client, self._uri, self._done.experiment)
        run = self._client.create_run(experiment, run_name=self._folder.name, tags=dict(self._tags))
        self._note(replace(self._done, run_id=run.info.run_id, offset=0))
        return run

    def _log_parameters(self, run: Run) -> None:
        """Log the parameters that `run` lacks. MLflow refuses another value for one it has, such as other workers."""
        lacking = [Param(key, str(value)) for key, value in self._parameters.items() if key not in run.data.params]
        for part in _parts(lacking, PARAMETERS_PER_CALL):
            self._client.log_batch(run.info.run_id, params=part)

    def _deliver_records(self, run_id: str) -> None:
        records = self._undelivered()
        metrics = [
            Metric(name, value, round(1000 * record.time), record.step)
            for record in records
            for name, value in record.metrics.items()
        ]
        for part in _parts(metrics, METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=part)
        if records:
            self._note(replace(self._done, offset=records[-1].end))

    def _close(self, status: Status) -> None:
        run_id = self._open_run()
        self._deliver_records(run_id)
        self._deliver_result(run_id)
        for name in ARTIFACTS:
            path = self._folder / name
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), artifact_path=name)
            elif path.exists():
                self._client.log_artifact(run_id, str(path))
        if model := self._unlogged_model():
            self._log_model(run_id, model)
        self._client.set_terminated(run_id, status)
        self._note(replace(self._done, status=status))

    def _deliver_result(self, run_id: str) -> None:
        """The metrics of `result.json`, if there is one."""
        if metrics := self._final_metrics():
            self._client.log_batch(run_id, metrics=metrics)

    def _final_metrics(self) -> list[Metric]:
        """The metrics of `result.json` as `final/...`, at the time the file was written; none while it is not there."""
        if (result := self._result()) is None:
            return []
        written = round(1000 * (self._folder / "result.json").stat().st_mtime)
        return [Metric(f"final/{k}", v, written, result["generator_steps"]) for k, v in result["metrics"].items()]

    def _result(self) -> dict[str, Any] | None:
        """The content of `result.json`; None while the run has not ended."""
        path = self._folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _unlogged_model(self) -> Path | None:
        """The checkpoint of the run's end, if it is to be logged as a model and has not been."""
        result = self._result() if self._about is not None else None
        model = None if result is None else model_of(self._folder, result)
        return model if model is not None and model.name != self._done.model and model.exists() else None

    def _log_model(self, run_id: str, checkpoint: Path) -> None:
        """Log the model, once. Where that fails, as on a server older than MLflow 3, one warning: the run ends."""
        assert self._about is not None
        try:
            run = self._client.get_run(run_id)
            log_model(self._client, run, checkpoint, checkpoint_step(checkpoint), self._about, self._final_metrics())
        except Exception as error:  # as in deliver()
            if not self._warned:
                place = (self._done.uri, cause(error), checkpoint)
                log.warning("MLflow at %s: %s. The model is not logged there; it is safe in %s", *place)
            self._warned = True
        else:
            self._note(replace(self._done, model=checkpoint.name))

    def _all_told(self, status: Status) -> bool:
        """Whether the server knows that the run ended with `status`, and all its records."""
        return self._done.status == status and not self._undelivered()

    def _undelivered(self) -> list[Record]:
        return read_records(self._folder / "metrics.jsonl", self._done.offset)

    def _note(self, done: Delivery) -> None:
        """Remember `done`, and write it to `tracking.json` in one step: a kill leaves the old file or the new."""
        self._done = done
        write_atomically(self._folder / "tracking.json", json.dumps(asdict(done)))


def read_delivery(folder: Path, uri: str, experiment: str) -> Delivery:
    """How far the run in `folder` is delivered to `experiment` at `uri`; another place has nothing of it yet.

    Raises UserError if `tracking.json` is damaged.
    """
    noted, place = noted_delivery(folder), (without_password(uri), experiment)
    if noted is not None and (noted.uri, noted.experiment) == place:
        return noted
    return Delivery(*place)


def noted_delivery(folder: Path) -> Delivery | None:
    """How far the run in `folder` is delivered, wherever that is; None: nothing of it is. Raises as `read_delivery`."""
    path = folder / "tracking.json"
    try:
        delivery = Delivery(**json.loads(path.read_text()))
        return replace(delivery, uri=without_password(delivery.uri))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:  # no JSON, or not the fields of a Delivery
        raise UserError(f"{path} is damaged ({error}); remove it, and the run is recorded anew") from None


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
