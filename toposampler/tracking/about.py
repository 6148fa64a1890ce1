"""What MLflow records of a run beside its parameters and metrics: in words, its data, its user, its model."""

from __future__ import annotations

import getpass
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Run

from toposampler.config import without_password
from toposampler.training.model import save_model
from toposampler.training.networks import Given

NOTE, USER = "mlflow.note.content", "mlflow.user"
"""tags that MLflow shows as a run's description and its user"""
DIGEST_LENGTH = 36
"""characters of a data set's digest that MLflow keeps: of the SHA-256 the first, and all of it in the profile"""


@dataclass(frozen=True)
class Data:
    """The data that a run trains on."""

    name: str
    sha256: str
    source: Mapping[str, str]
    """the section of the configuration that says where they come from"""
    size: int
    shape: tuple[int, ...]
    """of one sample"""

    def as_input(self) -> DatasetInput:
        """As MLflow logs an input of a run."""
        path = self.source.get("path") or self.source.get("root")
        source = {"uri": path} if path else dict(self.source)
        return DatasetInput(
            Dataset(
                name=self.name,
                digest=self.sha256[:DIGEST_LENGTH],
                source_type="local" if path else "code",
                source=without_password(json.dumps(source)),
                profile=json.dumps({"sha256": self.sha256, "num_rows": self.size, "shape": list(self.shape)}),
            ),
            [InputTag("mlflow.data.context", "training")],
        )


@dataclass(frozen=True)
class About:
    """What is recorded of a run."""

    description: str
    """in words, Markdown"""
    data: Data
    networks: Given = field(default=None, compare=False)
    """of the run's own, in place of the package's: its model is drawn once"""


def user() -> dict[str, str]:
    """The tag that names who runs this; none where the system does not know."""
    try:
        return {USER: getpass.getuser()}
    except (OSError, KeyError):  # a container's user without a name; the second until Python 3.13
        return {}


def tell(client: MlflowClient, run: Run, about: About) -> None:
    """Have `run` described as `about` says, with its data as an input, once."""
    if run.data.tags.get(NOTE) != about.description:
        client.set_tag(run.info.run_id, NOTE, about.description)
    if not run.inputs.dataset_inputs:
        client.log_inputs(run.info.run_id, [about.data.as_input()])


def log_model(
    client: MlflowClient, run: Run, checkpoint: Path, step: int, about: About, metrics: Sequence[Metric]
) -> None:
    """Log the model in `checkpoint`, after `step` generator steps, as an output of `run`: a pyfunc model, without code.

    `metrics` are those of the run that are the model's.
    """
    from toposampler.tracking.pyfunc import write_pyfunc  # here: mlflow.pyfunc takes a second

    with tempfile.TemporaryDirectory() as folder:
        save_model(checkpoint, Path(folder) / "model", networks=about.networks)
        write_pyfunc(Path(folder) / "model", Path(folder) / "pyfunc")
        model = client.create_logged_model(
            run.info.experiment_id,
            name=str(run.info.run_name).replace(".", "-"),  # MLflow's names of models have no dots
            source_run_id=run.info.run_id,
            tags={"step": str(step), "data": about.data.name, "data_sha256": about.data.sha256},
            model_type="generative",
        )
        try:
            client.log_model_artifacts(model.model_id, str(Path(folder) / "pyfunc"))
        except BaseException:
            with suppress(Exception):  # the first one counts
                client.delete_logged_model(model.model_id)
            raise
    data = about.data.as_input().dataset
    of_model = {"model_id": model.model_id, "dataset_name": data.name, "dataset_digest": data.digest}
    client.log_batch(run.info.run_id, [Metric(m.key, m.value, m.timestamp, m.step, **of_model) for m in metrics])
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step)])
