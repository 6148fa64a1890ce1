"""What the two topological systems share: a noise module N in front of the generators, and its signature loss."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from toposampler.config import Section
from toposampler.keys import may
from toposampler.losses.reduction import Terms
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.noise import NoiseConfig, NoiseModule
from toposampler.systems.base import System, SystemConfig
from toposampler.systems.batch import Batch, Noise


class TopologyConfig(Section):
    """The keys of a noise module and of the loss that gives its latents the topology of the data."""

    noise: NoiseConfig = NoiseConfig()
    topology_weight: float = Field(1.0, ge=0, json_schema_extra=may(branch=True, search={"loguniform": [0.01, 10]}))
    """weight of the signature loss: squared 2-Wasserstein distance of the 0-dimensional deaths of latents and data"""
    topology_space: Literal["data", "critic"] = "data"
    """where the data's signature is taken: among the samples, or among the critic's features of them"""
    topology_bars: int | None = Field(None, ge=1, le=2**20)
    """compare this many of the longest bars only (K components have K - 1 long ones); default: all"""

    @model_validator(mode="after")
    def _noise_is_trained(self) -> Self:
        if self.noise.kind == "none" and self.topology_weight > 0:
            raise ValueError(
                f"topology_weight {self.topology_weight:g} has nothing to train: noise.kind is none. "
                "Set topology_weight to 0, or noise.kind to network or gate"
            )
        if self.noise.kind != "none" and self.topology_weight == 0 and not self.noise.adversarial:
            raise ValueError(
                "noise.adversarial false and topology_weight 0 leave nothing to train the noise module: set one of "
                "them, or noise.kind to none"
            )
        return self

    @property
    def least_batch(self) -> int:
        """See `SystemConfig.least_batch`."""
        return 2 if self.topology_bars is None or self.topology_weight == 0 else self.topology_bars + 1

    def left_out(self) -> frozenset[str]:
        """See `SystemConfig.left_out`."""
        return frozenset({"topology_weight"} if self.topology_weight == 0 else ())


class NoisySystem(System):
    """x = G_c(N(z)), with N(z) trained to have the 0-dimensional persistence of the data."""

    def __init__(
        self, config: SystemConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__(config, shape, networks, shard)
        assert isinstance(config, TopologyConfig)
        self.topology: TopologyConfig = config
        self.noise: NoiseModule = config.noise.build(config.latent.dim)
        if self.noise_modules():
            self.averaged = ("generators", "noise")

    def noise_modules(self) -> dict[str, nn.Module]:
        """The noise module by its name in a player, if it has anything to train."""
        return {} if self.topology.noise.kind == "none" else {"noise": self.noise}

    def latents(self, noise: Noise) -> Tensor:
        """N(z): (n, d)."""
        latents: Tensor = self.noise(noise["z"], noise["c"])
        return latents

    def generate(self, noise: Noise) -> Tensor:
        """x = G_c(N(z)): (n, *shape)."""
        latents = self.latents(noise)
        return self.generators(latents if self.topology.noise.adversarial else latents.detach(), noise["c"])

    def latent_terms(self, batch: Batch, losses: Tensor) -> Terms:
        """`topology`: the weighted signature loss of N(z) against the data, over the global batch; none at weight 0."""
        from toposampler.topology import signature_loss  # here: numba takes half a second, and few systems need it

        weight = self.topology.topology_weight
        if weight == 0:
            return {}
        x = batch.real.flatten(1)
        if self.topology.topology_space == "critic":
            with torch.no_grad():
                x = self.critic.features(batch.real)
        latents, x = batch.gather(self.latents(batch.noise)), batch.gather(x)
        loss = signature_loss(latents, x, self.topology.topology_bars, strict=False)  # the loop's guard finds NaN
        return {"topology": batch.constant("topology_weight", weight) * loss}
