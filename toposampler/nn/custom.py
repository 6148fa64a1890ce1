"""Networks of the user's own in place of the package's: Python objects, or functions named `module:function`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Shape = tuple[int, ...]
MakeGenerator = Callable[[Shape, int], nn.Module]
"""(shape of a sample, latent_dim) to a generator: latents (n, latent_dim) to samples (n, *shape)"""
MakeTrunk = Callable[[Shape], nn.Module]
"""(shape of a sample) to a critic's trunk: samples (n, *shape) to features (n, f); the heads are the system's"""


@dataclass(frozen=True)
class Networks:
    """The networks that a caller gives; None: those that the configuration names.

    A module is a prototype: every generator of an ensemble is a copy of it, freshly initialized.
    """

    generator: MakeGenerator | nn.Module | None = None
    critic: MakeTrunk | nn.Module | None = None
