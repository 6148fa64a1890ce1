"""The first checkpoint of a run that begins with a trained model: its weights, or all of its training.

It is written once, before the first step, and from then on the run resumes like any other: on any number of workers, in
either placement, after any kill. What the model was is told in it under `origin`, and in `result.json`.

| `init_state` | of the model | of the run's own |
|---|---|---|
| `weights` | the last weights of all networks, the prior | all else: data, constants, steps, Adam's moments |
| `full` | all that its checkpoint holds | its length, and keys that a run may branch with (`toposampler.keys`) |

With `full`, constants that are shares of the run (learning rate, batch, hold of the entropy bonus) go on as at that
step of a run of the new length.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toposampler.config import as_text, flatten, validate
from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.files import REGISTERED
from toposampler.keys import may_branch
from toposampler.nn.custom import Networks
from toposampler.systems import System
from toposampler.training.branch import continued
from toposampler.training.config import RunConfig, of_earlier_version, run_folder
from toposampler.training.directory import Weights, check_finite
from toposampler.training.manifest import MANIFEST
from toposampler.training.model import checkpoint_state, read_weights
from toposampler.training.networks import ROLES, matched, networks_of

State = dict[str, Any]

KEPT = "initial_model"
"""in a run's folder: the copy of a model that `init_from` names by its address on MLflow"""


def check_initial(config: RunConfig, dataset: Dataset, networks: Networks, place: Path | None = None) -> None:
    """Raises UserError, as `initial_state`, if a run that has no checkpoint yet cannot begin as `config` says.

    `place` is where the model lies that `init_from` names by its address on MLflow, unless that is `KEPT`.
    """
    if config.init_from is not None:
        initial_state(config, dataset, networks, place)


def keep_copy(model: Path, folder: Path) -> None:
    """Copy the model directory `model` to the run's folder, where training looks for it; whole or not at all."""
    draft = folder / f".{KEPT}.new"
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    shutil.copytree(model, draft)
    draft.rename(folder / KEPT)


def initial_state(config: RunConfig, dataset: Dataset, networks: Networks, place: Path | None = None) -> State:
    """What the first checkpoint of the run `config`, with an `init_from`, holds.

    Args:
        config: of the new run.
        dataset: what it trains on.
        networks: its own, in place of the package's.
        place: of the model, if it lies elsewhere than `model_place` says.

    Raises UserError if the model cannot be read, its samples have another shape, its networks are others, or, with
    `init_state full`, if it is no checkpoint, its data are others, keys differ that must not, or it has done all the
    steps of this run.
    """
    place = place or model_place(config)
    try:
        if config.init_state == "full":
            return _full(config, dataset, place)
        return _of_weights(config, dataset, networks, place)
    except UserError as error:
        raise UserError(f"init_from {config.init_from}: {error}") from None


def model_place(config: RunConfig) -> Path:
    """Where the model lies that `config.init_from` names. Raises UserError for an address on MLflow without a copy."""
    named = str(config.init_from)
    if not named.startswith(REGISTERED):
        return Path(named)
    folder = run_folder(config)
    kept = next((place / KEPT for place in (folder, folder.parent) if (place / KEPT).exists()), None)
    if kept is None:  # the second is that of a run with several seeds, of which this is one
        raise UserError(
            f"init_from {named}: training itself reads no MLflow; `toposampler train` and `toposampler.fit` "
            "fetch the model first, and in a notebook `with toposampler.lookup.local(...) as path` does"
        )
    return kept


def _full(config: RunConfig, dataset: Dataset, place: Path) -> State:
    if (place / MANIFEST).exists():
        raise UserError(
            "it is a model directory, which holds no training to continue: init_state weights begins with it"
        )
    state = checkpoint_state(place)
    done, steps = state["loop"]["step"], config.training.generator_steps
    if state["data"] != dataset.digest():
        raise UserError(
            "init_state full continues with the same data, and these are others; init_state weights takes them"
        )
    if done >= steps:
        raise UserError(f"it has done {done:,} steps, and training.generator_steps is {steps:,}: give more")
    return continued(config, state, "its training") | {"origin": _origin(config, state["config"], done, state["data"])}


def _of_weights(config: RunConfig, dataset: Dataset, networks: Networks, place: Path) -> State:
    weights = read_weights(place)
    donor = validate(RunConfig, of_earlier_version(weights.config))
    check_finite(weights, place)
    if weights.shape != dataset.shape:
        raise UserError(
            f"it makes samples of shape {list(weights.shape)}, and the data {config.data.name} have "
            f"{list(dataset.shape)}"
        )
    with torch.random.fork_rng(devices=()):
        system = config.system.prepare(dataset).build(dataset.shape, networks)
    tensors = _matching(system, weights, donor, config, networks)
    players = system.players()
    averaged = [players["generator"].modules[name] for name in system.averaged]
    names = {id(p): name for name, p in system.named_parameters()}
    return {
        "config": config.model_dump(mode="json"),
        "shape": list(dataset.shape),
        "data": dataset.digest(),
        "transform": None if dataset.transform is None else dataset.transform.state(),
        "seconds": 0.0,
        "networks": {role: own.model_dump() for role, own in networks_of(config.system, networks).items()},
        "origin": _origin(config, weights.config, weights.step, weights.data),
        "loop": {
            "step": 0,
            "system": tensors,
            "average": torch.cat([tensors[names[id(p)]].flatten() for m in averaged for p in m.parameters()]),
            "moments": {name: {module: {} for module in player.modules} for name, player in players.items()},
            "rng": None,  # of the device that trains, from the run's own seed
            "sampler": {"epoch": 0, "position": 0},
            "history": [],
        },
    }


def _origin(config: RunConfig, donor: State, step: int, data: str) -> State:
    """What is recorded of the model that a run began with."""
    return {
        "init_from": config.init_from,
        "init_state": config.init_state,
        "name": donor["name"],
        "system": donor["system"]["name"],
        "generator_steps": step,
        "data": {"name": donor["data"]["name"], "sha256": data},
    }


def _matching(
    system: System, weights: Weights, donor: RunConfig, config: RunConfig, networks: Networks
) -> dict[str, Tensor]:
    """The tensors of `system`, those that are no counters from `weights`. Raises UserError if the networks differ."""
    for key in (f"{role}_network" for role in ROLES):
        theirs, ours = getattr(donor.system, key), getattr(config.system, key)
        if theirs != ours:
            raise UserError(f"its system.{key} is {theirs}, and that of this run {ours}: networks must be the same")
    matched(weights.networks, donor.system, networks, config.init_from)  # warns where their source is another
    own = system.state_dict()
    keys = _keys_that_differ(donor, config)
    for name in [*own, *weights.system]:
        if name not in system.counters and _shape(own, name) != _shape(weights.system, name):
            there, here = _shape(weights.system, name), _shape(own, name)
            raise UserError(f"its networks are not those of this run: {name} is {there} there, {here} here{keys}")
    return {name: x if name in system.counters else weights.system[name] for name, x in own.items()}


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return f"of shape {list(tensors[name].shape)}" if name in tensors else "absent"


def _keys_that_differ(donor: RunConfig, config: RunConfig) -> str:
    """The keys of the systems that may make their networks differ."""
    there, here = (flatten(c.system.model_dump(mode="json"), "system.") for c in (donor, config))
    told = [
        f"{key} is {as_text(there.get(key))} there, {as_text(here.get(key))} here"
        for key in {**here, **there}
        if there.get(key) != here.get(key) and not may_branch(config if key in here else donor, key)
    ]
    return f"; {', '.join(told)}" if told else ""
