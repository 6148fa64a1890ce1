"""A model as a directory of data: what can be looked up, checked and sampled, and runs no code when it is read.

| file | what |
|---|---|
| `model.json` | the manifest: schema, license, data, system, step, evaluation, networks, SHA-256 of the other files |
| `config.json` | the resolved configuration of the run |
| `weights.safetensors` | `system.NAME`: the last weights; `average.NAME`: of the averaged modules, to sample from;
| | `transform.mean`, `transform.scale`: of the points it was trained on, if they were standardized |
| `README.md` | the model card (`card.py`): beside the manifest, not in it, as it may be edited; never read |
| `samples.png` | samples of a fixed seed: a row of images of each generator, or points colored by their generators |

In schema 1, which is still read, the moving average is one tensor, `average`: the parameters alone, flat, in the order
of the modules.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toposampler.data.transform import Standardization, standardization_from
from toposampler.errors import UserError
from toposampler.training.card import CARD
from toposampler.training.manifest import (
    CONFIG,
    LARGEST_JSON,
    MANIFEST,
    SAMPLES,
    WEIGHTS,
    Manifest,
    OwnNetwork,
    content_of,
    parsed_json,
    read_manifest,
    write_manifest,
)

SAMPLE_COUNT = "data.samples"
"""in the metadata of the weights: how many samples the model was trained on"""
Average = Tensor | dict[str, Tensor]
"""the moving average: of the parameters, flat (in checkpoints and schema 1), or all tensors of the averaged modules"""


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
    average: Average
    """of the averaged modules"""
    networks: Mapping[str, OwnNetwork] = field(default_factory=dict)
    """by role, those that are not the package's"""
    transform: Standardization | None = None
    """of the points it was trained on; None: they were in the user's units"""
    samples: int | None = None
    """that it was trained on; None: an earlier version did not record the number"""


def write_directory(
    folder: Path,
    weights: Weights,
    picture: bytes,
    evaluation: Mapping[str, float] | None,
    license: str | None,
    card: str,
) -> None:
    """Write the model to `folder`, which is made; the manifest last of all.

    Args:
        folder: for the files.
        weights: of the model, with a named average.
        picture: the content of `samples.png`.
        evaluation: metrics of this model by name; None: it was not evaluated.
        license: of the weights, as an SPDX identifier; None: its owner has not said.
        card: the content of `README.md`.
    """
    assert isinstance(weights.average, dict), "a model directory names what it holds"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"system.{name}": x for name, x in weights.system.items()}
    tensors |= {f"average.{name}": x for name, x in weights.average.items()}
    if weights.transform is not None:
        tensors |= {f"transform.{name}": x for name, x in weights.transform.state().items()}
    content = {
        CONFIG: json.dumps(weights.config, indent=2).encode(),
        WEIGHTS: save({name: x.detach().clone().contiguous() for name, x in tensors.items()}, _about(weights)),
        SAMPLES: picture,
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    (folder / CARD).write_text(card, encoding="utf-8")
    write_manifest(
        folder,
        {
            "license": license,
            "data": {"name": weights.config["data"]["name"], "sha256": weights.data},
            "system": weights.config["system"]["name"],
            "shape": list(weights.shape),
            "step": weights.step,
            "evaluation": evaluation,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
            "networks": {role: network.model_dump() for role, network in weights.networks.items()},
        },
    )


def read_directory(folder: Path) -> tuple[Weights, Manifest]:
    """The model in `folder`, on the CPU, and its manifest. Nothing stored in it is executed.

    Raises UserError, as `read_manifest` does, and if a file is missing, is not the one of the manifest or lies
    elsewhere, or if the weights are no safetensors.
    """
    manifest = read_manifest(folder)
    content = {name: _read_file(folder, name, sha256) for name, sha256 in manifest.files.items()}
    config = parsed_json(content[CONFIG], folder / CONFIG)
    for key, name in (("system", manifest.system), ("data", manifest.data.name)):
        section = config.get(key)
        if not isinstance(section, dict) or section.get("name") != name:
            raise UserError(f"{folder}: its {MANIFEST} says {key} {name}, and its {CONFIG} another")
    try:
        tensors = load(content[WEIGHTS])
    except (SafetensorError, KeyError, ValueError) as error:  # the second: a kind of numbers that torch has not
        raise UserError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from None
    parts: dict[str, dict[str, Tensor]] = {"system": {}, "average": {}, "transform": {}}
    for name, x in tensors.items():
        part, dot, rest = name.partition(".")
        if part in parts and dot:
            parts[part][rest] = x
        elif name != "average" or manifest.version > 1:
            raise UserError(f"{folder / WEIGHTS} holds {name!r}, which is no part of a model")
    if manifest.version == 1 and "average" not in tensors:
        raise UserError(f"{folder / WEIGHTS} lacks the tensor 'average'")
    return (
        Weights(
            config=config,
            shape=tuple(manifest.shape),
            data=manifest.data.sha256,
            step=manifest.step,
            system=parts["system"],
            average=tensors["average"] if manifest.version == 1 else parts["average"],
            networks={str(role): network for role, network in manifest.networks.items()},
            transform=transform_of(parts["transform"] or None, manifest.shape, folder / WEIGHTS),
            samples=_samples(content[WEIGHTS]),
        ),
        manifest,
    )


def _about(weights: Weights) -> dict[str, str]:
    """The metadata of `weights.safetensors`: what the manifest of schema 2 has no field for.

    One entry: safetensors writes several in an order of chance, and equal models would differ in their SHA-256.
    """
    return {"format": "pt"} if weights.samples is None else {SAMPLE_COUNT: str(weights.samples)}


def _samples(content: bytes) -> int | None:
    """The number of samples that the metadata of a safetensors file, which was read before, tell; None: they do not."""
    length = int.from_bytes(content[:8], "little")
    told = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(SAMPLE_COUNT, "")
    return int(told) if re.fullmatch(r"[1-9]\d{0,14}", told) else None


def transform_of(state: Mapping[str, Tensor] | None, shape: Sequence[int], place: str | Path) -> Standardization | None:
    """The standardization of points of this `shape` that is stored as `state` at `place`; None: there is none.

    Raises UserError if it is not one of such points.
    """
    try:
        transform = standardization_from(state)
    except (KeyError, ValueError) as error:
        raise UserError(f"{place}: the standardization of its points is wrong: {error}") from None
    if transform is not None and list(transform.mean.shape) != list(shape):
        raise UserError(
            f"{place}: the standardization of its points is of {len(transform.mean)} columns, and a sample has the "
            f"shape {list(shape)}"
        )
    return transform


def check_finite(weights: Weights, place: str | Path) -> None:
    """Raises UserError, naming the tensor, if a number in `weights`, read at `place`, is NaN or infinite."""
    average = weights.average if isinstance(weights.average, dict) else {"": weights.average}
    for part, tensors in (("system", weights.system), ("average", average)):
        for name, x in tensors.items():
            if x.is_floating_point() and not torch.isfinite(x).all():
                raise UserError(f"{place}: its weights {f'{part}.{name}'.rstrip('.')} are not finite")


def _read_file(folder: Path, name: str, sha256: str) -> bytes:
    """The content of the file `name` of the manifest in `folder`, if it lies in it and has this sum."""
    manifest, relative = folder / MANIFEST, PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise UserError(f"{manifest} names {name!r}, which is outside the model's directory")
    path = folder / relative
    if any(part.is_symlink() for part in path.parents[: len(relative.parts) - 1]):
        raise UserError(f"{path} is in a folder that is a symbolic link; a model's files lie in its own directory")
    try:
        content = content_of(path, LARGEST_JSON if name == CONFIG else None)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {MANIFEST} names it") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{path} was altered: its SHA-256 is {found}, and {MANIFEST} has {sha256}")
    return content
