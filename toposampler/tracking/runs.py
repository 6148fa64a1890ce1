"""The run on MLflow that a model belongs to."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from toposampler.config import without_password
from toposampler.errors import UserError
from toposampler.tracking.server import cause, experiment_id
from toposampler.tracking.tracker import read_delivery
from toposampler.training.config import RunConfig


def run_of(place: Path, config: RunConfig, uri: str, experiment: str | None = None) -> str:
    """The id of the run on the MLflow at `uri` that the model at `place` comes from; a new run where there is none.

    `place` is a run folder, a checkpoint or a model directory; `config` is the model's. The run is in `experiment`, or
    that of `config`. Raises UserError if MLflow does not answer, or the experiment is deleted there.
    """
    folder = place if place.is_dir() else place.parent.parent
    client, experiment = MlflowClient(uri), experiment or config.tracking.experiment
    try:
        noted = read_delivery(folder, uri, experiment).run_id
        if noted is not None and _is_active(client, noted):
            return noted
        tags = {"data": config.data.name, "system": config.system.name}
        run = client.create_run(experiment_id(client, uri, experiment), run_name=config.name, tags=tags)
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)
    except UserError:
        raise
    except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
        raise UserError(f"the runs of MLflow at {without_password(uri)}: {cause(error)}") from None


def _is_active(client: MlflowClient, run_id: str) -> bool:
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
