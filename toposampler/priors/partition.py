"""The components of a data set: how many, which sample is in which, their masses, and how sure all that is."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section
from toposampler.priors.communities import CommunitiesConfig, Found, cut

HALVES = 5
"""random halves of the sample on which the components are counted again"""
SEED = 0
"""of the projection to fewer dimensions"""
MOST_DIMENSIONS = 32
"""principal components in which gaps are looked for, where the data have more dimensions than twice that"""
NAMED = 10
"""most components whose masses are named in words"""
TREE_DIMENSIONS = 16
"""most dimensions in which nearest points are looked up in a tree"""
Z95 = 1.959964
"""standard normal quantile of a two-sided interval of 95 %"""

log = logging.getLogger(__name__)


class PartitionConfig(Section):
    """How the components of the data are found."""

    sample: int = Field(8192, ge=100, le=65_536)
    """points of the data among which gaps are looked for (time grows with its square)"""
    seed: int = Field(0, ge=0, lt=2**63)
    """of the samples that are looked at: what is found follows from it and the data, alike for all seeds of a run"""
    neighbors: int = Field(7, ge=1, le=1000)
    """k: a point's core distance reaches to its k-th nearest neighbor"""
    smallest: int = Field(15, ge=1, le=65_536)
    """least points of a component in the sample"""
    prominence: float = Field(2.5, gt=0)
    """least prominence of a gap: its length over the spread of the core distances on either side"""
    communities: CommunitiesConfig = CommunitiesConfig()


@dataclass(frozen=True)
class Partition:
    """The components of a data set of N samples."""

    labels: Tensor
    """(N,) int64 in [0, K): the component of each sample"""
    found: int
    """components that gaps separate; K differs from it where the caller has named another number"""
    agreement: float
    """share of random halves of the sample in which as many components are found"""
    sample: int
    """samples among which gaps were looked for"""
    smallest: int
    """least number of them that counts as a component"""
    prominences: tuple[float, ...]
    """of the gaps, ascending"""
    threshold: float
    """the least prominence of a gap"""
    rejected: float
    """prominence of the gap that came nearest to counting"""
    communities: Found | None = None
    """of data without a gap, where they were looked for"""

    @property
    def counts(self) -> Tensor:
        """Samples of each component: (K,) int64."""
        return torch.bincount(self.labels)

    @property
    def masses(self) -> Tensor:
        """Share of each component: (K,) float64."""
        return self.counts.double() / len(self.labels)

    @property
    def _as_found(self) -> int:
        """The number of parts where none is asked for."""
        return self.communities.count if self.communities is not None and self.communities.accepted else self.found

    def report(self) -> dict[str, Any]:
        """What was found, how sure it is, and what speaks against it: as JSON."""
        low, high = wilson_interval(self.counts, len(self.labels))
        return {
            "components": self.found,
            "generators": len(self.counts),
            "masses": self.masses.tolist(),
            "masses_95": [[a, b] for a, b in zip(low.tolist(), high.tolist(), strict=True)],
            "least_prominence": min(self.prominences, default=None),
            "agreement_of_halves": self.agreement,
            "communities": None if self.communities is None else self.communities.report(),
            "against": self.against(),
            "in_words": self.in_words(),
        }

    def in_words(self) -> list[str]:
        """The report as lines for the user."""
        low, high = wilson_interval(self.counts, len(self.labels))
        count = f"{self.found} component{'s' if self.found > 1 else ''}"
        sure = f"in {self.agreement:.0%} of random halves too"
        if self.prominences:
            sure += f"; least prominence {min(self.prominences):.3g}, of {self.threshold:g} that count"
        parts = "" if self._as_found == len(low) else f", cut or joined to {len(low)} parts as asked"
        lines = [f"found    {count} in {self.sample:,} samples ({sure}){parts}"]
        lines += [] if self.communities is None else [self.communities.in_words()]
        rows = zip(self.masses.tolist(), low.tolist(), high.tolist(), strict=True)
        masses = [f"{mass:.2%} [{a:.2%}, {b:.2%}]" for mass, a, b in rows]
        more = [f"and {len(masses) - NAMED} others"] if len(masses) > NAMED else []
        lines.append(f"masses   {', '.join(masses[:NAMED] + more)}")
        return lines + [f"{'against' if i == 0 else '':<9}{line}" for i, line in enumerate(self.against())]

    def against(self) -> list[str]:
        """What speaks against the number of components, or limits it: a line each."""
        said = []
        if not self.prominences:
            said.append(
                f"no gap: the most prominent one has {self.rejected:.2f} of the {self.threshold:g} that count, so all "
                f"data are taken as one component{', and cut' if self._as_found > 1 else ''}"
            )
        elif self.rejected > self.threshold / 2:
            said.append(f"one more gap has a prominence of {self.rejected:.2f} of the {self.threshold:g} that count")
        if math.isfinite(least := min(self.prominences, default=math.inf)) and least < 2 * self.threshold:
            said.append(f"the least prominent gap has {least:.2f}, where {self.threshold:g} count")
        if self.agreement < 1:
            said.append(f"another number of components is found in {1 - self.agreement:.0%} of random halves")
        said.append(self._unseen())
        return said

    def _unseen(self) -> str:
        """Which components there may be that are too small to be found."""
        if self.sample < 2 * self.smallest:
            return (
                f"{self.sample} samples are too few for more than one component: each needs {self.smallest} "
                "(system.partition.smallest)"
            )
        share = self.smallest / self.sample
        return f"a component of less than {share:.2%} of the data would not be found ({self.sample:,} looked at)"


def wilson_interval(counts: Tensor, n: int, z: float = Z95) -> tuple[Tensor, Tensor]:
    """Ends of the interval of Wilson (1927) of a share of which `counts` (K,) of `n` were drawn: (K,) each, float64."""
    p = counts.double() / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()
    return (center - half).clamp(min=0), (center + half).clamp(max=1)


def find_partition(x: Tensor, config: PartitionConfig, number: int | None = None) -> Partition:
    """The components of samples x (N, *shape), which follow from x and `config` alone.

    Gaps are looked for in a random sample; every other sample is of the component of the one nearest to it. Images
    without a gap are cut into the communities of their neighbor graph (`topology.communities`), if there are more links
    inside these than by chance. With a `number` there are as many parts: of more components the shortest gaps are
    closed, of more communities those with the most links are joined, and of fewer the widest, by their sum of squares,
    are cut in two by k-means (bisecting k-means, Steinbach, Karypis, Kumar 2000).

    Raises ValueError if `number` is larger than the number of different samples.
    """
    from toposampler.topology.clusters import find_clusters  # here, as numba takes half a second

    log.info("looking for the components of %s samples", f"{len(x):,}")
    flat = x.flatten(1).cpu()
    rng = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(flat), generator=rng)
    chosen = order[: config.sample]
    points, projection = _reduced(flat[chosen].double())
    keys = {key: getattr(config, key) for key in ("neighbors", "smallest", "prominence")}
    whole = find_clusters(points.numpy(), **keys)
    halves = [points[torch.randperm(len(points), generator=rng)[: len(points) // 2]] for _ in range(HALVES)]
    agreeing = [find_clusters(half.numpy(), **keys).count == whole.count for half in halves]
    at_hand = whole
    if number is not None and number < whole.count:
        at_hand = find_clusters(points.numpy(), **keys, at_most=number)
    parts, communities = at_hand.labels, None
    asked = config.communities.cut == "always" or (config.communities.cut == "auto" and x.dim() > 2)
    if asked and whole.count == 1 and number != 1 and len(flat) >= 2 * config.smallest:
        looked_at = order[: config.communities.sample]
        nodes, around = _reduced(flat[looked_at].double())
        communities = cut(nodes.numpy(), config.communities, config.smallest, number)
        if communities.accepted:
            parts, chosen, points, projection = communities.labels, looked_at, nodes, around
    labels = torch.from_numpy(parts)[_nearest(flat, points, projection)]
    labels[chosen] = torch.from_numpy(parts)
    if number is not None:
        labels = _bisected(flat, labels, number)
    return Partition(
        labels,
        whole.count,
        sum(agreeing) / HALVES,
        min(config.sample, len(flat)),
        config.smallest,
        whole.prominences,
        config.prominence,
        whole.rejected,
        communities,
    )


Projection = tuple[Tensor, Tensor]
"""center (D,) and directions (D, d) of principal components"""


def _reduced(points: Tensor) -> tuple[Tensor, Projection | None]:
    """points (n, D) float64, or their first principal components where D is large, and how those are made."""
    if points.shape[1] <= 2 * MOST_DIMENSIONS:
        return points, None
    center = points.mean(dim=0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        _, _, directions = torch.svd_lowrank(points - center, q=min(2 * MOST_DIMENSIONS, len(points)), niter=4)
    directions = directions[:, :MOST_DIMENSIONS]
    return (points - center) @ directions, (center, directions)


def _nearest(flat: Tensor, points: Tensor, projection: Projection | None) -> Tensor:
    """Which of points (n, d) is nearest to each of flat (N, D), part by part: (N,) int64."""
    from sklearn.neighbors import NearestNeighbors  # here, as it takes a while to import

    algorithm = "kd_tree" if points.shape[1] <= TREE_DIMENSIONS else "brute"
    index = NearestNeighbors(n_neighbors=1, algorithm=algorithm).fit(points.numpy())
    found = []
    for part in flat.split(8192):
        seen = part.double() if projection is None else (part.double() - projection[0]) @ projection[1]
        found.append(torch.from_numpy(np.asarray(index.kneighbors(seen.numpy(), return_distance=False)[:, 0])).long())
    return torch.cat(found)


def _bisected(flat: Tensor, labels: Tensor, number: int) -> Tensor:
    """labels (N,) of `number` parts: the parts of flat (N, D) with the largest sums of squares are cut in two."""
    from sklearn.cluster import KMeans  # here, as it takes a second to import

    labels = labels.clone()
    spreads = {k: _sum_of_squares(flat[labels == k]) for k in range(int(labels.max()) + 1)}
    while len(spreads) < number:
        widest = max(spreads, key=lambda k: spreads[k])
        if spreads[widest] == 0:
            raise ValueError(f"the data have {len(spreads)} different samples")
        members = (labels == widest).nonzero()[:, 0]
        sides = torch.from_numpy(KMeans(2, n_init=4, random_state=SEED).fit_predict(flat[members].numpy())).long()
        labels[members[sides == 1]] = new = len(spreads)
        for k in (widest, new):
            spreads[k] = _sum_of_squares(flat[labels == k])
    return labels


def _sum_of_squares(x: Tensor) -> float:
    return float((x - x.mean(dim=0)).double().square().sum())
