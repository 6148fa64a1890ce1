"""Which component each sample and each generator is on, and what lies between: what a verdict on a run rests on.

Components are the data's labels; without them, of points, those that `find_clusters` finds. A sample belongs to the
component of its nearest real point. It is off the data if it is farther than 0.05 from the exact support, as in
`off_manifold_0.05`; where that is unknown, if it is farther from its nearest real point than 99 % of real points are
from their nearest other, and than a twentieth of the data's extent: curves without width would have all samples off.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.metrics.evaluate import NAMED_COMPONENTS, can_count
from toposampler.metrics.masses import ACTIVE, component_prior, generator_components
from toposampler.metrics.memorization import QUANTILE
from toposampler.metrics.neighbors import covered_k5, nearest_neighbors

JUDGED, JUDGED_WIDE, WIDE = 4000, 1000, 100
"""samples, and real points, that are compared, at most; the second of more than `WIDE` numbers each"""
COPIES, TRAINED_ON = 500, 10_000
"""samples looked at for copies, and data points that they may be copies of; at most"""
TAU = 0.05
"""distance from an exact support, in the user's units, from which a sample is off it"""
EXTENT = 0.05
"""distance from real points from which a sample is off them, as a share of their root mean square distance from their
mean, at least"""
DETOUR = 1.5
"""a sample is between two components if the way over it is at most so many times the straight one"""
INNER = 0.1
"""share of that way that a sample between components has left behind, on either side"""
MOST_BETWEEN = 1000
"""samples off the data that are asked between which components they lie; at most"""

Source = Literal["labels", "points", "none"]


@dataclass(frozen=True)
class Component:
    """One component of the data. Shares are of all samples or points."""

    mass: float
    """of the data"""
    samples: float
    """of the samples"""
    learned: float | None
    """of the learned prior, by the component that most of each generator's samples are in; None: no prior"""
    covered: float
    """share of its points with a sample near: in the ball of five neighbors, as in `coverage_k5`, or within the
    distance from which a sample is off the data"""


@dataclass(frozen=True)
class Maker:
    """One generator with a share of the samples."""

    id: int
    mass: float
    """of the prior; without one, the share of the samples"""
    component: int
    """that most of its samples are in"""
    purity: float
    """share of its samples in that component: of those on the data, if there are any"""
    other: int | None
    """the component that has most of the rest; None: it has none"""
    in_other: float
    """share of its samples there"""
    off: float
    """share of its samples off the data"""


@dataclass(frozen=True)
class Between:
    """Samples between two components."""

    components: tuple[int, int]
    share: float
    """of all samples"""
    generators: tuple[int, ...]
    """that made them, the most frequent first"""


@dataclass(frozen=True)
class Findings:
    """Where samples lie. Components are in the order of their labels, or the largest first."""

    source: Source
    """what the components are known by; none: all data are taken for one"""
    n: int
    """samples compared, with as many real points or fewer"""
    components: tuple[Component, ...]
    makers: tuple[Maker, ...]
    """the generators that are active, the one of most mass first"""
    off: float
    """share of samples off the data; of real points 0.01 are at most"""
    between: tuple[Between, ...] | None
    """None: not asked, as of images, where a mean of two is seldom near the straight line"""
    copies: float
    """share of samples nearer to a data point than 5 % of data points are to their nearest other: 0.05 for fresh ones,
    if copies are of the points compared"""

    def as_json(self) -> dict[str, Any]:
        """For `result.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Assignment:
    """The real points and samples behind `Findings`; all coordinates as networks see them."""

    real: Tensor
    """(r, d) float32"""
    real_components: Tensor
    """(r,) int64"""
    x: Tensor
    """(n, d) float32"""
    components: Tensor
    """(n,) int64"""
    generators: Tensor
    """(n,) int64"""
    off: Tensor
    """(n,) bool"""
    nearest: Tensor
    """(n,) int64: the nearest real point"""
    between: Tensor
    """(n,) bool: between two components"""


def find(
    dataset: Dataset, samples: Tensor, ids: Tensor, prior: Tensor | None, seed: int, labels: Tensor | None = None
) -> tuple[Findings, Assignment]:
    """What `samples` (n, *shape), in the user's units, of generators ids (n,) with `prior` (K,) show on `dataset`.

    `labels` (N,) are components that a system has found, for data without labels of their own. At most `JUDGED` samples
    and real points, chosen by `seed`, are compared.
    """
    rng = torch.Generator().manual_seed(seed)
    most = JUDGED if dataset.x[0].numel() <= WIDE else JUDGED_WIDE
    chosen = torch.randperm(len(dataset.x), generator=rng)[:most]
    some = torch.randperm(len(samples), generator=rng)[:most]
    real, x, ids = dataset.x[chosen].flatten(1), dataset.from_units(samples[some]).flatten(1), ids[some]
    labels = dataset.labels if dataset.labels is not None else labels
    source, of_real, masses = _components(dataset, real, None if labels is None else labels[chosen], labels)

    to_real, index = nearest_neighbors(x, real, k=1)
    among_real, _ = nearest_neighbors(real, real, k=6)
    components = of_real[index[:, 0]]
    near = _near(dataset, real)
    off = _off(dataset, samples[some], to_real[:, 0], among_real[:, 1], near)
    to_sample, _ = nearest_neighbors(real, x, k=1)
    covered = covered_k5(to_sample[:, 0], among_real[:, -1].clamp(min=near))

    M = len(masses)
    between = torch.zeros(len(x), dtype=torch.bool)
    found: tuple[Between, ...] | None = None
    if can_count(dataset):
        pairs = _between(x, off, real, of_real, M) if 1 < M <= NAMED_COMPONENTS else {}
        between[list(pairs)] = True
        found = _summary(pairs, ids, len(x))
    shares = torch.bincount(components, minlength=M).double() / len(x)
    learned = None
    if prior is not None:
        learned = component_prior(prior, generator_components(ids, components, len(prior), M), M).tolist()
    parts = tuple(
        Component(
            mass,
            float(shares[m]),
            None if learned is None else learned[m],
            float(covered[of_real == m].double().mean()) if (of_real == m).any() else 0.0,
        )
        for m, mass in enumerate(masses.tolist())
    )
    findings = Findings(
        source, len(x), parts, _makers(ids, components, off, prior, M), float(off.double().mean()), found,
        _copies(x[:COPIES], dataset.x, rng),
    )  # fmt: skip
    return findings, Assignment(real, of_real, x, components, ids, off, index[:, 0], between)


def _components(
    dataset: Dataset, real: Tensor, labels: Tensor | None, every: Tensor | None
) -> tuple[Source, Tensor, Tensor]:
    """How components are known, that of each real point (r,), and their masses (M,)."""
    if labels is not None and every is not None:
        weights = dataset.weights if dataset.labels is not None else None
        if weights is None:
            weights = torch.bincount(every).double() / len(every)
        if len(weights) <= NAMED_COMPONENTS:
            return "labels" if dataset.labels is not None else "points", labels, weights
    if can_count(dataset):
        from toposampler.topology.clusters import find_clusters  # here, as numba takes half a second

        found = torch.from_numpy(find_clusters(real.numpy()).labels)
        return "points", found, torch.bincount(found).double() / len(found)
    return "none", torch.zeros(len(real), dtype=torch.int64), torch.ones(1, dtype=torch.float64)


def _near(dataset: Dataset, real: Tensor) -> float:
    """The distance from real points (r, d), as networks see them, up to which a sample is on the data in any case."""
    if dataset.manifold is not None and dataset.transform is None:
        return TAU
    return EXTENT * float((real - real.mean(dim=0)).double().square().sum(dim=1).mean().sqrt())


def _off(dataset: Dataset, samples: Tensor, to_real: Tensor, among_real: Tensor, near: float) -> Tensor:
    """Which samples (n, *shape), in the user's units, are off the data: (n,) bool."""
    if dataset.manifold is not None and dataset.weights is not None:
        distance = dataset.manifold.distance(samples.float().flatten(1))
        distance[:, dataset.weights == 0] = torch.inf
        return distance.amin(dim=1) > TAU
    return to_real > max(float(among_real.quantile(0.99)), near)


def _makers(ids: Tensor, components: Tensor, off: Tensor, prior: Tensor | None, M: int) -> tuple[Maker, ...]:
    """The active generators."""
    K = int(ids.max()) + 1 if prior is None else len(prior)
    cells, made = ids * M + components, torch.bincount(ids, minlength=K)
    counts = torch.bincount(cells[~off], minlength=K * M).view(K, M)
    counts = torch.where(counts.any(dim=1, keepdim=True), counts, torch.bincount(cells, minlength=K * M).view(K, M))
    masses = made.double() / len(ids) if prior is None else prior.double()
    makers = []
    for k in masses.argsort(descending=True, stable=True).tolist():
        if masses[k] > ACTIVE and made[k]:
            order = counts[k].argsort(descending=True, stable=True).tolist()
            shares = (counts[k].double() / counts[k].sum()).tolist()
            other = order[1] if M > 1 and shares[order[1]] > 0 else None
            away = float(off[ids == k].double().mean())
            first, rest = order[0], 0.0 if other is None else shares[other]
            makers.append(Maker(k, float(masses[k]), first, shares[first], other, rest, away))
    return tuple(makers)


def _between(x: Tensor, off: Tensor, real: Tensor, of_real: Tensor, M: int) -> dict[int, tuple[int, int]]:
    """Samples off the data, by their index in x, and the two components that each lies between."""
    rows = off.nonzero()[:, 0][:MOST_BETWEEN]
    if not len(rows):
        return {}
    present = [m for m in range(M) if (of_real == m).any()]
    by_component = [nearest_neighbors(x[rows], real[of_real == m], k=1) for m in present]
    distance = torch.stack([d[:, 0] for d, _ in by_component], dim=1)
    if len(present) < 2:
        return {}
    two = distance.topk(2, largest=False).indices
    pairs: dict[int, tuple[int, int]] = {}
    for i, (row, (a, b)) in enumerate(zip(rows.tolist(), two.tolist(), strict=True)):
        p, q = (real[of_real == present[m]][by_component[m][1][i, 0]].double() for m in (a, b))
        straight = float((p - q).norm())
        reached = float((x[row].double() - p) @ (q - p)) / max(straight**2, 1e-300)
        if distance[i, a] + distance[i, b] <= DETOUR * straight and INNER <= reached <= 1 - INNER:
            pairs[row] = (min(present[a], present[b]), max(present[a], present[b]))
    return pairs


def _summary(pairs: dict[int, tuple[int, int]], ids: Tensor, n: int) -> tuple[Between, ...]:
    """How many samples lie between which components, and who made them; the most frequent first."""
    groups = Counter(pairs.values())
    makers = {pair: Counter(int(ids[i]) for i, of in pairs.items() if of == pair) for pair in groups}
    return tuple(
        Between(pair, count / n, tuple(k for k, _ in makers[pair].most_common()))
        for pair, count in groups.most_common()
    )


def _copies(x: Tensor, data: Tensor, rng: torch.Generator) -> float:
    """See `Findings.copies`: of x (n, d) against `data` (N, *shape)."""
    trained = data[torch.randperm(len(data), generator=rng)[:TRAINED_ON]].flatten(1)
    own, _ = nearest_neighbors(trained[: len(x)], trained, k=2)
    near, _ = nearest_neighbors(x, trained, k=1)
    return float((near[:, 0] < own[:, -1].quantile(QUANTILE)).double().mean())
