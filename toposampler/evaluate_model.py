"""The metrics of one model in one call, for notebooks. `toposampler evaluate` has more of them, and intervals."""

from __future__ import annotations

from pathlib import Path

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.lookup import load
from toposampler.metrics import evaluate as measure
from toposampler.training.model import Model, data_of

SEED = 30_000
"""neither training nor promotion evaluates with it"""


def evaluate(
    model: Model | str | Path, n: int = 10_000, seed: int = SEED, dataset: Dataset | None = None
) -> dict[str, float]:
    """How well samples of `model` match the data: each metric by its name, as in `result.json` (docs/metrics.md).

    Args:
        model: a trained one, or a place that `toposampler.load` takes.
        n: samples to draw; they are compared with as many real ones, or all if there are fewer.
        seed: of the samples and of the choice of real ones.
        dataset: to compare with; None: the data that the model was trained on, read again.

    Raises UserError if there is no such model, its data have changed, or a sample is not finite.
    """
    model = model if isinstance(model, Model) else load(model)
    real = data_of(model.config, model.data) if dataset is None else dataset
    samples, ids = model.sample(n, seed)
    try:
        return measure(real, samples, ids, model.system.prior(), seed, max_real=n)
    except ValueError as error:
        raise UserError(f"{model.config.name}: {error}") from None
