"""Models for other programs: a model directory with its card, and its generators as ONNX."""

from toposampler.exporting.directory import export
from toposampler.exporting.evaluated import measured_in

__all__ = ["export", "measured_in"]
