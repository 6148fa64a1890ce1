"""A candidate against the present champion: both evaluated anew, on the same samples of the same data."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.metrics.evaluate import evaluate
from toposampler.tracking.aliases import CANDIDATE, CHAMPION
from toposampler.tracking.registry import Registry
from toposampler.training.model import load_model
from toposampler.training.networks import Given

EVALUATION_SEED = 20_000
"""seed of the samples that models are compared by: no training evaluates with it"""

log = logging.getLogger(__name__)


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
    forced: bool = False
    """made the champion although it did not beat the present one"""

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
        if self.forced:
            return f"{here}, and the new champion by force: it lost by {by:.4f}, {against} ({self.protocol})"
        return f"{here}, not promoted: it lost to the champion by {by:.4f}, {against} ({self.protocol})"


def compete(
    registry: Registry,
    run_id: str,
    place: Path,
    dataset: Dataset,
    protocol: Protocol,
    metrics: dict[str, float],
    license: str | None = None,
    networks: Given = None,
) -> Verdict:
    """Register the model at `place` as the candidate, and promote it if it is better than the champion."""
    version, score = enter(registry, run_id, place, dataset, protocol, metrics, license, networks)
    return challenge(registry, version, score, dataset, protocol, networks=networks)


def enter(
    registry: Registry,
    run_id: str,
    place: Path,
    dataset: Dataset,
    protocol: Protocol,
    metrics: dict[str, float],
    license: str | None = None,
    networks: Given = None,
) -> tuple[str, float]:
    """Register the model at `place` as the candidate: the version, and its score by the protocol."""
    score = measure(place, dataset, protocol, networks)
    tags = protocol.tags() | {"protocol.value": repr(score)} | {f"metric.{k}": f"{v:.6g}" for k, v in metrics.items()}
    version = registry.register(run_id, place, tags, license, networks)
    registry.set_alias(CANDIDATE, version)
    return version, score


def challenge(
    registry: Registry,
    version: str,
    score: float,
    dataset: Dataset,
    protocol: Protocol,
    force: bool = False,
    networks: Given = None,
) -> Verdict:
    """Make `version` the champion if it beats the present one, strictly, or if that is to be forced."""
    present = registry.find(CHAMPION)
    theirs = None
    if present is not None:
        with tempfile.TemporaryDirectory() as folder:
            theirs = measure(registry.fetch(present, Path(folder)), dataset, protocol, networks)
    promoted = theirs is None or beats(score, theirs, protocol.direction)
    forced = force and not promoted and present != version
    if promoted or forced:
        registry.set_alias(CHAMPION, version)
    by = f"{protocol.samples:,} samples, seed {protocol.seed}"
    return Verdict(registry.name, version, protocol.metric, score, theirs, present, promoted, by, forced)


def beats(score: float, other: float, direction: str) -> bool:
    """Whether `score` is strictly better."""
    return score < other if direction == "minimize" else score > other


def measure(place: Path, dataset: Dataset, protocol: Protocol, networks: Given = None) -> float:
    """The protocol's metric of the model at `place`. Raises UserError if it makes another kind of samples."""
    model = load_model(place, networks=networks)
    log.info("evaluating %d samples of %s", protocol.samples, model.config.name)
    samples, ids = model.sample(protocol.samples, protocol.seed)
    if samples.shape[1:] != dataset.x.shape[1:]:
        raise UserError(
            f"{place} makes samples of shape {tuple(samples.shape[1:])}, and the data has {tuple(dataset.shape)}"
        )
    prior = model.system.prior()
    scores = evaluate(dataset, samples, ids, prior, protocol.seed, max_real=protocol.samples)
    if protocol.metric not in scores:
        raise UserError(f"there is no metric {protocol.metric} of this data; there are {', '.join(sorted(scores))}")
    return scores[protocol.metric]
