"""An evaluation recorded on the run that the model comes from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from toposampler.config import without_password
from toposampler.errors import UserError
from toposampler.tracking.address import default_uri, resolve
from toposampler.tracking.server import cause
from toposampler.tracking.tracker import METRICS_PER_CALL, noted_delivery
from toposampler.tracking.uri import REGISTERED, sqlite_file, with_password

FOLDER = "evaluation"
"""prefix of the metrics, and folder of the artifacts"""


def recorded_at(place: str, uri: str | None) -> tuple[str, str] | None:
    """The MLflow on which the model at `place` is recorded, and the id of its run; None if no run is known of.

    `place` is as for `lookup.load`, `uri` the MLflow that is asked for a registered one. Raises UserError as that does.
    """
    if place.startswith(REGISTERED):
        uri = default_uri(uri)
        registry, version = resolve(place, uri)
        return uri, registry.run_of(version)
    path = Path(place)
    noted = noted_delivery(path if path.is_dir() else path.absolute().parent.parent)
    return None if noted is None or noted.run_id is None else (with_password(noted.uri), noted.run_id)


def record_evaluation(uri: str, run_id: str, metrics: Mapping[str, float], step: int, files: Sequence[Path]) -> None:
    """Add `metrics` of the generator step `step`, and `files`, to a run. Raises UserError if MLflow takes none."""
    now = round(1000 * time.time())
    values = [Metric(f"{FOLDER}/{name}", value, now, step) for name, value in metrics.items()]
    try:
        if (path := sqlite_file(uri)) and not path.exists():  # MLflow would make it
            raise FileNotFoundError(f"{path} does not exist")
        client = MlflowClient(uri)
        for start in range(0, len(values), METRICS_PER_CALL):
            client.log_batch(run_id, metrics=values[start : start + METRICS_PER_CALL])
        for file in files:
            client.log_artifact(run_id, str(file), artifact_path=FOLDER)
    except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
        raise UserError(f"MLflow at {without_password(uri)}, run {run_id}: {cause(error)}") from None
