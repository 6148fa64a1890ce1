"""Trained models: found by a path, loaded without running code, sampled, and saved as a directory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from toposampler.config import merge_overrides, validate
from toposampler.data import Dataset
from toposampler.data.transform import Standardization
from toposampler.errors import UserError
from toposampler.nn.size import no_larger_than
from toposampler.systems import System
from toposampler.training.card import Described, Measured, Value, model_card
from toposampler.training.checkpoint import newest_checkpoint, read_checkpoint
from toposampler.training.config import RunConfig, of_earlier_version
from toposampler.training.directory import (
    Average,
    Weights,
    check_finite,
    read_directory,
    transform_of,
    write_directory,
)
from toposampler.training.figures import POINTS, STANDARDIZED, generator_images, named_generators
from toposampler.training.manifest import MANIFEST, Manifest, OwnNetwork, Shape, told
from toposampler.training.networks import Given, matched
from toposampler.training.process_group import ONE_PROCESS
from toposampler.training.sampling import draw_samples

TYPES = (torch.float32, torch.float64)
"""of the weights of a model"""


class Model:
    """A trained system and the configuration it was trained with.

    Args:
        config: of the run.
        system: with the weights to sample from, on the device to sample on.
        step: generator steps it was trained for.
        shape: of one sample.
        data: SHA-256 of the data it was trained on.
        transform: of the points it was trained on; None: they were in the user's units.
    """

    def __init__(
        self,
        config: RunConfig,
        system: System,
        step: int,
        shape: tuple[int, ...],
        data: str,
        transform: Standardization | None = None,
    ) -> None:
        self.config, self.system, self.step, self.shape, self.data = config, system, step, shape, data
        self.transform = transform

    @property
    def dtype(self) -> torch.dtype:
        """Of samples in files: float32, or float64 where the user's units need it."""
        return torch.float32 if self.transform is None else self.transform.dtype

    def to_units(self, x: Tensor) -> Tensor:
        """What the system generates, (n, *shape), in the user's units. All samples of a model go through here.

        Raises UserError if a number is not finite: weights that are can be so large that samples are not.
        """
        x = x if self.transform is None else self.transform.to_units(x)
        if not torch.isfinite(x).all():
            raise UserError(f"samples of the model {self.config.name!r} are not finite: its weights are too large")
        return x

    def sample(self, n: int, seed: int = 0, generator: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples (n, *shape) in the user's units and the generators (n,) that made them; the same for the same seed.

        `generator` in [0, K) asks one generator alone; None draws them from the learned prior. Raises as `check`.
        """
        self.check(n, seed, generator)
        x, ids = draw_samples(self.system, n, seed, generator)
        return self.to_units(x), ids

    def check(self, n: int, seed: int, generator: int | None) -> None:
        """Raise UserError if n is not positive, the seed no 63-bit number, or there is no such generator."""
        if n < 1:
            raise UserError(f"the number of samples must be at least 1, got {n}")
        if not 0 <= seed < 2**63:
            raise UserError(f"the seed must be at least 0 and less than 2**63, got {seed}")
        if generator is not None and not 0 <= generator < self.system.K:
            raise UserError(f"there is no generator {generator}: this model has generators 0 to {self.system.K - 1}")


def load_model(
    place: str | Path, ema: bool = True, device: torch.device | str = "cpu", networks: Given = None
) -> Model:
    """The model in a run folder (its newest checkpoint), a checkpoint file or a model directory.

    Args:
        place: run folder, checkpoint or model directory.
        ema: sample from the moving average of the generators' weights; False: from the weights themselves.
        device: where to sample.
        networks: those of a model that has networks of its own, by role or named; see `toposampler.training.networks`.

    Raises UserError if there is no model at `place`, or it cannot be read.
    """
    return _build(read_weights(place), place, ema, device, networks)


def read_weights(place: str | Path) -> Weights:
    """What the model at `place`, which is as for `load_model`, is built from."""
    path = Path(place)
    if is_model_directory(path):
        return _of_directory(path)[0]
    return _of_checkpoint(checkpoint_state(path), path)


def is_model_directory(path: Path) -> bool:
    """Whether `path` is a model directory: its manifest may be a link that leads nowhere."""
    try:
        (path / MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # no permission; a name that no file can have
        raise UserError(f"{path} cannot be read: {error}") from None
    return True


def _of_directory(path: Path) -> tuple[Weights, Manifest]:
    weights, manifest = read_directory(path)
    return replace(weights, config=of_earlier_version(weights.config)), manifest


class _Loop(BaseModel):
    """What a model takes of a training loop's state."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    step: int = Field(ge=0, lt=2**53)
    system: dict[str, Tensor]
    average: Tensor | dict[str, Tensor]


class _Checkpoint(BaseModel):
    """What a model takes of a checkpoint: it may come from anywhere, as a model directory may."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    config: dict[str, Any]
    shape: Shape
    data: str
    loop: _Loop
    networks: dict[str, OwnNetwork] = {}
    transform: dict[str, Tensor] | None = None
    """absent from checkpoints of earlier versions, as `networks` and `decided` are"""
    decided: dict[str, int | str] = {}
    """keys of the system's section that the data decided"""
    samples: int | None = Field(None, ge=1, lt=2**53)
    """that it was trained on; absent from checkpoints of earlier versions too"""


def _of_checkpoint(state: dict[str, Any], path: Path) -> Weights:
    """The model in the `state` of the checkpoint `path`. Raises UserError if a value in it is none of a model's."""
    try:
        stored = _Checkpoint.model_validate(state)
    except ValidationError as error:
        raise UserError(f"{path} is not a checkpoint of toposampler:\n{told(error)}") from None
    return Weights(
        config=merge_overrides(
            of_earlier_version(stored.config), {f"system.{key}": value for key, value in stored.decided.items()}
        ),
        shape=tuple(stored.shape),
        data=stored.data,
        step=stored.loop.step,
        system=stored.loop.system,
        average=stored.loop.average,
        networks=stored.networks,
        transform=transform_of(stored.transform, stored.shape, path),
        samples=stored.samples,
    )


def data_of(config: RunConfig, digest: str) -> Dataset:
    """The data that a model was trained on. Raises UserError if they have changed since."""
    dataset = config.data.load()
    if dataset.digest() != digest:
        raise UserError(f"the data {config.data.name} have changed since training: {dataset.digest()}, not {digest}")
    return dataset


def checkpoint_state(path: Path) -> dict[str, Any]:
    """The state in the newest checkpoint of the run folder `path`, or in the checkpoint file `path`."""
    if not path.is_dir():
        return read_checkpoint(path)
    newest = newest_checkpoint(path / "checkpoints")
    if newest is None:
        if members := sorted(member.name for member in path.glob("seed-*") if (member / "checkpoints").is_dir()):
            raise UserError(
                f"{path} holds a run for each of {len(members)} seeds: name one, such as {path / members[0]}"
            )
        raise UserError(
            f"{path} is neither a model directory, with a {MANIFEST}, nor a run folder with a checkpoint: "
            f"{path / 'checkpoints'} holds none"
        )
    return newest[1]


def save_model(
    place: str | Path,
    folder: Path,
    license: str | None = None,
    networks: Given = None,
    measured: Measured | None = None,
) -> None:
    """Write the model at `place`, which is as for `load_model`, to the model directory `folder`.

    Its evaluation is that of the run's `result.json`, if that is of this checkpoint, or of the model directory; so is
    its license, where none is given. `networks` are as for `load_model`: its picture shows samples. Its card tells
    what was `measured`, by default that evaluation.
    """
    path = Path(place)
    if is_model_directory(path):
        weights, manifest = _of_directory(path)
        evaluation, license = manifest.evaluation, license or manifest.license
    else:
        weights = _of_checkpoint(checkpoint_state(path), path)
        evaluation = _evaluation(path if path.is_dir() else path.parent.parent, weights.step)
    model = _build(weights, place, ema=True, device="cpu", networks=networks)
    average = {name: x for name, x in model.system.state_dict().items() if _is_averaged(model.system, name)}
    card = model_card(_described(model, weights, license, measured or _of_the_run(model.config, evaluation)))
    write_directory(folder, replace(weights, average=average), _picture(model), evaluation, license, card)


def _of_the_run(config: RunConfig, evaluation: Mapping[str, float] | None) -> Measured | None:
    """The evaluation at the end of a run, as `training.run` makes it; None: there was none."""
    if evaluation is None:
        return None
    values = {name: Value(value) for name, value in evaluation.items()}
    return Measured(values, config.training.evaluation_samples, config.seed)


def _described(model: Model, weights: Weights, license: str | None, measured: Measured | None) -> Described:
    """What the card tells of `model`, which was built from `weights`."""
    prior = model.system.prior()
    return Described(
        config=model.config,
        step=model.step,
        shape=model.shape,
        data=model.data,
        samples=weights.samples,
        prior=None if prior is None else prior.detach().cpu(),
        license=license,
        measured=measured,
        standardized=model.transform is not None,
        networks=weights.networks,
        least_active=model.system.least_active,
    )


def _build(weights: Weights, place: str | Path, ema: bool, device: torch.device | str, networks: Given = None) -> Model:
    """The model of `weights`, read at `place`. Raises UserError if they are not those of its configuration."""
    try:
        config = validate(RunConfig, weights.config)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    own = matched(weights.networks, config.system, networks, place)
    check_finite(weights, place)
    dtype = next((x.dtype for x in weights.system.values() if x.dtype in TYPES), torch.float32)
    try:
        with no_larger_than(sum(x.numel() for x in weights.system.values())):
            system = config.system.build(weights.shape, networks=own).to(dtype)
        _check_types(system, weights.system)
        system.load_state_dict(weights.system)
        _check_average(system, weights.average)
        if ema:
            _take_average(system, weights.average)
    except (RuntimeError, MemoryError) as error:  # torch: a name or a shape of the weights
        raise UserError(f"{place}: its weights are not those of its configuration: {error}") from None
    system = system.to(device).requires_grad_(False)
    return Model(config, system, weights.step, weights.shape, weights.data, weights.transform)


def _check_types(system: System, tensors: Mapping[str, Tensor]) -> None:
    """Raises RuntimeError if one of `tensors` holds other kinds of numbers than the one of its name in the system."""
    expected = system.state_dict()
    for name, x in tensors.items():
        if name in expected and x.dtype != expected[name].dtype:
            raise RuntimeError(f"{name} holds {x.dtype}, not {expected[name].dtype}")


def _is_averaged(system: System, name: str) -> bool:
    """Whether the tensor `name` of a system is of a module whose moving average samples are drawn from."""
    return any(name.startswith(f"{module}.") for module in system.averaged)


def _check_average(system: System, average: Average) -> None:
    """Raises RuntimeError if the moving average is not one of this system."""
    if isinstance(average, dict):
        shapes = {name: x.shape for name, x in system.state_dict().items() if _is_averaged(system, name)}
        if odd := shapes.keys() ^ average.keys():
            raise RuntimeError(f"the moving average lacks, or has too much: {', '.join(sorted(odd))}")
        for name, x in average.items():
            if x.shape != shapes[name]:
                raise RuntimeError(f"the moving average of {name} has shape {list(x.shape)}, not {list(shapes[name])}")
        _check_types(system, average)
    elif average.dtype != (expected := _averaged(system)[0].dtype):
        raise RuntimeError(f"the moving average holds {average.dtype}, not {expected}")
    elif average.shape != (n := sum(p.numel() for p in _averaged(system)),):
        raise RuntimeError(f"the moving average has shape {list(average.shape)}, and the averaged modules {n} numbers")


def _take_average(system: System, average: Average) -> None:
    """Put the moving average, which has been checked, in the place of the last weights."""
    if isinstance(average, dict):
        system.load_state_dict(system.state_dict() | average)
    else:
        vector_to_parameters(average, _averaged(system))


def _averaged(system: System) -> list[nn.Parameter]:
    """The parameters of the averaged modules, in the order of a flat average."""
    return [p for name in system.averaged for p in system.get_submodule(name).parameters()]


def _evaluation(run: Path, step: int) -> dict[str, float] | None:
    """The metrics of the run in the folder `run`, if they are of this step."""
    path = run / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    return result["metrics"] if result.get("generator_steps") == step else None


def _picture(model: Model) -> bytes:
    """Samples of seed 0 as a PNG."""
    from toposampler import plots  # here, as matplotlib takes half a second
    from toposampler.plots.style import PRIOR, SHARE

    title = f"{model.config.name}, {model.config.system.name} after {model.step:,} generator steps"
    x, ids = model.sample(POINTS)
    if x.dim() == 4:
        figure = plots.image_grid(
            [(label, images.float()) for label, images in generator_images(model.system, ONE_PROCESS)], title
        )
    else:
        if model.transform is not None and x.shape[1] > 2:  # as `figures.as_seen`
            x, title = model.transform.from_units(x), title + STANDARDIZED
        prior = None if (p := model.system.prior()) is None else p.cpu()
        legend = SHARE if prior is None else PRIOR
        figure = plots.samples_scatter(x, ids, title, legend, prior, named_generators(ids, prior))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
