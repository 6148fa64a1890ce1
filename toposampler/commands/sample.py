"""Draw samples from a trained model, millions of them in bounded memory.

    python ray_jobs/sample.py MODEL -n 1000000 --out samples.npy [--seed S] [--workers W] [--generator K] [--no-ema]
    python ray_jobs/sample.py MODEL --out samples.npy --rejection jacobian --keep 0.8

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or a model on MLflow:
models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. The ending of --out says the format:

  samples.npy      the samples, (n, *shape) float32, images in [-1, 1], and beside them the ids of the generators that
                   made them (samples_ids.npy, int64)
  samples.parquet  a folder of Parquet files with the columns `sample` and `generator`
  samples          a folder of images, samples/00000/00000000.png and on, and samples/generators.csv
  samples.png      a picture of at most 1,000 images

The same seed gives the same samples whatever the number of workers. With more than one they are processes of a small
Ray on this machine, or, with RAY_ADDRESS set, of that cluster, whose machines must all see MODEL and the folder of
--out under the same path. A run that is interrupted leaves nothing under the name of --out.

--rejection draws through one of the samplers of toposampler/rejection and prints its acceptance rate and cost.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from toposampler.distributed.lock import locked
from toposampler.errors import UserError
from toposampler.lookup import local
from toposampler.rejection import METHODS
from toposampler.rejection.base import Cost
from toposampler.sampling.output import Npy, Output
from toposampler.sampling.writing import SamplingJob, Writer
from toposampler.training.progress import Bar, Lines


def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code: 0 done, 2 bad input, 130 or 143 stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="run folder, checkpoint, model directory or models:/NAME@alias")
    parser.add_argument("-n", type=int, default=10_000, metavar="N", help="samples to draw [10000]")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write them")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples [0]")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="W", help="processes that share the work [1: this one]"
    )
    parser.add_argument("--generator", type=int, metavar="K", help="this generator's samples only [all, by the prior]")
    parser.add_argument("--no-ema", action="store_true", help="use the last weights, not their moving average")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute [cpu]")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask [MLFLOW_TRACKING_URI, or runs/mlflow.db]")
    parser.add_argument("--rejection", choices=METHODS, help="keep a part of what the model proposes [all]")
    parser.add_argument("--keep", type=float, metavar="SHARE", help="share of latents that jacobian or density keeps")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE.pt", help="of --rejection latent_rs, or where to train it"
    )
    parser.add_argument("--cap", type=float, metavar="W", help="weight from which latent_rs accepts all [3]")
    parser.add_argument("--networks", type=lambda names: tuple(names.split(",")), default=(), metavar="MODULE:FUNCTION",
                        help="networks of MODEL that are not the package's, by its names, with commas")  # fmt: skip
    options = parser.parse_args(arguments)
    stopped_by: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and the disk are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        if options.workers < 1:
            raise UserError(f"--workers must be at least 1, got {options.workers}")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no GPU on this machine")
        out = options.out.absolute()
        # What lies on MLflow is fetched once, to where all workers see it: an alias may move meanwhile.
        with local(options.model, options.tracking_uri, out.parent) as model:
            job = SamplingJob(
                model.absolute(),
                out,
                options.n,
                options.seed,
                options.generator,
                not options.no_ema,
                options.device,
                options.rejection,
                options.keep,
                options.weights and options.weights.absolute(),
                options.cap,
                options.networks,
            )
            writer = Writer(job)
            start = time.monotonic()
            with drafted(writer.output), closing(write(writer, options.workers)) as parts:
                cost = show_progress(parts, job.n)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; nothing is written to {options.out}", file=sys.stderr)
        return 128 + (stopped_by or [signal.SIGINT])[0]
    seconds = time.monotonic() - start
    config = writer.model.config
    print(f"{config.name}, {config.system.name} after {writer.model.step:,} generator steps")
    print(f"samples     {writer.output.path}  {(job.n, *writer.model.shape)}")
    if isinstance(writer.output, Npy):
        print(f"generators  {writer.output.ids}  {(job.n,)}")
    if job.rejection is not None:
        print(f"rejection   {job.rejection}: {cost}")
    print(f"speed       {job.n / seconds:,.0f} samples/s, {seconds:,.1f} s")
    return 0


@contextmanager
def drafted(output: Output) -> Iterator[None]:
    """Have a draft of `output` while the block writes it, and move it to its place, if the block ends well.

    Raises UserError if the samples cannot go there, for whatever reason.
    """
    output.check()
    try:
        output.draft.mkdir(exist_ok=True)
        with locked(output.draft):
            try:
                clear(output.draft)  # of what a process that was killed has left
                output.begin()
                yield
                output.finish()
            finally:
                shutil.rmtree(output.draft, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {output.path} cannot be written: {error.strerror or error}") from None


def clear(draft: Path) -> None:
    """Remove what is in the folder `draft`, but for its lock."""
    for left in draft.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != ".lock":
            left.unlink()


def write(writer: Writer, workers: int) -> Generator[Cost, None, None]:
    """Write all parts of the job, here or by workers of Ray; the cost of each."""
    if workers > 1:
        from toposampler.distributed.pool import on_workers  # this process alone needs no Ray

        job = writer.job
        yield from on_workers(lambda: Writer(job).write, job.parts, workers, job.device == "cuda")
        return
    torch.set_num_threads(1)  # as every worker: sums of more threads round otherwise
    yield from map(writer.write, writer.job.parts)


def show_progress(parts: Iterator[Cost], n: int) -> Cost:
    """Show how many of `n` samples are written, the speed and the time left, as `parts` says it; the cost of all."""
    stream, start, done = sys.stderr, time.monotonic(), Cost()
    display = Bar(stream, 0, n, "sample") if stream.isatty() else Lines(stream, n, noun="sample")
    try:
        for written in parts:
            done += written
            display.show(done.samples, done.samples / (time.monotonic() - start))
    finally:
        display.close()
    return done
