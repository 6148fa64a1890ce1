"""The best model of a sweep, registered, and set against the present champion."""

from __future__ import annotations

import json
from pathlib import Path

from toposampler.errors import UserError
from toposampler.tracking.champion import EVALUATION_SEED, Protocol, Verdict, compete
from toposampler.tracking.registry import Registry
from toposampler.tracking.uri import tracking_uri
from toposampler.training.networks import names_in
from toposampler.tuning.config import Sweep
from toposampler.tuning.ledger import Entry
from toposampler.tuning.recorder import Recorder
from toposampler.tuning.trial import trial_name


def register(sweep: Sweep, winner: Entry, recorder: Recorder) -> Verdict | None:
    """Register the model of the best trial as `candidate`, and as `champion` if it beats the present one.

    None, with a warning, where MLflow is not there: the model stays where it lies, and --resume registers it.
    """
    run_id = recorder.run_id(winner.number)
    if run_id is None:
        print("warning: the best model is not registered, as MLflow knows nothing of its run; --resume tries again")
        return None
    dataset = sweep.base.data.load()
    protocol = Protocol(
        sweep.metric,
        sweep.config.objectives[sweep.metric],
        sweep.base.training.evaluation_samples,
        EVALUATION_SEED,
        dataset.digest(),
    )
    checkpoint, metrics = best_of_seeds(sweep, winner)
    registry = Registry(tracking_uri(sweep.base.tracking, sweep.folder.parent), sweep.config.model or sweep.config.name)
    try:
        return compete(registry, run_id, checkpoint, dataset, protocol, metrics, networks=names_in(sweep.base.system))
    except UserError as error:
        print(f"warning: the best model is not registered: {error}; --resume tries again")
        return None


def best_of_seeds(sweep: Sweep, winner: Entry) -> tuple[Path, dict[str, float]]:
    """The model of a finished trial: of its seeds, the one with the best first objective; and its metrics."""
    path = sweep.folder / "trials" / trial_name(winner.number) / "result.json"
    of_seeds = json.loads(path.read_text())["seeds"].values()
    chosen = min(of_seeds, key=lambda of: sweep.sign * of["metrics"][sweep.metric])
    return Path(chosen["model"]), chosen["metrics"]
