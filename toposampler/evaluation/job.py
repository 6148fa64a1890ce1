"""One evaluation: which models, on which data, and the single draws that any process can evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.evaluation.halves import halves
from toposampler.evaluation.images import image_metrics
from toposampler.evaluation.suite import Findings, Suite
from toposampler.metrics.dinov2 import load_dinov2
from toposampler.metrics.features import FeatureNetwork
from toposampler.metrics.inception import load_inception
from toposampler.rejection import Rejection, rejection
from toposampler.training.config import RunConfig
from toposampler.training.model import Model, data_of, load_model

REAL = "real"
"""name of the row of real data against real data"""


@dataclass(frozen=True)
class Subject:
    """Whose samples are evaluated: a model's, all of them or those that a rejection sampler keeps; or the data itself."""

    model: str
    """its name; REAL: the data itself"""
    place: Path | None = None
    """run folder, checkpoint or model directory, absolute; None: the data itself"""
    method: str | None = None
    """one of `rejection.METHODS`, with what it needs"""
    keep: float | None = None
    weights: Path | None = None
    cap: float | None = None
    networks: tuple[str, ...] = ()
    """`module:function` of each network that is not the package's: see `toposampler.training.networks`"""

    @property
    def name(self) -> str:
        """Of its row."""
        return " ".join(str(part) for part in (self.model, self.method, self.keep, self.cap) if part is not None)


@dataclass(frozen=True)
class Sampled:
    """Samples of a subject."""

    samples: Tensor
    """(n, *shape) in the user's units"""
    ids: Tensor
    """(n,) int64: the generators that made them"""
    prior: Tensor | None
    """(K,): how the generators are drawn; None for a single one, and where a sampler rejects c with z"""
    acceptance_rate: float | None
    """share of the proposals that the rejection sampler kept; None without one"""


class Weights(NamedTuple):
    """A network that the user brings the weights of."""

    name: str
    """one of `NETWORKS`"""
    file: Path
    """absolute"""
    sha256: str

    def load(self) -> FeatureNetwork:
        """The network. Raises UserError as `read_weights`, or if the weights are another one's."""
        return NETWORKS[self.name](self.file, self.sha256)


NETWORKS: Mapping[str, Callable[[Path, str], FeatureNetwork]] = {"inception": load_inception, "dinov2": load_dinov2}
"""what images can be seen through, by the name of the option that gives the weights"""


class Task(NamedTuple):
    """A piece of work for any process."""

    subject: int
    """number of the subject in the job"""
    draw: int


@dataclass(frozen=True)
class EvaluationJob:
    """What is to be evaluated; says the same on every machine."""

    config: RunConfig
    """of a model; its data is that of all"""
    data: str
    """SHA-256 of the data"""
    subjects: tuple[Subject, ...]
    """the data itself first"""
    n: int
    """samples in a draw, compared with as many real ones"""
    draws: int
    seed: int
    """of the first draw; the others' follow"""
    cache: Path
    """folder of classifiers, absolute"""
    minimum_accuracy: float
    networks: tuple[Weights, ...] = ()
    """whose features images are also seen through"""

    @property
    def tasks(self) -> list[Task]:
        """All draws of all subjects."""
        return [Task(subject, draw) for draw in range(self.draws) for subject in range(len(self.subjects))]


class Evaluator:
    """Judges draws of a job's subjects.

    Raises UserError if the data has changed, or a model or the classifier cannot be used; the classifier is trained
    here if it is not in the cache.
    """

    def __init__(self, job: EvaluationJob) -> None:
        self.job = job
        self.dataset = data_of(job.config, job.data)
        self.images = image_metrics(self.dataset, job.config.data.name, job.cache, job.minimum_accuracy)
        self._suite = Suite(self.dataset, self.images, [weights.load() for weights in job.networks])
        self._halves = lru_cache(maxsize=1)(partial(halves, self.dataset, job.n))  # all subjects meet the same points

    def evaluate(self, task: Task) -> tuple[Task, Findings]:
        """One draw of one subject, with its number."""
        seed, who = self.job.seed + task.draw, self.job.subjects[task.subject]
        real, others = self._halves(seed)
        if who.place is None:
            return task, self._suite.of_data(others, real, seed)
        drawn = sampled(who, self.job.n, seed)
        findings = self._suite.of_samples(drawn.samples, drawn.ids, drawn.prior, real, seed)
        if drawn.acceptance_rate is not None:
            findings.metrics["acceptance_rate"] = drawn.acceptance_rate
        return task, findings


def sampled(subject: Subject, n: int, seed: int) -> Sampled:
    """`n` samples of a model, in any order. Raises UserError if they are not finite."""
    model, sampler = _sampler(subject)
    rate, prior = None, model.system.prior()
    if sampler is None:
        samples, ids = model.sample(n, seed)
    else:
        drawn = sampler.draw(n, seed)
        samples, ids, rate = drawn.samples, drawn.ids, drawn.cost.acceptance_rate
        prior = prior if sampler.keeps_prior else None
    if not torch.isfinite(samples).all():
        raise UserError(f"{subject.place}: its samples are not finite")
    return Sampled(samples.to(model.dtype), ids, prior, rate)


@lru_cache(maxsize=8)
def _sampler(subject: Subject) -> tuple[Model, Rejection | None]:
    """The model of `subject` and what its samples go through; kept, as some samplers are calibrated first."""
    assert subject.place is not None
    model = load_model(subject.place, networks=subject.networks)
    return model, rejection(subject.method, model, subject.keep, subject.weights, subject.cap)
