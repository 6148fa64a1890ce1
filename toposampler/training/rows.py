"""What one worker works on in an iteration."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toposampler.systems.batch import Noise


@dataclass(frozen=True)
class Rows:
    """One worker's rows of the global batches of an iteration, those of all batches in one piece."""

    indices: Tensor
    """(rows,): of real samples"""
    noise: Noise
    """tensors (rows, ...)"""
    sizes: list[int]
    """rows of each batch"""
