"""Figures of a run: pure functions of tensors on the CPU that return a matplotlib Figure."""

from toposampler.plots.barcodes import barcodes
from toposampler.plots.classes import class_bars, quality_curves
from toposampler.plots.comparison import metric_panels, precision_recall
from toposampler.plots.curves import prior_over_steps, terms_over_steps
from toposampler.plots.images import framed_grid, image_grid
from toposampler.plots.memorization import nearest_training_distances
from toposampler.plots.panels import sample_panels
from toposampler.plots.scatter import generators_scatter, samples_scatter
from toposampler.plots.sweeps import best_over_steps, objective_by_key, parallel_coordinates, pareto_front

__all__ = [
    "barcodes",
    "best_over_steps",
    "class_bars",
    "framed_grid",
    "generators_scatter",
    "image_grid",
    "metric_panels",
    "nearest_training_distances",
    "objective_by_key",
    "parallel_coordinates",
    "pareto_front",
    "precision_recall",
    "prior_over_steps",
    "quality_curves",
    "sample_panels",
    "samples_scatter",
    "terms_over_steps",
]
