"""What `toposampler sample` does: parts of a file of samples, written here or by workers."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.files import out_path
from toposampler.lookup import local
from toposampler.rejection.base import Cost
from toposampler.sampling.output import Npy, Output
from toposampler.sampling.writing import SamplingJob, Writer
from toposampler.training.lock import locked
from toposampler.training.progress import Bar, Lines


def sample(options: argparse.Namespace) -> None:
    """Draw what the command's `options` ask for, write it, and tell what came of it. Raises UserError for bad input."""
    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, got {options.workers}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU on this machine")
    out = out_path(options.out)
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
    seconds = time.monotonic() - start
    config = writer.model.config
    print(f"{config.name}, {config.system.name} after {writer.model.step:,} generator steps")
    print(f"samples     {writer.output.path}  {(job.n, *writer.model.shape)}")
    if isinstance(writer.output, Npy):
        print(f"generators  {writer.output.ids}  {(job.n,)}")
    if job.rejection is not None:
        print(f"rejection   {job.rejection}: {cost}")
    print(f"speed       {job.n / seconds:,.0f} samples/s, {seconds:,.1f} s")


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
        require("ray", "ray", f"--workers {workers}", "--workers 1 draws in this process")
        from toposampler.distributed.pool import on_workers

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
