"""Draw samples from a trained model.

    python ray_jobs/sample.py MODEL -n 10000 --out samples.npy [--seed S] [--generator K] [--no-ema]
    python ray_jobs/sample.py MODEL --out samples.npy --rejection jacobian --keep 0.8

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or a model on MLflow:
models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. Writes the samples, (n, *shape) float32, images in
[-1, 1], and beside them the ids of the generators that made them (samples_ids.npy, int64).

--rejection draws through one of the samplers of toposampler/rejection and prints its acceptance rate and cost.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from toposampler.errors import UserError
from toposampler.rejection import METHODS, rejection
from toposampler.training.lookup import load


def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="run folder, checkpoint, model directory or models:/NAME@alias")
    parser.add_argument("-n", type=int, default=10_000, metavar="N", help="samples to draw [10000]")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npy", help="where to write them")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples [0]")
    parser.add_argument("--generator", type=int, metavar="K", help="this generator's samples only [all, by the prior]")
    parser.add_argument("--no-ema", action="store_true", help="use the last weights, not their moving average")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute [cpu]")
    parser.add_argument("--rejection", choices=METHODS, help="keep a part of what the model proposes [all]")
    parser.add_argument("--keep", type=float, metavar="SHARE", help="share of latents that --rejection jacobian keeps")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE.pt", help="of --rejection latent_rs, or where to train it"
    )
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask [MLFLOW_TRACKING_URI, or runs/mlflow.db]")
    options = parser.parse_args(arguments)
    try:
        if options.out.suffix != ".npy":
            raise UserError(f"--out must end in .npy, got {options.out}")
        if not 0 <= options.seed < 2**63:
            raise UserError(f"--seed must be at least 0 and less than 2**63, got {options.seed}")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no GPU on this machine")
        model = load(options.model, not options.no_ema, options.device, options.tracking_uri)
        if options.rejection is None:
            for flag in ("keep", "weights"):
                if getattr(options, flag) is not None:
                    raise UserError(f"--{flag} {getattr(options, flag)} is of use with --rejection only")
            samples, ids = model.sample(options.n, options.seed, options.generator)
        else:
            sampler = rejection(options.rejection, model, options.keep, options.weights)
            drawn = sampler.draw(options.n, options.seed, options.generator)
            samples, ids = drawn.samples, drawn.ids
        ids_file = options.out.with_name(f"{options.out.stem}_ids.npy")
        try:
            np.save(options.out, samples.float().cpu().numpy())
            np.save(ids_file, ids.cpu().numpy())
        except OSError as error:
            raise UserError(f"--out {options.out} cannot be written: {error.strerror}") from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{model.config.name}, {model.config.system.name} after {model.step:,} generator steps")
    if options.rejection is not None:
        print(f"rejection   {sampler.name}: {drawn}")
    print(f"samples     {options.out.absolute()}  {tuple(samples.shape)}")
    print(f"generators  {ids_file.absolute()}  {tuple(ids.shape)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
