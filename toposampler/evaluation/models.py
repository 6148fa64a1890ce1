"""The models that are evaluated side by side: what they are, and which of them differ by their seed only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.evaluation.job import REAL
from toposampler.training.config import RunConfig, differences
from toposampler.training.model import read_weights


@dataclass(frozen=True)
class Trained:
    """A trained model, without its weights."""

    name: str
    """its run's, numbered where several have the same"""
    given: str
    """the place as the user gave it"""
    path: Path
    """run folder, checkpoint or model directory, absolute"""
    config: RunConfig
    data: str
    """SHA-256 of the data it was trained on"""
    step: int


def described(places: Sequence[tuple[str, Path]]) -> list[Trained]:
    """The models at `places`, each as given and as a path. Raises UserError if one cannot be read, or was trained on
    other data than the first."""
    models: list[Trained] = []
    for given, path in places:
        weights = read_weights(path)
        config = validate(RunConfig, weights.config)
        names = {REAL, *(model.name for model in models)}
        numbered = (config.name if i == 1 else f"{config.name} ({i})" for i in range(1, len(places) + 2))
        name = next(name for name in numbered if name not in names)
        models.append(Trained(name, given, path.absolute(), config, weights.data, weights.step))
    first = models[0]
    for other in models[1:]:
        if other.data != first.data:
            raise UserError(
                f"{other.given} was trained on other data than {first.given} ({other.config.data.name}, SHA-256 "
                f"{other.data[:16]}, not {first.config.data.name}, {first.data[:16]}): evaluate them one by one"
            )
    return models


def by_seed(models: Sequence[Trained]) -> list[list[Trained]]:
    """The models that differ from each other by their seed, and by where they ran, alone: groups of two or more."""
    groups: list[list[Trained]] = []
    for model in models:
        for group in groups:
            if model.step == group[0].step and _same_but_seed(model, group):
                group.append(model)
                break
        else:
            groups.append([model])
    return [group for group in groups if len(group) > 1]


def _same_but_seed(model: Trained, group: Sequence[Trained]) -> bool:
    changed = differences(group[0].config, model.config)
    return all(line.startswith("seed: ") for line in changed) and model.config.seed not in {
        other.config.seed for other in group
    }
