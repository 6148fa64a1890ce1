"""Which MLflow a run is recorded on, and how to look at it."""

from __future__ import annotations

import os
from pathlib import Path

from toposampler.config import TrackingConfig

SQLITE = "sqlite:///"
REGISTERED = ("models:/", "runs:/")
"""what the address of a model on MLflow begins with"""


def tracking_uri(config: TrackingConfig, output: Path) -> str:
    """Where `config` says to record; by default a SQLite file in the folder of all runs, `output` (absolute)."""
    return config.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{output}/mlflow.db"


def sqlite_file(uri: str) -> Path | None:
    """The SQLite file that `uri` names; None for a server."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def how_to_look(uri: str) -> str:
    """What to type, or where to go, to see the runs recorded at `uri`."""
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
