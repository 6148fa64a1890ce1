"""Metrics: pure functions of tensors, one subject per module; `evaluate` calls them all."""

from toposampler.metrics.evaluate import evaluate

__all__ = ["evaluate"]
