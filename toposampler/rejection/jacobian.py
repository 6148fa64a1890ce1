"""Jacobian-based truncation: Learning Disconnected Manifolds: a No GAN's Land.

Tanielian, Issenhuth, Dohmatob, Mary, ICML 2020, arXiv 2006.04596.

| equation | here |
|---|---|
| score of z, E_eps abs((G(z + s eps) - G(z)) / s)^2, about the squared Frobenius norm of the Jacobian | `scores` |
| keep the share `keep` of latents with the lowest scores | `Truncation` |

A generator that spans the gap between two components must stretch there: its Jacobian is large where its samples are
off the manifold.

Deviations
----------
- |J eps|^2 is computed exactly by forward differentiation with eps ~ N(0, I), so there is no step s. Its mean over
  eps is the squared Frobenius norm; 10 draws, as in the paper.
- The threshold is a quantile over 4,096 latents of a seed of their own, one for each generator.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.func import jvp

from toposampler.rejection.truncation import Truncation
from toposampler.systems import System
from toposampler.systems.batch import Noise
from toposampler.training.sampling import AT_ONCE, pieces

DRAWS = 10


def scores(system: System, noise: Noise, rng: torch.Generator, draws: int = DRAWS, at_once: int = AT_ONCE) -> Tensor:
    """Mean of |J eps|^2 over `draws` of eps ~ N(0, I), J the Jacobian of a sample by its z: (n,).

    The generators get at most `at_once` rows of `noise`, tensors (n, ...), in a pass.
    """
    z = noise["z"]
    total = z.new_zeros(len(z))
    for _ in range(draws):
        eps = torch.randn(z.shape, generator=rng, device=z.device, dtype=z.dtype)
        total += torch.cat([_stretches(system, piece) for piece in pieces({**noise, "eps": eps}, at_once)])
    return total / draws


def _stretches(system: System, noise: Noise) -> Tensor:
    """|J eps|^2 (n,) at the latents `z` (n, d) of `noise` along its `eps` (n, d)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch makes its rules for jvp by torch.jit.script
        tangents = jvp(lambda z: system.generate({**noise, "z": z}), (noise["z"],), (noise["eps"],))[1]
    return tangents.flatten(1).square().sum(dim=1)


class Jacobian(Truncation):
    """Keeps the latents at which the generators stretch least; see `Truncation`."""

    name = "jacobian"
    passes = 2 * DRAWS  # forward differentiation carries value and tangent

    def scores(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Truncation.scores`."""
        return scores(self.system, noise, rng, at_once=self.at_once)
