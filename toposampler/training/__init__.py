"""Training without a cluster: the loop, checkpoints, models. Needs neither Ray nor MLflow."""

from toposampler.training.config import RunConfig, load_config
from toposampler.training.entry import train
from toposampler.training.model import Model, load_model

__all__ = ["Model", "RunConfig", "load_config", "load_model", "train"]
