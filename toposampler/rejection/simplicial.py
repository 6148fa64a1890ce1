"""Simplicial truncation: Unveiling the Latent Space Geometry of Push-Forward Generative Models.

Issenhuth, Tanielian, Mary, Picard, ICML 2023, arXiv 2207.10541.

| equation | here |
|---|---|
| prototypes e_1..e_K on axes of the latent sphere | `accept` |
| keep z where max_k softmax_k(sqrt(d) e_k . z / abs(z)) > threshold | `accept` |

The optimal generator of K distant components cuts the latent sphere into the cells of K prototypes; latents that no
prototype claims lie on the borders, where samples fall between components.

It is meant for latents whose direction is uniform on the sphere: `latent.kind` normal or sphere, others are refused.

Deviations
----------
- The authors train with the truncated latent as well. Here the generator was trained without, so that nothing has
  tied its borders to the axes: on such a model this is a control, not a remedy.
- K = 10 and the threshold .135 are the authors' for d = 64; with another d the same threshold keeps another share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.rejection.base import Rejection
from toposampler.systems.batch import Noise
from toposampler.training.model import Model


class Simplicial(Rejection):
    """Keeps the latents that one of K axes claims.

    Args:
        model: stays as it is.
        prototypes: K, at most the dimensions of z.
        threshold: of the largest softmax, in [0, 1).

    Raises UserError if the model's latents have no uniform direction, or fewer than K dimensions.
    """

    name = "simplicial"
    keeps_prior = True
    passes = 0

    def __init__(self, model: Model, prototypes: int = 10, threshold: float = 0.135) -> None:
        super().__init__(model)
        latent = self.system.latent
        if latent.kind not in ("normal", "sphere"):
            raise UserError(
                f"rejection simplicial needs latents of uniform direction, latent.kind normal or sphere; this model's "
                f"latent.kind is {latent.kind}"
            )
        if latent.dim < prototypes:
            raise UserError(
                f"rejection simplicial with {prototypes} prototypes needs latent.dim of at least {prototypes}; this "
                f"model's latent.dim is {latent.dim}"
            )
        if not 0 <= threshold < 1:
            raise UserError(f"the threshold must lie in [0, 1), got {threshold:g}")
        self.prototypes, self.threshold = prototypes, threshold

    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Rejection.accept`."""
        logits = math.sqrt(self.system.latent.dim) * F.normalize(noise["z"], dim=1)[:, : self.prototypes]
        return (logits.softmax(dim=1).max(dim=1).values > self.threshold).cpu()
