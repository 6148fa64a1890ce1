"""Which game a critic and its generators play, where a page leaves that open."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from toposampler.config import Section
from toposampler.losses import relativistic, wasserstein
from toposampler.losses.batch import Batch, Terms
from toposampler.losses.wasserstein import PenaltyConfig
from toposampler.nn.critic import Critic


class GameConfig(Section):
    """The keys of a game, for a system's section to inherit."""

    adversarial: Literal["wasserstein", "relativistic"] = "wasserstein"
    """wasserstein: -E_real D + E_fake D with a gradient penalty between the two; relativistic: R3GAN's pairs of a real
    and a generated sample, with penalties R1 and R2 at both, of weight gamma / 2 each"""
    penalty: PenaltyConfig = PenaltyConfig()


def critic_terms(critic: Critic, batch: Batch, game: GameConfig) -> Terms:
    """The critic's terms."""
    if game.adversarial == "relativistic":
        return relativistic.critic_terms(critic, batch, game.penalty.weight_at(batch))
    return wasserstein.critic_terms(critic, batch, game.penalty)


def generator_losses(critic: Critic, fake: Tensor, batch: Batch, game: GameConfig) -> Tensor:
    """What each of the batch's fakes costs its generator: the critic's scores (n,) of them to (n,)."""
    return relativistic.generator_losses(critic, fake, batch) if game.adversarial == "relativistic" else -fake
