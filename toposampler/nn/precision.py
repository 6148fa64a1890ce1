"""What stays in the weights' precision under autocast: heads, logits, and gradients by the input.

bf16 has 8 bits: a score is a difference of large numbers, and a gradient penalty compares a norm with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A block without autocast, whose inputs are the caller's to widen."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()  # a disabled torch.autocast still costs a few percent of a small network's step
    return torch.autocast(device.type, enabled=False)


def cast_once(stacked: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """Stacked weights in autocast's precision, where it is on: one cast a stack, where one a generator would follow."""
    if not torch.is_autocast_enabled(device.type):
        return list(stacked)
    low = torch.get_autocast_dtype(device.type)
    return [weights.to(low) if weights.dtype == torch.float32 else weights for weights in stacked]


class Head(nn.Sequential):
    """Layers in their weights' precision."""

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, f) to logits (n, K)."""
        with full_precision(features.device):
            return super().forward(features.to(next(self.parameters()).dtype))
