"""One module per paper. A system is found by itself: every `SystemConfig` of this package that can `build` counts.

Those of others are registered (`toposampler.register`) or found by entry points of the group `toposampler.systems`.
"""

from __future__ import annotations

from toposampler.registry import ClassRegistry
from toposampler.systems.base import Move, Player, Prepared, System, SystemConfig, batches_of

__all__ = ["SYSTEMS", "SYSTEM_CLASSES", "Move", "Player", "Prepared", "System", "SystemConfig", "batches_of"]

SYSTEM_CLASSES: ClassRegistry[SystemConfig] = ClassRegistry("system", "toposampler.systems", SystemConfig, __name__)  # type: ignore[type-abstract]
"""all systems, distinguished by `name`"""
SYSTEMS: tuple[type[SystemConfig], ...] = SYSTEM_CLASSES.own()
"""the configuration classes of the package's own systems"""
