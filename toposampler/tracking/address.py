"""Models by their address on MLflow: `models:/NAME@alias`, `models:/NAME/VERSION`, `runs:/RUN_ID`."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient

from toposampler.config import TrackingConfig, without_password
from toposampler.errors import UserError
from toposampler.tracking.registry import Registry
from toposampler.tracking.server import cause
from toposampler.tracking.uri import sqlite_file, tracking_uri

ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))|runs:/(?P<run>\w+)")


def default_uri(uri: str | None) -> str:
    """The MLflow that is asked: `uri`, or MLFLOW_TRACKING_URI, or the SQLite file in `runs`."""
    return tracking_uri(TrackingConfig(uri=uri), Path("runs").absolute())


def fetch(address: str, uri: str, folder: Path) -> Path:
    """The model directory at `address` on the MLflow at `uri`, copied to `folder`.

    Raises UserError, saying what there is, if there is no such model, or MLflow does not answer.
    """
    registry, version = resolve(address, uri)
    return registry.fetch(version, folder)


def resolve(address: str, uri: str) -> tuple[Registry, str]:
    """The registered model that `address` is of, and the number of its version. Raises UserError as `fetch` does."""
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise UserError(f"{address} is not models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID")
    if parts["run"]:
        return _newest_of_run(parts["run"], uri)
    name, wanted = parts["name"], parts["alias"] or parts["version"]
    if name not in (names := registered_names(uri)):
        raise UserError(
            f"{address}: there is no model {name} on MLflow at {without_password(uri)}; {_there_are('models', names)}"
        )
    registry = Registry(uri, name)
    versions = registry.versions()
    if parts["alias"]:
        aliases = {alias: version.number for version in versions for alias in version.aliases}
        if wanted not in aliases:
            known = [f"{alias} (version {number})" for alias, number in sorted(aliases.items())]
            raise UserError(f"{address}: {name} has no alias {wanted}; {_there_are('aliases', known)}")
        return registry, aliases[wanted]
    numbers = [version.number for version in versions]
    if wanted not in numbers:
        raise UserError(f"{address}: {name} has no version {wanted}; {_there_are('versions', numbers)}")
    return registry, wanted


def registered_names(uri: str) -> list[str]:
    """The names of all registered models on the MLflow at `uri`, which UserError names if it does not answer."""
    path = sqlite_file(uri)
    if path is not None and not path.exists():  # MLflow would make it
        raise UserError(
            f"there is no MLflow at {uri}: {path} does not exist; give --tracking-uri or MLFLOW_TRACKING_URI"
        )
    try:
        return [model.name for model in MlflowClient(uri).search_registered_models(max_results=1000)]
    except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
        raise UserError(
            f"no MLflow answers at {without_password(uri)} ({cause(error)}); give --tracking-uri or MLFLOW_TRACKING_URI"
        ) from None


def _newest_of_run(run_id: str, uri: str) -> tuple[Registry, str]:
    """The newest version that was registered of the run."""
    registered_names(uri)  # whether it answers
    found = MlflowClient(uri).search_model_versions(f"run_id='{run_id}'")
    if not found:
        raise UserError(
            f"runs:/{run_id}: no model was registered of this run on MLflow at {without_password(uri)}; "
            "python ray_jobs/promote.py RUN_FOLDER --name NAME registers one"
        )
    newest = max(found, key=lambda version: version.creation_timestamp)
    return Registry(uri, newest.name), str(newest.version)


def _there_are(what: str, names: list[str]) -> str:
    return f"its {what}: {', '.join(names)}" if names else f"it has no {what}"
