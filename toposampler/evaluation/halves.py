"""The real data in two halves: what samples are compared with, and what stands where samples would."""

from __future__ import annotations

import torch

from toposampler.data import Dataset
from toposampler.errors import UserError

LEAST, MOST = 10, 10_000
"""fewest samples; and how many, unless set otherwise, or half of the data if that is less"""


def sample_count(dataset: Dataset, n: int | None) -> int:
    """How many samples are drawn, to be compared with as many real ones. Raises UserError unless half of the data is
    that much."""
    half = len(dataset.x) // 2
    if half < LEAST:
        raise UserError(
            f"an evaluation needs at least {2 * LEAST} real samples, and the data has {len(dataset.x):,}: samples are "
            f"compared with one half of them, at least {LEAST}, and the other half shows what real ones would get"
        )
    n = min(MOST, half) if n is None else n
    if not LEAST <= n <= half:
        raise UserError(
            f"-n {n}: it must be at least {LEAST} and at most {half}, half of the {len(dataset.x):,} real samples: "
            "n samples are compared with n real ones, and so are n other real ones"
        )
    return n


def halves(dataset: Dataset, n: int, seed: int) -> tuple[Dataset, Dataset]:
    """Two disjoint random parts of `n` points each, chosen by `seed`, with the masses and the geometry of the whole."""
    order = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(seed))
    labels = dataset.labels
    first, second = (
        Dataset(
            dataset.x[rows],
            None if labels is None else labels[rows],
            dataset.weights,
            dataset.manifold,
            dataset.transform,
        )
        for rows in (order[:n], order[n : 2 * n])
    )
    return first, second
