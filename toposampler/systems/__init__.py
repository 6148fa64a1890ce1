"""One page per paper. A page is found by itself: every `SystemConfig` declared in this package counts."""

from __future__ import annotations

import importlib
import pkgutil

from toposampler.systems.base import Batch, Noise, Player, System, SystemConfig, Terms

__all__ = ["SYSTEMS", "Batch", "Noise", "Player", "System", "SystemConfig", "Terms"]


def _pages(base: type[SystemConfig]) -> list[type[SystemConfig]]:
    return [page for child in base.__subclasses__() for page in (child, *_pages(child))]


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

SYSTEMS: tuple[type[SystemConfig], ...] = tuple(_pages(SystemConfig))
"""the configuration classes of all systems"""
