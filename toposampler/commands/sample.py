"""Draw samples from a trained model, millions of them in bounded memory.

    toposampler sample MODEL -n 1000000 --out samples.npy [--seed S] [--workers W] [--no-ema]
    toposampler sample MODEL --out samples.npy --generator K
    toposampler sample MODEL --out samples.npy --rejection jacobian --keep 0.8

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or a model on
MLflow: models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. The extension of --out says the
format:

  samples.npy      the samples, (n, *shape) float32, images in [-1, 1], and beside them the ids of
                   the generators that made them (samples_ids.npy, int64)
  samples.parquet  a folder of Parquet files with the columns `sample` and `generator`; the shape
                   of an image is in the file, where pyarrow and Ray Data find it; pandas shows each
                   image as one flat row: row.reshape(channels, height, width)
  samples          a folder of images, samples/00000/00000000.png and on, and
                   samples/generators.csv
  samples.png      a picture of at most 1,000 images or points

The same seed gives the same samples whatever the number of workers. With more than one they are
processes of a small Ray on this machine, or, with RAY_ADDRESS set, of that cluster, whose machines
must all see MODEL and the folder of --out under the same path. A run that is interrupted leaves
nothing under the name of --out.

--rejection draws through one of the samplers of toposampler/rejection and prints its acceptance
rate and cost.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from toposampler.commands.usage import add_networks, command, parser, shown_log
from toposampler.errors import UserError


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code: 0 done, 2 bad input, 130 or 143 stopped."""
    from toposampler.rejection import METHODS

    line = parser(__doc__, "sample")
    line.add_argument("model", metavar="MODEL", help="run folder, checkpoint, model directory or models:/NAME@alias")
    line.add_argument("-n", type=int, default=10_000, metavar="N", help="samples to draw [10000]")
    line.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write them")
    line.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples [0]")
    line.add_argument("--workers", type=int, default=1, metavar="W", help="processes that share the work [1: this one]")
    line.add_argument("--generator", type=int, metavar="K", help="this generator's samples only [all, by the prior]")
    line.add_argument("--no-ema", action="store_true", help="use the last weights, not their moving average")
    line.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute [cpu]")
    line.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask [MLFLOW_TRACKING_URI, or runs/mlflow.db]")
    line.add_argument("--rejection", choices=METHODS, metavar="METHOD",
                      help=f"keep a part of what the model proposes [all]: {', '.join(METHODS)}")  # fmt: skip
    line.add_argument("--keep", type=float, metavar="SHARE", help="share of latents that jacobian or density keeps")
    line.add_argument("--weights", type=Path, metavar="FILE.pt", help="of --rejection latent_rs, or where to train it")
    line.add_argument("--cap", type=float, metavar="W", help="weight from which latent_rs accepts all [3]")
    add_networks(line)
    options = line.parse_args(arguments)
    stopped_by: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and the disk are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        from toposampler.commands.sampling import sample  # here, so that --help is there at once

        with shown_log():
            sample(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; nothing is written to {options.out}", file=sys.stderr)
        return 128 + (stopped_by or [signal.SIGINT])[0]
    return 0
