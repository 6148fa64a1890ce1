"""Which MLflow a run is recorded on, and how to look at it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote, unquote

from toposampler.config import HIDDEN, TrackingConfig, without_password
from toposampler.errors import UserError
from toposampler.files import REGISTERED as REGISTERED

SQLITE = "sqlite:///"
VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(config: TrackingConfig, output: Path) -> str:
    """Where `config` says to record; by default a SQLite file in the folder of all runs, `output` (absolute).

    Raises UserError for a database in memory, which is gone with the process, and for a URI whose password was left out
    when it was written down, unless MLFLOW_TRACKING_URI is the same with it.
    """
    uri = config.uri or os.environ.get(VARIABLE) or sqlite_uri(output / "mlflow.db")
    return with_password(checked(uri))


def checked(uri: str) -> str:
    """`uri`. Raises UserError if it is of a database in memory."""
    if re.fullmatch(r"sqlite(\+\w+)?:(//?/?)?(|file:)(|:memory:)(\?.*)?", uri) or re.search(
        r"sqlite.*mode=memory", uri
    ):
        raise UserError(
            f"tracking.uri: {uri} is a database in memory, gone when the command ends; give a file: "
            f"{SQLITE}/FOLDER/mlflow.db"
        )
    return uri


def with_password(uri: str) -> str:
    """`uri`, or the one in MLFLOW_TRACKING_URI if that is `uri` with its password. Raises UserError if that is away."""
    if HIDDEN not in uri:
        return uri
    given = os.environ.get(VARIABLE, "")
    if without_password(given) != uri:
        raise UserError(
            f"tracking.uri: {uri} was written down without its password; give the whole address, by --tracking.uri or "
            f"(safer: nobody sees it) in the environment variable {VARIABLE}"
        )
    return given


def sqlite_uri(path: Path) -> str:
    """The address of the SQLite file `path` (absolute), whatever characters that holds.

    SQLAlchemy decodes what follows sqlite:///, and SQLite what follows file: in it. Slashes are encoded too: MLflow
    makes the folders that it takes to be there.
    """
    if re.fullmatch(r"[^%?#]*", str(path)):
        return f"{SQLITE}{path}"
    return f"{SQLITE}file:{quote(quote(str(path), safe=''), safe='')}?uri=true"


def sqlite_file(uri: str) -> Path | None:
    """The SQLite file that `uri` names; None for a server."""
    if not uri.startswith(SQLITE):
        return None
    place = unquote(uri.removeprefix(SQLITE).partition("?")[0])
    return Path(unquote(place.removeprefix("file:")) if place.startswith("file:") else place).absolute()


def how_to_look(uri: str, experiment_id: str | None = None) -> str:
    """What to type, or where to go, to see the runs recorded at `uri`, in the experiment of this id if it is known.

    The page of an experiment is opened on its runs: MLflow 3.17 opens it on GenAI traces, of which there are none,
    unless the address, or a choice made in this browser, says otherwise.
    """
    shown, served = without_password(uri), uri.startswith("http")
    page = None if experiment_id is None else f"/#/experiments/{experiment_id}?workflowType=machine_learning"
    if served:
        return f"{shown.rstrip('/')}{page}" if page else shown
    command = f"mlflow ui --backend-store-uri {shlex.quote(shown)}"
    return f"{command}, then http://127.0.0.1:5000{page}" if page else command
