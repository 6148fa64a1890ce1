"""Data sets, one page each. A new one is a page with a DataConfig, named in DATA."""

from toposampler.data.array import ArrayConfig
from toposampler.data.base import DataConfig, Dataset, Manifold
from toposampler.data.circles import CirclesConfig
from toposampler.data.describe import describe
from toposampler.data.digits import DigitsConfig
from toposampler.data.face_bed import FaceBedConfig
from toposampler.data.folder import FolderConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.lines import LinesConfig
from toposampler.data.mnist import MnistConfig
from toposampler.data.npy import NpyConfig
from toposampler.data.sampler import Sampler
from toposampler.data.spheres import SpheresConfig
from toposampler.data.stacked_mnist import StackedMnistConfig

DATA: tuple[type[DataConfig], ...] = (
    LinesConfig,
    CirclesConfig,
    SpheresConfig,
    GaussiansConfig,
    DigitsConfig,
    MnistConfig,
    StackedMnistConfig,
    FaceBedConfig,
    NpyConfig,
    FolderConfig,
    ArrayConfig,
)
"""every data section, told apart by its `name`"""

__all__ = ["DATA", "DataConfig", "Dataset", "Manifold", "Sampler", "describe"]
