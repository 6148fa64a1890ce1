"""A model's generators as ONNX, checked against torch, and what a program needs to draw from them as JSON."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.exporting.graph import SampleGraph
from toposampler.extras import require
from toposampler.training.manifest import MANIFEST
from toposampler.training.model import Model

ONNX, ABOUT = "generators.onnx", "onnx.json"
OPSET = 17
"""version of ONNX's operators, which onnxruntime reads since 1.13"""
TOLERANCE = 1e-5
"""between samples of onnxruntime and of torch: of a sample's magnitude, and of the standard deviation of its column"""
CHECKED = (257, 1)
"""samples that are compared: the graph must hold for any number, and it is traced with another one"""
TRACED = 5
SEED = 0
"""of the latents that are compared"""


def write_onnx(model: Model, folder: Path) -> None:
    """Write `generators.onnx` and `onnx.json` of `model` to the model directory `folder`.

    Raises UserError if onnx or onnxruntime is not installed, if the networks cannot be expressed in ONNX, or if
    onnxruntime's samples are not torch's.
    """
    for package in ("onnx", "onnxruntime"):
        require(package, "onnx", "--onnx")
    graph, path = SampleGraph(model), folder / ONNX
    try:
        _write_graph(graph, _latents(model, TRACED), path)
    except Exception as error:  # whatever torch's exporter, or a network of the user's own, raises
        raise UserError(
            f"{model.config.name}: its generators cannot be written as ONNX: {_first_line(error)}; without --onnx the "
            "model directory alone is written"
        ) from error
    difference = max(_difference(model, path, n) for n in CHECKED)
    about = _about(model, path, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(), difference)
    (folder / ABOUT).write_text(json.dumps(about, indent=2))


def _write_graph(graph: SampleGraph, noise: tuple[Tensor, Tensor], path: Path) -> None:
    names = ["latents", "generators", "samples"]
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):  # it prints graphs that fail
        # torch warns that this exporter, by tracing, is the older one: the newer has no sizes that depend on ids. What
        # a trace may have fixed that depends on values is found by the comparison with torch.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            noise,
            str(path),
            dynamo=False,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "n"} for name in names},
            opset_version=OPSET,
        )


def _latents(model: Model, n: int) -> tuple[Tensor, Tensor]:
    """Latents (n, d) as the model is sampled with, and ids (n,) of all generators in turn."""
    rng = torch.Generator().manual_seed(SEED)
    z = model.system.latent.draw((n,), rng, next(model.system.parameters()).dtype)
    return z, torch.arange(n) % model.system.K


def _difference(model: Model, path: Path, n: int) -> float:
    """The largest difference of n samples of onnxruntime from torch's, in units of what `TOLERANCE` is a share of.

    Raises UserError if the file cannot be run, or they differ by more than that.
    """
    z, c = _latents(model, n)
    with torch.no_grad():
        expected = model.to_units(model.system.generate({"z": z, "c": c})).double().numpy()
    try:
        found = samples_of(path, z.numpy(), c.numpy()).astype(np.float64)
    except Exception as error:  # onnxruntime has a dozen of its own
        raise UserError(
            f"{model.config.name}: onnxruntime cannot run what was written: {_first_line(error)}"
        ) from error
    unit = np.ones(1) if model.transform is None else model.transform.scale.numpy()
    fits = found.shape == expected.shape
    difference = float((np.abs(found - expected) / (unit + np.abs(expected))).max()) if fits else float("inf")
    if not difference <= TOLERANCE:
        raise UserError(
            f"{model.config.name}: samples of its ONNX differ from torch's by {difference:.2g}, more than "
            f"{TOLERANCE:g}: its networks decide by values, or by the number of samples, what they do, "
            "which a graph cannot hold"
        )
    return difference


def samples_of(path: Path, z: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Samples (n, *shape) that onnxruntime makes on the CPU of latents z (n, d) and generator ids c (n,) int64."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (samples,) = session.run(None, {"latents": z, "generators": c})
    return np.asarray(samples)


def _about(model: Model, path: Path, manifest: str, difference: float) -> dict[str, Any]:
    """What a program must know to draw samples: r(c), the distribution of z, the inputs and the output."""
    latent, prior = model.system.latent, model.system.prior()
    number = str(next(model.system.parameters()).dtype).removeprefix("torch.")
    shape = ["n", *model.shape]
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "model_sha256": manifest,
        "opset": OPSET,
        "inputs": {
            "latents": {"type": number, "shape": ["n", latent.dim], "distribution": latent.model_dump(mode="json")},
            "generators": {
                "type": "int64",
                "shape": ["n"],
                "least": 0,
                "greatest": model.system.K - 1,
                "prior": [1.0] if prior is None else prior.double().tolist(),
            },
        },
        "output": {"samples": {"type": str(model.dtype).removeprefix("torch."), "shape": shape}},
        "check": {"samples": sum(CHECKED), "largest_difference_from_torch": difference, "tolerance": TOLERANCE},
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
