"""Metrics: pure functions of tensors, one subject a page; `evaluate` calls them all."""

from toposampler.metrics.evaluate import evaluate

__all__ = ["evaluate"]
