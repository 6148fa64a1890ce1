"""MLflow's model registry: versions of a model, each a checkpoint of a run, and the aliases they go by.

A version's artifacts are the checkpoint and the configuration of its run. Nothing of them is code, nor is any run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from toposampler.errors import UserError
from toposampler.tracking.server import cause

CANDIDATE, CHAMPION = "candidate", "champion"
PLACE = "model"
"""where a model lies among the artifacts of its run"""
CHECKPOINT = "checkpoint.pt"


class Registry:
    """The versions of the model `name` on the MLflow at `uri`. Methods raise UserError where it does not answer."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self.name = uri, name
        self._client = MlflowClient(uri)

    def register(self, run_id: str, checkpoint: Path, tags: Mapping[str, str]) -> str:
        """Make `checkpoint`, of the run `run_id`, a version with `tags` and return its number; once for each file."""
        try:
            with suppress(MlflowException):  # it exists
                self._client.create_registered_model(self.name)
            marked = {**tags, "checkpoint": f"{checkpoint.parent.parent.name}/{checkpoint.name}"}
            for version in self._client.search_model_versions(f"name='{self.name}'"):
                if version.run_id == run_id and marked.items() <= version.tags.items():
                    return str(version.version)
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(checkpoint, Path(folder) / CHECKPOINT)
                shutil.copy(checkpoint.parent.parent / "config.yaml", folder)
                self._client.log_artifacts(run_id, folder, artifact_path=PLACE)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{PLACE}"
            return str(self._client.create_model_version(self.name, source, run_id, tags=marked).version)
        except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
            raise self._fault(error) from None

    def set_alias(self, alias: str, version: str) -> None:
        """Have `version` go by `alias`, which another may have had."""
        try:
            self._client.set_registered_model_alias(self.name, alias, version)
        except Exception as error:  # as above
            raise self._fault(error) from None

    def find(self, alias: str) -> str | None:
        """The version that goes by `alias`, if one does."""
        try:
            return str(self._client.get_model_version_by_alias(self.name, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise self._fault(error) from None

    def fetch(self, version: str, folder: Path) -> Path:
        """The checkpoint of `version`, copied to `folder`. It is data: `read_checkpoint` runs nothing of it."""
        try:
            source = self._client.get_model_version(self.name, version).source
            return Path(download_artifacts(f"{source}/{CHECKPOINT}", dst_path=str(folder), tracking_uri=self._uri))
        except Exception as error:  # as above
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> UserError:
        return UserError(f"the registry of MLflow at {self._uri}, model {self.name}: {cause(error)}")
