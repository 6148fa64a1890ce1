"""Topo-DMGAN: TopoSampler's noise module in front of a DMGAN-PL ensemble. This project's own.

Khayatkhoei et al. 2018 (`dmgan_pl`) give each component of the data a generator of its own, Dey and Das 2020
(`toposampler`) give the latents the data's topology. Here N(z) feeds all generators: the number of generators, the
decay of the entropy bonus and the weight of the topology are parameters of one system, which a sweep can search
together.

| equation | here | logged term |
|---|---|---|
| x = G_c(N(z)), c ~ r(c) | `generate` | |
| signature of N(z) against the data's | `latent_terms` | `generator/topology` |
| all else as DMGAN-PL | `dmgan_pl` | |

Deviations
----------
- With `noise.kind none` and `topology_weight 0` this is DMGAN-PL to the last bit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator

from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors.noise import NoiseConfig
from toposampler.systems.base import Player
from toposampler.systems.dmgan_pl import DMGANPL, DMGANPLConfig
from toposampler.systems.noisy import NoisySystem, TopologyConfig


class TopoDMGANConfig(TopologyConfig, DMGANPLConfig):
    """DMGAN-PL behind a noise module with the data's topology."""

    name: Literal["topo_dmgan"] = "topo_dmgan"  # type: ignore[assignment]
    masked: ClassVar[bool] = True

    @field_validator("noise")
    @classmethod
    def _one_draw_is_enough(cls, noise: NoiseConfig) -> NoiseConfig:
        if noise.draws:
            raise ValueError("the ensemble's prior r(c) is what is drawn here: a gate needs choice straight-through")
        return noise

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> TopoDMGAN:
        """See `SystemConfig.build`."""
        return TopoDMGAN(self, shape, networks, shard)


class TopoDMGAN(NoisySystem, DMGANPL):
    """A noise module N in front of K generators with a learned prior."""

    def players(self) -> dict[str, Player]:
        """Those of DMGAN-PL, the noise module with the generators."""
        players = super().players()
        together = players["generator"].joined_by(self.noise_modules(), self.topology.noise)
        return players | {"generator": together}
