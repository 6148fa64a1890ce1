"""Which component each point belongs to, and how often each component occurs."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.data.base import checked_weights


def draw_components(
    n: int, weights: tuple[float, ...] | None, n_components: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Shuffled components of `n` points, (n,) int64, and the components' masses, (n_components,) float64.

    Component k occurs n * weights[k] times, rounded by largest remainders: the data has the masses asked for,
    not a multinomial draw of them. `weights` None means equal masses.
    """
    masses = torch.tensor(checked_weights(weights, n_components), dtype=torch.float64)
    exact = n * masses / masses.sum()
    counts = exact.floor().long()
    counts[(exact - counts).topk(n - int(counts.sum())).indices] += 1
    components = torch.arange(n_components).repeat_interleave(counts)
    return components[torch.randperm(n, generator=generator)], counts.double() / n


def label_frequencies(labels: Tensor) -> Tensor:
    """Share of each label in `labels` (N,), int64 in [0, M), each of which occurs: (M,) float64."""
    return torch.bincount(labels).double() / len(labels)
