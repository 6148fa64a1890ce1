"""Relativistic pairs with R1 and R2, the loss of R3GAN (Huang, Gokaslan, Kuleshov, Tompkin 2024, arXiv 2501.05441).

Each real sample is paired with a generated one, and only the difference of their scores counts: real samples in a
dropped mode then have a gradient for the generator. With gradient penalties on both sides, at every step, the game
converges near its equilibrium.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.reduction import Terms, expectation


def critic_terms(
    real: Tensor,
    fake: Tensor,
    real_gradient: Tensor,
    fake_gradient: Tensor,
    gamma: float | Tensor,
    real_weights: Tensor | None = None,
    fake_weights: Tensor | None = None,
) -> Terms:
    """E softplus(D(fake) - D(real)) as `pairs`, and gamma / 2 E |dD/dx|^2 as `r1` (real) and `r2` (fake).

    Args:
        real, fake: scores (n,) of the pairs.
        real_gradient, fake_gradient: dD/dx (n, *shape) at them, differentiable by the critic's weights.
        gamma: weight of both penalties.
        real_weights, fake_weights: of the expectations; the pairs take those of the fakes.
    """
    return {
        "pairs": expectation(F.softplus(fake - real), fake_weights),
        "r1": gamma / 2 * expectation(squared_norms(real_gradient), real_weights),
        "r2": gamma / 2 * expectation(squared_norms(fake_gradient), fake_weights),
    }


def squared_norms(gradient: Tensor) -> Tensor:
    """|g|^2 of gradients (n, *shape), as (n,)."""
    return gradient.flatten(1).square().sum(dim=1)


def generator_losses(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(real) - D(fake)) of the pairs' scores (n,), as (n,); no gradient is needed by `real`."""
    return F.softplus(real - fake)
