"""Whether an MLflow answers, and its experiment."""

from __future__ import annotations

import logging
import sqlite3

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from toposampler.config import without_password
from toposampler.errors import UserError
from toposampler.tracking.uri import sqlite_file

for _name in (
    "mlflow.store.db.utils",
    "alembic",
):  # a page for each attempt at a database that is away; we say one line
    logging.getLogger(_name).setLevel(logging.CRITICAL)


KIND, MACHINE_LEARNING = "mlflow.experimentKind", "custom_model_development"
"""tag that says what an experiment is for: of training runs, not of GenAI traces (`uri.how_to_look` has the page)"""


def check_server(uri: str, experiment: str | None = None) -> None:
    """Ask the server at `uri` for its experiments.

    Raises UserError, naming `uri`, if it gives no answer, or if `experiment` is deleted there: it takes no runs.
    """
    try:
        if path := sqlite_file(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            sqlite3.connect(path).execute("PRAGMA user_version")  # MLflow tries a file it cannot open for 102 s
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        found = client.get_experiment_by_name(experiment) if experiment is not None else None
    except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
        raise UserError(
            f"tracking.uri: no MLflow answers at {without_password(uri)} ({cause(error)}). Start it, give another "
            "--tracking.uri, or continue without it: --tracking.required false, --tracking.enabled false"
        ) from None
    if found is not None:
        _refuse_deleted(found, uri)


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment `name`, created if it is new. Raises UserError if it is deleted.

    The artifacts of a SQLite file go beside it: MLflow's own default is the folder the command happens to run in.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        path = sqlite_file(uri)
        artifacts = (path.parent / "mlartifacts").as_uri() if path else None
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags={KIND: MACHINE_LEARNING}))
        except MlflowException:  # another run has created it meanwhile
            found = client.get_experiment_by_name(name)
    _refuse_deleted(found, uri)
    if KIND not in found.tags:
        client.set_experiment_tag(found.experiment_id, KIND, MACHINE_LEARNING)
    return str(found.experiment_id)


def _refuse_deleted(experiment: Experiment, uri: str) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise UserError(
            f"tracking.experiment: {experiment.name!r} is deleted on MLflow at {without_password(uri)}, so that no run "
            f"can be recorded in it. Restore it (MLFLOW_TRACKING_URI=... mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}), or give another --tracking.experiment (promote: --experiment)"
        )


def cause(error: BaseException) -> str:
    """What first went wrong, in one line: MLflow's own message wraps it in a page of others."""
    while error.__context__ is not None:
        error = error.__context__
    return without_password((str(error).splitlines() or [type(error).__name__])[0])[:200]
