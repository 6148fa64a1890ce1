"""Generators of equal mass, r(c) = 1/K: what systems with a fixed prior share."""

from __future__ import annotations

from torch import Tensor

from toposampler.priors.mixture import share_out
from toposampler.priors.streams import Source
from toposampler.systems.base import System


class UniformSystem(System):
    """x = G_c(z) with c ~ r(c) = 1/K."""

    def prior(self) -> Tensor:
        """r(c) = 1/K: (K,)."""
        return next(self.parameters()).new_full((self.K,), 1 / self.K)

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c uniform, each batch with n / K samples of every generator, or within 1 of it: (batches, n)."""
        return share_out(self.K, (batches, n), rng)
