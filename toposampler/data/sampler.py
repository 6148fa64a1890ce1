"""Which samples the next step sees: seeded epochs without end, resumable anywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Indices of `n` samples, each once per epoch, in an order that depends on (seed, epoch) only.

    `seed` is non-negative; the indices live on `device`.
    """

    def __init__(self, n: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.n = n
        self.seed = seed
        self.device = device
        self.load_state_dict({"epoch": 0, "position": 0})

    def next(self, count: int) -> Tensor:
        """The next `count` >= 1 indices, over as many epochs as that takes: (count,) int64."""
        parts = []
        while count > 0:
            if self.position == self.n:
                self.load_state_dict({"epoch": self.epoch + 1, "position": 0})
            part = self.order[self.position : self.position + count]
            self.position += len(part)
            count -= len(part)
            parts.append(part)
        return torch.cat(parts)

    def state_dict(self) -> dict[str, int]:
        """Where the sampler stands; the order itself follows from it."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to `state`. Raises ValueError if it lies outside this data set."""
        self.epoch, self.position = state["epoch"], state["position"]
        if not 0 <= self.position <= self.n:
            raise ValueError(f"position {self.position} lies outside a data set of {self.n} samples")
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        self.order = torch.from_numpy(order).to(self.device)
