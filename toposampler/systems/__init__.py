"""One page per paper. A page is found by itself: every `SystemConfig` of this package that can `build` counts.

Pages of others are registered (`toposampler.register`) or found by entry points of the group `toposampler.systems`.
"""

from __future__ import annotations

from toposampler.registry import Pages
from toposampler.systems.base import Move, Player, Prepared, System, SystemConfig

__all__ = ["PAGES", "SYSTEMS", "Move", "Player", "Prepared", "System", "SystemConfig"]

PAGES: Pages[SystemConfig] = Pages("system", "toposampler.systems", SystemConfig, __name__)  # type: ignore[type-abstract]
"""all systems, distinguished by `name`"""
SYSTEMS: tuple[type[SystemConfig], ...] = PAGES.own()
"""the configuration classes of the package's own systems"""
