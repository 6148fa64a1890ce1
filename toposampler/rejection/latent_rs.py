"""Latent rejection sampling (latentRS): Latent reweighting, an almost free improvement for GANs.

Issenhuth, Tanielian, Picard, Mary, WACV 2022, arXiv 2110.09803. The cap: Verine, Pydi, Negrevergne, Chevaleyre, Optimal
budgeted rejection sampling, AISTATS 2024, arXiv 2311.00460.

| equation | here |
|---|---|
| critic, sup_D E_real D - E[w(z) D(G(z))], G frozen | `training.critic_loss` |
| weights, inf_w -E[w(z) D(G(z))] + 10 (E w - 1)^2 + 3 E max(0, w - 3)^2 | `training.weight_loss` |
| accept z with probability min(1, w(z) / cap); the paper's is 3, the largest w | `accept` |
| latentRS+GA: 10 steps of gradient ascent on w, of size .01, from an accepted z | `refine` |

A smaller cap accepts more and corrects less: of all samplers with its acceptance rate, min(1, w / cap) comes closest to
the distribution that w describes, in every f-divergence (Verine et al.).

Deviations
----------
- With several generators w takes the generator's one-hot id beside z, and (z, c) is accepted or rejected together:
  weights may move mass between generators, as the critic asks. Asked for one generator alone, its samples have its w.
- The critic starts as the trained one, with a one-sided gradient penalty of weight 10 between real and fake, the latter
  not weighted. Sizes, learning rates and steps (`training.py`) are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.rejection.base import Rejection
from toposampler.systems.batch import Noise
from toposampler.training.model import Model

MAX_WEIGHT = 3.0
ASCENT_STEPS, ASCENT_RATE = 10, 0.01


class WeightNetwork(nn.Module):
    """w(z, c) >= 0: three hidden ReLU layers on z and the one-hot c, and a ReLU, so that 0 can be reached exactly."""

    def __init__(self, latent_dim: int, n_generators: int, width: int = 128) -> None:
        super().__init__()
        self.K = n_generators
        head = nn.Linear(width, 1)
        nn.init.ones_(head.bias)  # w starts near 1: nothing is reweighted
        hidden = [nn.Linear(latent_dim + n_generators, width), nn.Linear(width, width), nn.Linear(width, width)]
        self.layers = nn.Sequential(*(layer for linear in hidden for layer in (linear, nn.ReLU())), head, nn.ReLU())

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Weights (n,) of latents z (n, d) and generator ids c (n,) int64."""
        ids = F.one_hot(c.to(z.device), self.K).to(z.dtype)
        return self.layers(torch.cat((z, ids), dim=1)).squeeze(1)


def check_cap(cap: float) -> None:
    """Raise UserError if `cap` is not positive."""
    if not cap > 0:
        raise UserError(f"the cap must be more than 0, got {cap:g}")


class LatentRS(Rejection):
    """Accepts latents by learned weights.

    Args:
        model: stays as it is.
        weights: trained for this model (`training.train_weights`).
        ascend: gradient ascent on w from each accepted latent.
        cap: weight from which on a latent is always accepted.

    Raises UserError if `cap` is not positive.
    """

    keeps_prior = False
    passes = 0

    def __init__(self, model: Model, weights: WeightNetwork, ascend: bool = False, cap: float = MAX_WEIGHT) -> None:
        check_cap(cap)
        super().__init__(model)
        self.weights = weights.to(self.device).requires_grad_(False)
        self.ascend, self.cap = ascend, cap
        self.name = "latent_rs_ga" if ascend else "latent_rs"

    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Rejection.accept`."""
        w = self.weights(noise["z"], noise["c"])
        return (torch.rand(len(w), generator=rng, device=w.device, dtype=w.dtype) < w / self.cap).cpu()

    def refine(self, noise: Noise) -> Noise:
        """See `Rejection.refine`."""
        if not self.ascend:
            return noise
        z = noise["z"]
        for _ in range(ASCENT_STEPS):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.weights(z, noise["c"]).sum(), z)
            z = z.detach() + ASCENT_RATE * gradient
        return {**noise, "z": z}
