"""Parts of data that have no gap: communities of their neighbor graph, where there are more than by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from toposampler.config import Section

SEED = 0
"""of the two halves"""


class CommunitiesConfig(Section):
    """How data without a gap are cut into communities."""

    cut: Literal["auto", "always", "never"] = "auto"
    """auto: images are cut, where their modularity is beyond chance by margin; always: points too; never: neither"""
    sample: int = Field(32_768, ge=100, le=65_536)
    """samples in the neighbor graph (time grows with its square)"""
    neighbors: int = Field(30, ge=2, le=1000)
    """k of the neighbor graph: fewer make more communities"""
    margin: float = Field(0.1, ge=0, lt=1)
    """least modularity beyond that of normal samples with the same covariance"""


@dataclass(frozen=True)
class Found:
    """Communities of a sample, and how sure they are."""

    labels: NDArray
    """(n,) int64: the community of each point; all 0 where there are none"""
    count: int
    """communities that were found, in labels or not"""
    modularity: float
    by_chance: float
    """modularity of normal samples with the same covariance"""
    agreement: float
    """adjusted Rand index with the communities of two random halves, in the mean; 1: the same, 0: by chance"""
    margin: float
    """least excess of modularity"""

    @property
    def accepted(self) -> bool:
        """Whether they count."""
        return self.count > 1 and self.modularity >= self.by_chance + self.margin

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "count": self.count,
            "accepted": self.accepted,
            "modularity": self.modularity,
            "modularity_by_chance": self.by_chance,
            "agreement_of_halves": self.agreement,
        }

    def in_words(self) -> str:
        """A line for the user."""
        beyond = (
            f"modularity {self.modularity:.3f}, {self.by_chance:.3f} of normal samples with the same covariance; "
            f"random halves agree to {self.agreement:.2f}, adjusted Rand index"
        )
        if self.accepted:
            return f"cut      into {self.count} communities of the neighbor graph ({beyond})"
        return f"not cut  into communities of the neighbor graph: {self.margin:g} beyond chance are needed ({beyond})"


def cut(points: NDArray, config: CommunitiesConfig, smallest: int, number: int | None) -> Found:
    """The communities of points (n, d), which follow from them and `config` alone; at most `number`, if given."""
    from sklearn.metrics import adjusted_rand_score  # here, as it takes a second to import

    from toposampler.topology.communities import find_communities, modularity_by_chance

    keys = {"neighbors": config.neighbors, "smallest": smallest}
    whole = find_communities(points, **keys)
    halves = np.array_split(np.random.default_rng(SEED).permutation(len(points)), 2)
    agreement = [
        adjusted_rand_score(whole.labels[half], find_communities(points[half], **keys).labels) for half in halves
    ]
    return Found(
        whole.joined(number or whole.count).labels,
        whole.count,
        whole.modularity,
        modularity_by_chance(points, **keys),
        float(np.mean(agreement)),
        config.margin,
    )
