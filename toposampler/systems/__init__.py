"""One page per paper. A page is found by itself: every `SystemConfig` of this package that can
`build` counts."""

from __future__ import annotations

import importlib
import pkgutil

from toposampler.systems.base import Move, Player, System, SystemConfig

__all__ = ["SYSTEMS", "Move", "Player", "System", "SystemConfig"]


def _pages(page: type[SystemConfig]) -> list[type[SystemConfig]]:
    """`page`, if it is one and no mere base, and the pages that inherit from it."""
    own = [] if getattr(page.build, "__isabstractmethod__", False) else [page]
    return [*own, *(below for child in page.__subclasses__() for below in _pages(child))]


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

SYSTEMS: tuple[type[SystemConfig], ...] = tuple(page for top in SystemConfig.__subclasses__() for page in _pages(top))
"""the configuration classes of all systems"""
