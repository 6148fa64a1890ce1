"""The figures of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure

from toposampler import plots
from toposampler.data import Dataset
from toposampler.evaluation.images import THRESHOLDS, ByClass
from toposampler.evaluation.job import REAL, EvaluationJob, Subject, sampled
from toposampler.evaluation.results import Estimate, Row
from toposampler.evaluation.table import text
from toposampler.metrics.catalog import by_block, direction
from toposampler.metrics.evaluate import NAMED_COMPONENTS
from toposampler.metrics.memorization import MEMORIZED, QUANTILE
from toposampler.plots.comparison import Interval, Operation
from toposampler.training.figures import POINTS, as_seen, named_generators

IMAGES = 96
"""in the grid of a model's samples"""


def draw_figures(folder: Path, job: EvaluationJob, dataset: Dataset, rows: Sequence[Row]) -> list[Path]:
    """Write the PNGs of `job` to `folder`; what was written. `rows` are those of its subjects, in their order, and of
    models that differ by their seed."""
    of_models = list(zip(job.subjects, rows, strict=False))[1:]
    figures = {"metrics": metrics_figure(job, rows)}
    figures |= {**class_figures(job, rows[: len(job.subjects)]), **rejection_figure(job, of_models)}
    for subject, row in of_models:
        name = re.sub(r"[^\w.-]+", "-", subject.name)
        figures[f"samples_{name}"] = samples_figure(subject, dataset, job.seed)
        figures[f"nearest_{name}"] = nearest_figure(row)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path)
    return paths


def metrics_figure(job: EvaluationJob, rows: Sequence[Row]) -> Figure:
    """All metrics that the table shows, of all rows side by side, with their intervals."""
    names = [
        name for block in by_block({name: None for row in rows for name in row.metrics}).values() for name in block
    ]
    metrics = {name: {row.name: interval(row.metrics[name]) for row in rows if name in row.metrics} for name in names}
    directions = {name: direction(name) for name in names}
    title = f"{job.config.data.name}, {job.n:,} samples, mean and interval of {job.draws} draws"
    return plots.metric_panels(metrics, directions, [row.name for row in rows], title)


def nearest_figure(row: Row) -> Figure:
    """How near the samples of a row come to training points, over all draws."""
    samples, real = (torch.cat(distances) for distances in zip(*(of.nearest for of in row.findings), strict=True))
    label = f"{MEMORIZED} {text(row.metrics[MEMORIZED])}: share of samples on its left; {QUANTILE:g} of real points"
    title = f"{row.name}: distance to the training points"
    return plots.nearest_training_distances(samples, real, QUANTILE, label, title)


def interval(value: Estimate) -> Interval:
    """The mean of `value` and half of its interval, as figures take them."""
    return Interval(value.mean, value.half_width)


def class_figures(job: EvaluationJob, rows: Sequence[Row]) -> dict[str, Figure]:
    """Quality curves and, if classes are not too many, their variety, means over draws; none without a classifier."""
    seen = {
        row.name: found for row in rows if (found := [of.by_class for of in row.findings if of.by_class is not None])
    }
    if not seen:
        return {}
    name = job.config.data.name
    quality = {
        of: [fmean(at) for at in zip(*(draw.quality for draw in found), strict=True)] for of, found in seen.items()
    }
    figures = {"quality": plots.quality_curves(THRESHOLDS, quality, f"Sample quality, {name}")}
    variety = {of: _variety(found) for of, found in seen.items()}
    if len(variety[REAL]) <= NAMED_COMPONENTS:
        ylabel = "mean squared geodesic distance\nover that of as many real images"
        figures["msd"] = plots.class_bars(variety, ylabel, f"Variety within the classes of {name}")
    return figures


def _variety(draws: Sequence[ByClass]) -> list[float]:
    """Of each class the mean ratio over the draws that have one, 0 if none has."""
    ratios = zip(*(draw.msd_ratio for draw in draws), strict=True)
    known = ([ratio for ratio in of_class if ratio is not None] for of_class in ratios)
    return [fmean(of_class) if of_class else 0.0 for of_class in known]


def rejection_figure(job: EvaluationJob, of_models: Sequence[tuple[Subject, Row]]) -> dict[str, Figure]:
    """Precision against recall of each model, from all it proposes to ever less; none without rejection."""
    curves: dict[str, list[Operation]] = {}
    for subject, row in of_models:
        space = "_classifier" if "precision_k3_classifier" in row.metrics else ""
        precision, recall = (interval(row.metrics[f"{name}_k3{space}"]) for name in ("precision", "recall"))
        rate = row.metrics["acceptance_rate"].mean if subject.method else 1.0
        curves.setdefault(subject.model, []).append(Operation(precision, recall, rate))
    if all(subject.method is None for subject in job.subjects):
        return {}
    title = f"{job.config.data.name}, {job.n:,} samples, mean and interval of {job.draws} draws"
    return {"precision_recall": plots.precision_recall(curves, title)}


def samples_figure(subject: Subject, dataset: Dataset, seed: int) -> Figure:
    """Samples in the colors of their generators: images in a grid, points beside real ones."""
    drawn = sampled(subject, IMAGES if len(dataset.shape) == 3 else POINTS, seed)
    if len(dataset.shape) == 3:
        order = drawn.ids.argsort(stable=True)
        return plots.framed_grid(drawn.samples[order], drawn.ids[order], drawn.prior, subject.name)
    chosen = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(seed))[:POINTS]
    real, about = as_seen(dataset, dataset.x[chosen])
    fake, _ = as_seen(dataset, dataset.from_units(drawn.samples))
    named = named_generators(drawn.ids, drawn.prior)
    return plots.generators_scatter(real, fake, drawn.ids, drawn.prior, named, subject.name + about)
