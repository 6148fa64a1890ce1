"""A model directory as an MLflow pyfunc model that samples; served by `mlflow models serve --env-manager local`.

MLflow loads it by the name of this module, with which the model directory's files are read: no code and no pickle are
shipped. What is asked for stands in the params; the input is not looked at, but MLflow wants one.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from toposampler.errors import UserError
from toposampler.training.directory import read_manifest
from toposampler.training.model import Model, load_model

DATA = "data"
"""where MLflow puts a model's own files, in the directory of the pyfunc model"""
MOST = 100_000
"""samples that one request may ask for: they are all held in memory, and a server is open to mistakes"""
PARAMS = ParamSchema(
    [
        ParamSpec("n", "long", 16),
        ParamSpec("seed", "long", 0),
        ParamSpec("generator", "long", None),
        ParamSpec("ema", "boolean", True),
    ]
)


class Sampler:
    """What MLflow calls: the model in `folder`, with the moving average of its weights and with the last ones."""

    def __init__(self, folder: str | Path) -> None:
        self._models: dict[bool, Model] = {ema: load_model(folder, ema) for ema in (True, False)}

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
        """Samples (n, *shape) float32, by `params`; the input is not looked at."""
        asked = {spec.name: spec.default for spec in PARAMS.params} | (params or {})
        if unknown := asked.keys() - {spec.name for spec in PARAMS.params}:
            raise UserError(f"unknown params: {', '.join(sorted(unknown))}; there are n, seed, generator, ema")
        if asked["n"] > MOST:
            raise UserError(f"params.n must be at most {MOST:,}, got {asked['n']:,}")
        if not 0 <= asked["seed"] < 2**63:
            raise UserError(f"params.seed must be at least 0 and less than 2**63, got {asked['seed']}")
        samples, _ = self._models[asked["ema"]].sample(asked["n"], asked["seed"], asked["generator"])
        return samples.float().numpy()


def _load_pyfunc(folder: str) -> Sampler:
    """MLflow's name for what loads a model from its own files."""
    return Sampler(folder)


def write_pyfunc(model: Path, folder: Path) -> None:
    """Write the model directory `model` as a pyfunc model to `folder`, which is made."""
    shape = read_manifest(model)["shape"]
    os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")  # MLflow's takes 5 s
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=__name__,
        data_path=str(model),
        signature=ModelSignature(outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]), params=PARAMS),
        input_example=(np.zeros(1), {"n": 4, "seed": 0}),
        pip_requirements=[f"toposampler=={version('toposampler')}"],
    )
