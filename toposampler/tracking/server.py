"""Whether an MLflow answers, and its experiment."""

from __future__ import annotations

import sqlite3

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from toposampler.errors import UserError
from toposampler.tracking.uri import sqlite_file


def check_server(uri: str) -> None:
    """Ask the server at `uri` for its experiments. Raises UserError, naming `uri`, if it gives no answer."""
    try:
        if path := sqlite_file(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            sqlite3.connect(path).execute("PRAGMA user_version")  # MLflow tries a file it cannot open for 102 s
        MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
        raise UserError(
            f"tracking.uri: no MLflow answers at {uri} ({cause(error)}). Start it, give another --tracking.uri, "
            "or go on without it: --tracking.required false, --tracking.enabled false"
        ) from None


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment `name`, created if it is new.

    The artifacts of a SQLite file go beside it: MLflow's own default is the folder the command happens to run in.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_file(uri)
    artifacts = (path.parent / "mlartifacts").as_uri() if path else None
    try:
        return str(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException:  # another run has created it meanwhile
        return str(client.get_experiment_by_name(name).experiment_id)


def cause(error: BaseException) -> str:
    """What first went wrong, in one line: MLflow's own message wraps it in a page of others."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
