"""Data sets, one module each. A data set is found by itself: every `DataConfig` of this package that can `load` counts.

Those of others are registered (`toposampler.register`) or found by entry points of the group `toposampler.data`.
"""

from __future__ import annotations

from toposampler.data.base import DataConfig, Dataset, Manifold
from toposampler.data.describe import describe
from toposampler.data.sampler import Sampler
from toposampler.registry import ClassRegistry

__all__ = ["DATA", "SETS", "DataConfig", "Dataset", "Manifold", "Sampler", "describe"]

SETS: ClassRegistry[DataConfig] = ClassRegistry("data set", "toposampler.data", DataConfig, __name__)  # type: ignore[type-abstract]
"""all data sets, distinguished by `name`"""
DATA: tuple[type[DataConfig], ...] = SETS.own()
"""the configuration classes of the package's own data sets"""
