"""The figures of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from toposampler import plots
from toposampler.data import Dataset
from toposampler.evaluation.images import THRESHOLDS
from toposampler.evaluation.job import EvaluationJob, Subject, sampled
from toposampler.evaluation.results import Row
from toposampler.metrics.evaluate import NAMED_COMPONENTS
from toposampler.metrics.memorisation import QUANTILE
from toposampler.training.figures import POINTS, as_seen, named_generators

IMAGES = 96
"""in the grid of a model's samples"""


def draw_figures(folder: Path, job: EvaluationJob, dataset: Dataset, rows: Sequence[Row]) -> list[Path]:
    """Write the PNGs of `job`, whose subjects' `rows` are in the same order, to `folder`; what was written."""
    figures = {**class_figures(job, rows), **rejection_figure(job, rows)}
    for subject, row in list(zip(job.subjects, rows, strict=True))[1:]:
        name = re.sub(r"[^\w.-]+", "-", subject.name)
        figures[f"samples_{name}"] = samples_figure(subject, dataset, job.seed)
        title = f"{subject.name}: distance to the training points"
        figures[f"nearest_{name}"] = plots.nearest_training_distances(*row.findings[0].nearest, QUANTILE, title)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path)
    return paths


def class_figures(job: EvaluationJob, rows: Sequence[Row]) -> dict[str, Figure]:
    """Quality curves and, if classes are not too many, their variety, of the first draw; none without a classifier."""
    seen = {row.name: found for row in rows if (found := row.findings[0].by_class) is not None}
    if not seen:
        return {}
    name = job.config.data.name
    quality = {of: found.quality for of, found in seen.items()}
    figures = {"quality": plots.quality_curves(THRESHOLDS, quality, f"Sample quality, {name}")}
    variety = {of: [ratio or 0.0 for ratio in found.msd_ratio] for of, found in seen.items()}
    if len(variety["real"]) <= NAMED_COMPONENTS:
        ylabel = "mean squared geodesic distance\nover that of as many real images"
        figures["msd"] = plots.class_bars(variety, ylabel, f"Variety within the classes of {name}")
    return figures


def rejection_figure(job: EvaluationJob, rows: Sequence[Row]) -> dict[str, Figure]:
    """Precision against recall of each model, from all it proposes to ever less; none without rejection."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for subject, row in list(zip(job.subjects, rows, strict=True))[1:]:
        space = "_classifier" if "precision_k3_classifier" in row.metrics else ""
        values = [row.metrics[f"{name}_k3{space}"].mean for name in ("precision", "recall")]
        rate = row.metrics["acceptance_rate"].mean if subject.method else 1.0
        curves.setdefault(subject.model, []).append((values[0], values[1], rate))
    if all(subject.method is None for subject in job.subjects):
        return {}
    return {"precision_recall": plots.precision_recall(curves, f"{job.config.data.name}, {job.n:,} samples")}


def samples_figure(subject: Subject, dataset: Dataset, seed: int) -> Figure:
    """Samples in the colours of their generators: images in a grid, points beside real ones."""
    drawn = sampled(subject, IMAGES if len(dataset.shape) == 3 else POINTS, seed)
    if len(dataset.shape) == 3:
        order = drawn.ids.argsort(stable=True)
        return plots.framed_grid(drawn.samples[order], drawn.ids[order], drawn.prior, subject.name)
    chosen = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(seed))[:POINTS]
    real, about = as_seen(dataset, dataset.x[chosen])
    fake, _ = as_seen(dataset, dataset.from_units(drawn.samples))
    named = named_generators(drawn.ids, drawn.prior)
    return plots.generators_scatter(real, fake, drawn.ids, drawn.prior, named, subject.name + about)
