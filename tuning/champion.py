"""The best model of a sweep against the present champion: both evaluated anew, on the same samples of the same data."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from toposampler.data import Dataset
from toposampler.distributed.trial import trial_name
from toposampler.errors import UserError
from toposampler.metrics.evaluate import evaluate
from toposampler.tracking.registry import CANDIDATE, CHAMPION, Registry
from toposampler.tracking.uri import tracking_uri
from toposampler.training.model import load_model
from tuning.config import Sweep
from tuning.ledger import Entry
from tuning.recorder import Recorder

EVALUATION_SEED = 20_000
"""seed of the samples that models are compared by: no training evaluates with it"""


@dataclass(frozen=True)
class Protocol:
    """How models are compared; it stands in the tags of every version."""

    metric: str
    direction: str
    samples: int
    """of the model, against as many real ones"""
    seed: int
    data: str
    """digest of the real data"""

    def tags(self) -> dict[str, str]:
        """As tags of a model version."""
        return {f"protocol.{name}": str(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate."""

    model: str
    version: str
    metric: str
    candidate: float
    champion: float | None
    """of the champion it was compared with; None: there was none"""
    champion_version: str | None
    promoted: bool
    protocol: str

    def told(self) -> str:
        """The verdict in one line."""
        here = f"{self.model} version {self.version} is the candidate"
        if self.champion is None:
            return f"{here}, and the champion, as there was none ({self.metric} {self.candidate:.4f}; {self.protocol})"
        if self.champion_version == self.version:
            return f"{here}, and the champion already ({self.metric} {self.candidate:.4f}; {self.protocol})"
        by = abs(self.candidate - self.champion)
        against = f"{self.metric} {self.candidate:.4f} against {self.champion:.4f} of version {self.champion_version}"
        if self.promoted:
            return f"{here}, and the new champion: better by {by:.4f}, {against} ({self.protocol})"
        return f"{here}, not promoted: it lost to the champion by {by:.4f}, {against} ({self.protocol})"


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
        return compete(registry, run_id, checkpoint, dataset, protocol, metrics)
    except UserError as error:
        print(f"warning: the best model is not registered: {error}; --resume tries again")
        return None


def compete(
    registry: Registry,
    run_id: str,
    checkpoint: Path,
    dataset: Dataset,
    protocol: Protocol,
    metrics: dict[str, float],
) -> Verdict:
    """Register `checkpoint` and promote it if it is better than the champion. Only strictly better counts."""
    score = judge(checkpoint, dataset, protocol)
    tags = protocol.tags() | {"protocol.value": repr(score)} | {f"metric.{k}": f"{v:.6g}" for k, v in metrics.items()}
    version = registry.register(run_id, checkpoint, tags)
    registry.set_alias(CANDIDATE, version)
    present = registry.find(CHAMPION)
    theirs = None
    if present is not None:
        with tempfile.TemporaryDirectory() as folder:
            theirs = judge(registry.fetch(present, Path(folder)), dataset, protocol)
    promoted = theirs is None or beats(score, theirs, protocol.direction)
    if promoted:
        registry.set_alias(CHAMPION, version)
    by = f"{protocol.samples:,} samples, seed {protocol.seed}"
    return Verdict(registry.name, version, protocol.metric, score, theirs, present, promoted, by)


def beats(score: float, other: float, direction: str) -> bool:
    """Whether `score` is strictly better."""
    return score < other if direction == "minimize" else score > other


def judge(checkpoint: Path, dataset: Dataset, protocol: Protocol) -> float:
    """The protocol's metric of the model in `checkpoint`. Raises UserError if it makes another kind of samples."""
    model = load_model(checkpoint)
    samples, ids = model.sample(protocol.samples, protocol.seed)
    if samples.shape[1:] != dataset.x.shape[1:]:
        raise UserError(
            f"{checkpoint} makes samples of shape {tuple(samples.shape[1:])}, and the data has {tuple(dataset.shape)}"
        )
    prior = model.system.prior()
    scores = evaluate(dataset, samples.float(), ids, prior, protocol.seed, max_real=protocol.samples)
    return scores[protocol.metric]


def best_of_seeds(sweep: Sweep, winner: Entry) -> tuple[Path, dict[str, float]]:
    """The model of a finished trial: of its seeds, the one with the best first objective; and its metrics."""
    path = sweep.folder / "trials" / trial_name(winner.number) / "result.json"
    of_seeds = json.loads(path.read_text())["seeds"].values()
    chosen = min(of_seeds, key=lambda of: sweep.sign * of["metrics"][sweep.metric])
    return Path(chosen["model"]), chosen["metrics"]
