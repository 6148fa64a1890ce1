"""MNIST: DMGAN-PL, DMGAN, NWGAN and WGAN-GP trained under one budget, to be evaluated beside the real digits.

    python benchmarks/mnist.py --root FOLDER [--seeds 3] [--processes 2]
    python ray_jobs/evaluate.py runs/benchmark-mnist/* -n 5000 --draws 1

Every critic sees 256,000 real images in batches of 32: 8,000 outer iterations with one critic step of the DMGANs, 4,000
with two of the others (`configs/mnist_*.yaml`), 10 to 18 minutes of one core. FOLDER holds MNIST/raw. Runs are kept in
`runs/benchmark-mnist`: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from runs import side_by_side, trained
from toposampler.training import load_config
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
SYSTEMS = ("dmgan_pl", "wgan_gp", "dmgan", "nwgan")


def run(task: tuple[str, int, Path]) -> Path:
    """Train one model, or find it; its run's folder."""
    system, seed, root = task
    overrides = ["--output", "runs/benchmark-mnist", "--name", f"{system}-{seed}", "--seed", str(seed)]
    overrides += ["--data.root", str(root), "--training.checkpoint_every", "500"]
    config = load_config(CONFIGS / f"mnist_{system}.yaml", overrides)
    result = trained(config)
    print(f"{config.name}: {result['seconds']:.0f} s, {result['active_generators']} active", flush=True)
    return run_folder(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tasks = [(system, seed, options.root) for seed, system in itertools.product(range(options.seeds), SYSTEMS)]
    side_by_side(run, tasks, options.processes)


if __name__ == "__main__":
    main()
