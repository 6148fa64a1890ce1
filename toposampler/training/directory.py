"""A model as a directory of data: what can be looked up, checked and sampled, and runs no code when it is read.

| file | what |
|---|---|
| `model.json` | the manifest: schema, licence, data and digest, system, step, evaluation, SHA-256 of the other files |
| `config.json` | the resolved configuration of the run |
| `weights.safetensors` | `system.NAME`: the last weights; `average`: the moving average of the generators', flat;
`transform.mean`, `transform.scale`: of the points it was trained on, if they were standardised |
| `samples.png` | samples of a fixed seed: a row of images of each generator, or points coloured by their generators |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toposampler.data.transform import Standardisation, standardisation_from
from toposampler.errors import UserError

SCHEMA = 1
MANIFEST, CONFIG, WEIGHTS, SAMPLES = "model.json", "config.json", "weights.safetensors", "samples.png"
FIELDS = frozenset({"schema", "licence", "data", "system", "shape", "step", "evaluation", "files"})


@dataclass(frozen=True)
class Weights:
    """All that a model is built from, wherever it was read."""

    config: dict[str, Any]
    """of the run, resolved"""
    shape: tuple[int, ...]
    """of one sample"""
    data: str
    """SHA-256 of the data it was trained on"""
    step: int
    """generator steps it was trained for"""
    system: dict[str, Tensor]
    """the last weights"""
    average: Tensor
    """the moving average of the parameters of the averaged modules, flat"""
    transform: Standardisation | None = None
    """of the points it was trained on; None: they were in the user's units"""


def write_directory(
    folder: Path, weights: Weights, picture: bytes, evaluation: Mapping[str, float] | None, licence: str | None
) -> None:
    """Write the model to `folder`, which is made; the manifest last of all.

    Args:
        folder: for the files.
        weights: of the model.
        picture: the content of `samples.png`.
        evaluation: metrics of this model by name; None: it was not evaluated.
        licence: of the weights, as an SPDX identifier; None: its owner has not said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"system.{name}": x for name, x in weights.system.items()} | {"average": weights.average}
    if weights.transform is not None:
        tensors |= {f"transform.{name}": x for name, x in weights.transform.state().items()}
    content = {
        CONFIG: json.dumps(weights.config, indent=2).encode(),
        WEIGHTS: save({name: x.detach().clone().contiguous() for name, x in tensors.items()}),
        SAMPLES: picture,
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    manifest = {
        "schema": SCHEMA,
        "licence": licence,
        "data": {"name": weights.config["data"]["name"], "sha256": weights.data},
        "system": weights.config["system"]["name"],
        "shape": list(weights.shape),
        "step": weights.step,
        "evaluation": evaluation,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in `folder`. Raises UserError if it is none, is damaged, or was written by a newer version."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} is not a model directory: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise UserError(f"{path} is not the manifest of a model: it has no schema version")
    if manifest["schema"] != SCHEMA:
        raise UserError(f"{path} has schema {manifest['schema']}; this version reads schema {SCHEMA}")
    if missing := FIELDS - manifest.keys():
        raise UserError(f"{path} lacks {', '.join(sorted(missing))}")
    if not isinstance(manifest["files"], dict):
        raise UserError(f"{path}: files must map names to SHA-256 sums, got {manifest['files']!r}")
    if lacking := {CONFIG, WEIGHTS, SAMPLES} - manifest["files"].keys():
        raise UserError(f"{path}: files lacks {', '.join(sorted(lacking))}")
    return manifest


def read_directory(folder: Path) -> Weights:
    """The model in `folder`, on the CPU. Nothing stored in it is executed.

    Raises UserError, as `read_manifest` does, and if a file is missing, is not the one of the manifest or lies
    elsewhere, or if the weights are no safetensors.
    """
    manifest = read_manifest(folder)
    content = {name: _read_file(folder, name, sha256) for name, sha256 in manifest["files"].items()}
    try:
        tensors = load(content[WEIGHTS])
        system = {name.removeprefix("system."): x for name, x in tensors.items() if name.startswith("system.")}
        transform = {n.removeprefix("transform."): x for n, x in tensors.items() if n.startswith("transform.")}
        return Weights(
            config=json.loads(content[CONFIG]),
            shape=tuple(manifest["shape"]),
            data=manifest["data"]["sha256"],
            step=manifest["step"],
            system=system,
            average=tensors["average"],
            transform=standardisation_from(transform or None),
        )
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not a model of toposampler: {type(error).__name__} {error}") from None


def _read_file(folder: Path, name: str, sha256: object) -> bytes:
    """The content of the file `name` of the manifest in `folder`, if it lies in it and has this sum."""
    manifest, relative = folder / MANIFEST, PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise UserError(f"{manifest} names {name!r}, which is outside the model's directory")
    path = folder / relative
    if any(part.is_symlink() for part in (path, *path.parents[: len(relative.parts) - 1])):
        raise UserError(f"{path} is a symbolic link; a model's files lie in its own directory")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {MANIFEST} names it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{path} was altered: its SHA-256 is {found}, and {MANIFEST} has {sha256}")
    return content
