"""A model directory as an MLflow pyfunc model that samples; served by `mlflow models serve --env-manager local`.

MLflow loads it by the name of this module, with which the model directory's files are read: no code and no pickle are
shipped. What is asked for stands in the params; the input is not looked at, but MLflow wants one. MLflow drops params
that are not in `PARAMS` before they get here, with a warning in the server's log, and its server gives a request 60 s
(`--timeout`); the first one with a rejection sampler calibrates it, which can take that long.

A reply holds `samples` and the `generators` that made them; with `ids` false it is the samples alone, as of versions
that were registered before there were ids: their signature, which MLflow keeps to, knows no such param, and sends seed
0 where none is asked for.
"""

from __future__ import annotations

import os
import secrets
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from toposampler.errors import UserError
from toposampler.rejection import TRUNCATIONS, Rejection, rejection
from toposampler.training.model import Model, load_model, read_weights

DATA = "data"
"""where MLflow puts a model's own files, in the directory of the pyfunc model"""
MOST = 100_000
"""samples that one request may ask for: they are all held in memory, and a server is open to mistakes"""
SAMPLES, GENERATORS = "samples", "generators"
"""names in a reply, as in a run's samples.npz"""
SERVED = (*TRUNCATIONS, "simplicial", "critic")
"""rejection samplers that need nothing but the model"""
PARAMS = ParamSchema(
    [
        ParamSpec("n", "long", 16),
        ParamSpec("seed", "long", None),
        ParamSpec("generator", "long", None),
        ParamSpec("rejection", "string", None),
        ParamSpec("keep", "double", None),
        ParamSpec("ema", "boolean", True),
        ParamSpec("ids", "boolean", True),
    ]
)

Array = np.ndarray[Any, Any]
Reply = dict[str, Array] | Array


class Sampler:
    """What MLflow calls: the model in `folder`, with the moving average of its weights and with the last ones."""

    def __init__(self, folder: str | Path) -> None:
        self._models: dict[bool, Model] = {ema: load_model(folder, ema) for ema in (True, False)}
        self._samplers: dict[tuple[bool, str | None, float | None], Model | Rejection] = {}
        self._lock = Lock()  # a server answers in threads, and torch's forward differentiation takes one at a time

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Reply:
        """`samples` (n, *shape) and the `generators` (n,) int64 that made them; the input is not looked at.

        They are those of `toposampler sample` for the same params, and without a seed others at each request. Without
        `ids`, or where the version's signature knows no such param, the samples alone.

        Raises MlflowException, whose message the server passes on, if the params ask for what there is not.
        """
        asked = {spec.name: spec.default for spec in PARAMS.params} | {"ids": False}
        asked |= {name: value for name, value in (params or {}).items() if value is not None}
        try:
            seed = secrets.randbits(63) if asked["seed"] is None else asked["seed"]
            if asked["n"] > MOST:
                raise UserError(f"n must be at most {MOST:,}, got {asked['n']:,}")
            with self._lock:
                sampler = self._sampler(asked["ema"], asked["rejection"], asked["keep"])
                samples, ids = sampler.sample(asked["n"], seed, asked["generator"])
        except UserError as error:
            raise MlflowException.invalid_parameter_value(f"params: {error}") from None
        x = samples.to(self._models[asked["ema"]].dtype).numpy()
        return {SAMPLES: x, GENERATORS: ids.numpy()} if asked["ids"] else x

    def _sampler(self, ema: bool, name: str | None, keep: float | None) -> Model | Rejection:
        """The model, or the rejection `name` around it, made once: its first samples calibrate it, which takes long."""
        if (name in TRUNCATIONS) != (keep is not None):
            raise UserError(
                f"keep is the share of latents that rejection {' or '.join(TRUNCATIONS)} keeps, and goes with these "
                f"alone; got keep {keep} and rejection {name}"
            )
        if name not in (None, *SERVED):
            raise UserError(
                f"rejection must be one of {', '.join(SERVED)}, got {name}; latent_rs and latent_rs_ga need weights of "
                "their own, which a registered model has not"
            )
        key = (ema, name, keep)
        if key not in self._samplers:
            model = self._models[ema]
            self._samplers[key] = rejection(name, model, keep, None) or model
        return self._samplers[key]


def _load_pyfunc(folder: str) -> Sampler:
    """MLflow's name for what loads a model from its own files."""
    return Sampler(folder)


def write_pyfunc(model: Path, folder: Path) -> None:
    """Write the model directory `model` as a pyfunc model to `folder`, which is made."""
    weights = read_weights(model)
    double = weights.transform is not None and weights.transform.dtype == torch.float64
    numbers = TensorSpec(np.dtype(np.float64 if double else np.float32), (-1, *weights.shape), SAMPLES)
    ids = TensorSpec(np.dtype(np.int64), (-1,), GENERATORS)
    os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")  # MLflow's takes 5 s
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=__name__,
        data_path=str(model),
        signature=ModelSignature(outputs=Schema([numbers, ids]), params=PARAMS),
        input_example=(np.zeros(1), {"n": 4, "seed": 0}),
        pip_requirements=[f"toposampler=={version('toposampler')}"],
    )
