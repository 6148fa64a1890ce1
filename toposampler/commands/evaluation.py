"""What `toposampler evaluate` does: draws evaluated here or by workers, a table, files, and a record on MLflow."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from toposampler import __version__
from toposampler.config import without_password
from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.evaluation.figures import draw_figures
from toposampler.evaluation.halves import sample_count
from toposampler.evaluation.job import NETWORKS, REAL, EvaluationJob, Evaluator, Subject, Task, Weights
from toposampler.evaluation.models import Trained, by_seed, described
from toposampler.evaluation.results import Row, as_csv, as_json, over_seeds, row
from toposampler.evaluation.suite import Findings
from toposampler.evaluation.table import generators, table, warnings
from toposampler.extras import how_to_install, installed, require
from toposampler.files import out_path, write_atomically
from toposampler.lookup import held, local
from toposampler.metrics.catalog import is_detail
from toposampler.rejection import rejection
from toposampler.training.model import data_of, load_model
from toposampler.training.progress import Bar, Lines

log = logging.getLogger(__name__)


def evaluate(options: argparse.Namespace, copies: ExitStack) -> None:
    """Evaluate all draws, print the table, write and record the files. Copies from MLflow live as long as `copies`."""
    torch.set_num_threads(1)  # as every worker: sums of more threads round otherwise
    for flag, value in (("--draws", options.draws), ("--workers", options.workers)):
        if value < 1:
            raise UserError(f"{flag} must be at least 1, got {value}")
    if not 0 <= options.minimum_accuracy <= 1:
        raise UserError(f"--minimum-accuracy must be from 0 to 1, got {options.minimum_accuracy:g}")
    if options.workers > 1:
        require("ray", "ray", f"--workers {options.workers}", "--workers 1 evaluates in this process")
    if options.weights is not None and len(options.models) > 1:
        raise UserError(f"--weights {options.weights}: they are of one model, so give one MODEL only")
    if not 0 <= options.seed < 2**63 - options.draws:
        raise UserError(f"the seed must be at least 0 and less than 2**63 - {options.draws}, got {options.seed}")
    out = out_path(options.out or Path("evaluations") / time.strftime("%Y%m%d-%H%M%S"))
    make(out.parent)
    # What is evaluated is held where all workers see it: meanwhile an alias may move, and a run that trains go on.
    paths = [copies.enter_context(local(place, options.tracking_uri, out.parent)) for place in options.models]
    paths = [copies.enter_context(held(path, out.parent)) for path in paths]
    models = described(list(zip(options.models, paths, strict=True)))
    log.info("loading the data %s", models[0].config.data.name)
    job = job_of(options, models)
    make(out)
    evaluator = Evaluator(job)  # trains the classifier once, before others look for it
    print_about(job, evaluator)
    rows = evaluated(job, evaluator, min(options.workers, len(job.tasks)))
    rows += seed_rows(models, rows)
    print("\n".join([*table(rows), *generators(rows)]), flush=True)
    for warning in warnings(rows):
        print(f"warning: {warning}", file=sys.stderr)
    log.info("drawing the figures")
    files = write(out, job, evaluator, models, rows)
    print(f"\nresults     {out}: evaluation.json, evaluation.csv and {len(files) - 2} figures", flush=True)
    record(models, rows, files, options.tracking_uri)


def make(folder: Path) -> None:
    """Make `folder`, if it is absent. Raises UserError if that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {folder} cannot be made: {error.strerror}") from None


def job_of(options: argparse.Namespace, models: Sequence[Trained]) -> EvaluationJob:
    """What is to be evaluated. Raises UserError if the data, or a rejection sampler, is not what it should be."""
    first = models[0]
    dataset = data_of(first.config, first.data)
    n, networks = sample_count(dataset, options.n), networks_of(options, dataset)
    return EvaluationJob(
        first.config,
        first.data,
        tuple(subjects_of(options, models)),
        n,
        options.draws,
        options.seed,
        options.cache.absolute(),
        options.minimum_accuracy,
        networks,
    )


def subjects_of(options: argparse.Namespace, models: Sequence[Trained]) -> Iterator[Subject]:
    """The data, each model, and what the rejection sampler keeps of it. Trains latent_rs, once, which can take long."""
    weights = options.weights and options.weights.absolute()
    yield Subject(REAL)
    for model in models:
        yield Subject(model.name, model.path, networks=options.networks)
        loaded = load_model(model.path, networks=options.networks)
        for keep, cap in itertools.product(options.keep or [None], options.cap or [None]):
            if rejection(options.rejection, loaded, keep, weights, cap) is not None:
                yield Subject(model.name, model.path, options.rejection, keep, weights, cap, options.networks)


def networks_of(options: argparse.Namespace, dataset: Dataset) -> tuple[Weights, ...]:
    """The networks whose weights are given. Raises UserError if the data are no images they can see, or as
    `Weights.load`."""
    given = {name: getattr(options, name) for name in NETWORKS if getattr(options, name) is not None}
    for name in given:
        if len(dataset.shape) != 3 or dataset.shape[0] not in (1, 3):
            raise UserError(f"--{name} sees images of 1 or 3 channels, and the data has shape {dataset.shape}")
    networks = tuple(Weights(name, Path(file).absolute(), sha256) for name, (file, sha256) in given.items())
    for weights in networks:
        weights.load()
    return networks


def print_about(job: EvaluationJob, evaluator: Evaluator) -> None:
    """What is compared, how, and through which classifier."""
    dataset = evaluator.dataset
    print(f"data        {job.config.data.name}, {len(dataset):,} of shape {dataset.shape}, SHA-256 {job.data[:16]}")
    if dataset.rows is not None:
        print(f"part        {len(dataset.x):,} of them, chosen by seed 0, are seen here (data.subset)")
    shown = f"mean ± half of the 95 % interval of {job.draws} draws" if job.draws > 1 else "one draw: no interval"
    print(f"protocol    {job.n:,} samples against as many real ones; {shown}")
    if evaluator.images is not None:
        found = evaluator.images.classifier
        print(f"classifier  right about {found.accuracy:.1%} of {found.n_test:,} held-out images; kept in {job.cache}")
    elif len(dataset.shape) == 3:
        print("classifier  none, as the images have no labels: what needs one is left out, the rest is of pixels")


def evaluated(job: EvaluationJob, evaluator: Evaluator, workers: int) -> list[Row]:
    """The rows of all subjects, from draws evaluated here or by workers of Ray."""
    stream, start = sys.stderr, time.monotonic()
    log.info("evaluating: %d draws of %d rows, processes: %d", job.draws, len(job.subjects), workers)
    display = Bar(stream, 0, len(job.tasks), "draw") if stream.isatty() else Lines(stream, len(job.tasks), noun="draw")
    findings: dict[Task, Findings] = {}
    try:
        for task, found in draws(job, evaluator, workers):
            findings[task] = found
            display.show(len(findings), len(findings) / (time.monotonic() - start))
    finally:
        display.close()
    return [
        row(subject.name, [findings[Task(i, draw)] for draw in range(job.draws)])
        for i, subject in enumerate(job.subjects)
    ]


def draws(job: EvaluationJob, evaluator: Evaluator, workers: int) -> Iterator[tuple[Task, Findings]]:
    """The findings of each task, as they come."""
    if workers > 1:
        from toposampler.distributed.pool import on_workers  # this process alone needs no Ray

        yield from on_workers(lambda: Evaluator(job).evaluate, job.tasks, workers)
    else:
        yield from map(evaluator.evaluate, job.tasks)


def seed_rows(models: Sequence[Trained], rows: Sequence[Row]) -> list[Row]:
    """A row for each group of models that differ by their seed alone, without rejection."""
    of = {row.name: row for row in rows}
    groups = by_seed(models)
    return [over_seeds(f"{group[0].name}, {len(group)} seeds", [of[m.name] for m in group]) for group in groups]


def write(
    out: Path, job: EvaluationJob, evaluator: Evaluator, models: Sequence[Trained], rows: Sequence[Row]
) -> list[Path]:
    """Write JSON, CSV and figures to the folder `out`; the files."""
    classifier = evaluator.images and evaluator.images.classifier
    about = {
        "toposampler": __version__,
        "data": {"name": job.config.data.name, "sha256": job.data, "samples": len(evaluator.dataset)},
        "protocol": {"samples": job.n, "draws": job.draws, "seed": job.seed},
        "classifier": classifier and {"accuracy": classifier.accuracy, "held_out": classifier.n_test},
        "models": [{"name": m.name, "place": m.given, "step": m.step, "seed": m.config.seed} for m in models],
    }
    try:
        files = draw_figures(out, job, evaluator.dataset, rows)
        for name, content in (("evaluation.json", as_json(rows, about)), ("evaluation.csv", as_csv(rows))):
            write_atomically(out / name, content)
            files.append(out / name)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from None
    return files


def record(models: Sequence[Trained], rows: Sequence[Row], files: Sequence[Path], uri: str | None) -> None:
    """Add its row and all `files` to the MLflow run of each model. What cannot be recorded is told, and no error."""
    if not installed("mlflow"):
        print(f"mlflow      not installed ({how_to_install('mlflow')}): the results are in the files only")
        return
    from toposampler.tracking.evaluation import record_evaluation, recorded_at  # here, because mlflow takes seconds

    of = {row.name: row for row in rows}
    log.info("recording on MLflow")
    for model in models:
        metrics = {name: value.mean for name, value in of[model.name].metrics.items() if not is_detail(name)}
        try:
            recorded = recorded_at(model.given, uri)
            if recorded is None:
                raise UserError(f"no run on MLflow is known of {model.given}")
            record_evaluation(*recorded, metrics, model.step, files)
            print(f"mlflow      {model.name}: run {recorded[1]} at {without_password(recorded[0])}")
        except UserError as error:
            print(f"warning: the results of {model.name} are in the files only: {error}", file=sys.stderr)
