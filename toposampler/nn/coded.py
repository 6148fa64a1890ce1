"""One generator that is given which component to make, in the place of an ensemble."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CodedGenerator(nn.Module):
    """G(z, a e_c): one network, which reads c as K numbers beside z, a at c and else 0; `centered`: a (e_c - 1/K)."""

    def __init__(self, network: nn.Module, K: int, amplification: float = 1.0, centered: bool = False) -> None:
        super().__init__()
        self.network, self.K, self.amplification = network, K, amplification
        self.offset = 1 / K if centered else 0.0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Latents (n, d) and ids c (n,) to samples (n, *shape)."""
        code = F.one_hot(c, self.K).to(z, non_blocking=True) - self.offset
        return self.network(torch.cat([z, self.amplification * code], dim=1))
