"""Which samples are learned from, and which are held out to see what was learned."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.errors import UserError


def train_test_split(labels: Tensor, test_share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to learn from and indices held out, both int64 and rising; labels (N,) int64 in [0, M).

    Every label has `test_share` of its samples held out, rounded, but at least one and never all, so that both parts
    have the same masses. Depends on (labels, test_share, seed) only. Raises UserError if a label that occurs has one
    sample.
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        mine = (labels == label).nonzero()[:, 0]
        if len(mine) < 2:
            raise UserError(f"label {label} has 1 sample; at least 2 are needed, one to learn from, one to test with")
        n_test = min(max(1, round(test_share * len(mine))), len(mine) - 1)
        held_out[mine[torch.randperm(len(mine), generator=generator)[:n_test]]] = True
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
