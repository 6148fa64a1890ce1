"""MLflow's model registry: versions of a model, each a model directory, and the aliases they go by.

A version is an artifact of its run: an MLflow pyfunc model whose data is the model directory. Only that is read here,
and nothing of it is code.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from toposampler.config import registry_name, shortened, without_password
from toposampler.errors import UserError
from toposampler.tracking.pyfunc import DATA, write_pyfunc
from toposampler.tracking.server import cause
from toposampler.training.manifest import MANIFEST, read_manifest
from toposampler.training.model import save_model
from toposampler.training.networks import Given

COMMIT = "mlflow.source.git.commit"
"""tag of a run: the commit of the code it was trained with"""
DIGEST = "model_sha256"
"""tag of a version: SHA-256 of its manifest, and so of all it names"""


@dataclass(frozen=True)
class Version:
    """One version of a model."""

    number: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


class Registry:
    """The versions of the model `name` on the MLflow at `uri`. Methods raise UserError where it does not answer."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self.name = uri, name
        self._client = MlflowClient(uri)

    def register(
        self, run_id: str, place: Path, tags: Mapping[str, str], license: str | None = None, networks: Given = None
    ) -> str:
        """Make the model at `place`, of the run `run_id`, a version and return its number; once for each model.

        Args:
            run_id: of the run on MLflow that gets it as an artifact.
            place: run folder, checkpoint or model directory.
            tags: of the version, beside those that tell of the system, the data and the commit.
            license: of the weights, as an SPDX identifier.
            networks: as for `load_model`: those of a model that has networks of its own.

        Raises UserError also for a name by which it could not be found again.
        """
        check_name(self.name)
        with tempfile.TemporaryDirectory() as folder, self._faults():
            model = Path(folder) / "model"
            save_model(place, model, license, networks)
            digest = _digest(model)
            run = self._client.get_run(run_id)
            tags = {**tags, **_about(model), DIGEST: digest}
            if COMMIT in run.data.tags:
                tags["git_commit"] = run.data.tags[COMMIT]
            with suppress(MlflowException):  # it exists
                self._client.create_registered_model(self.name)
            for version in self._versions():
                if (version.run_id, version.tags.get(DIGEST)) == (run_id, digest):
                    for key, value in tags.items():
                        self._client.set_model_version_tag(self.name, version.version, key, value)
                    return str(version.version)
            write_pyfunc(model, Path(folder) / "pyfunc")
            path = f"models/{digest[:16]}"  # its own: another model of the run must not take its place
            self._client.log_artifacts(run_id, str(Path(folder) / "pyfunc"), artifact_path=path)
            source = f"{run.info.artifact_uri}/{path}"
            return str(self._client.create_model_version(self.name, source, run_id, tags=tags).version)

    def set_alias(self, alias: str, version: str) -> None:
        """Have `version` go by `alias`, which another may have had."""
        with self._faults():
            self._client.set_registered_model_alias(self.name, alias, version)

    def find(self, alias: str) -> str | None:
        """The version that goes by `alias`, if one does."""
        with self._faults():
            try:
                return str(self._client.get_model_version_by_alias(self.name, alias).version)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def versions(self) -> list[Version]:
        """All versions, oldest first; none of a model that does not exist."""
        with self._faults():
            aliases: dict[str, list[str]] = {}
            for alias, number in self._aliases().items():
                aliases.setdefault(str(number), []).append(alias)
            numbered = sorted(self._versions(), key=lambda version: int(version.version))
        return [Version(str(v.version), tuple(sorted(aliases.get(str(v.version), []))), v.tags) for v in numbered]

    def run_of(self, version: str) -> str:
        """The id of the run that `version` comes from."""
        with self._faults():
            return str(self._client.get_model_version(self.name, version).run_id)

    def fetch(self, version: str, folder: Path) -> Path:
        """The model directory of `version`, copied to `folder`, with the manifest that was registered."""
        with self._faults():
            found = self._client.get_model_version(self.name, version)
            source = f"{found.source}/{DATA}/model"
            path = Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self._uri))
        if DIGEST in found.tags and (path / MANIFEST).exists() and _digest(path) != found.tags[DIGEST]:
            raise UserError(f"{self.name} version {version}: its {MANIFEST} is not the one that was registered")
        return path

    def _aliases(self) -> Mapping[str, str]:
        try:
            return dict(self._client.get_registered_model(self.name).aliases)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise

    def _versions(self) -> list[ModelVersion]:
        quote = '"' if "'" in self.name else "'"  # of names that others have made: ours hold neither
        if quote in self.name:
            raise UserError(
                f"the registered model {self.name} has both quotes in its name: MLflow cannot be asked for it"
            )
        return list(self._client.search_model_versions(f"name={quote}{self.name}{quote}", max_results=10_000))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # MLflow, requests and SQLAlchemy each raise their own
            raise UserError(
                f"the registry of MLflow at {without_password(self._uri)}, model {self.name}: {cause(error)}"
            ) from None


def check_name(name: str) -> None:
    """Raises UserError for a name that a registered model must not have; before anything is made."""
    try:
        registry_name(name)
    except ValueError as error:
        raise UserError(f"{error} (got {shortened(repr(name))})") from None


def _about(model: Path) -> dict[str, str]:
    """What a version is found by, from the manifest of the model directory `model`."""
    manifest = read_manifest(model)
    told = {"system": manifest.system, "step": str(manifest.step), "license": manifest.license or "not stated"}
    return told | {"data": manifest.data.name, "data_sha256": manifest.data.sha256}


def _digest(model: Path) -> str:
    return hashlib.sha256((model / MANIFEST).read_bytes()).hexdigest()
