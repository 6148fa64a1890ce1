"""What too small and too large a gamma look like: R3GAN on faces and bedrooms, with several weights of its penalties.

    python benchmarks/gamma.py [--gammas 0.001 0.3 100 10000] [--steps 1500] [--side 16] [--width 16] [--data FOLDER]

FOLDER (default `data`) is that of `benchmarks/images.py`. Every run has the same seed, networks, data and number of
images; gamma is constant. `--out` (default `docs/gamma.png`) gets a row of samples for each gamma, and below them the
critic's loss of pairs and the mean squared slope at real images against images seen; the last values are printed,
beside metrics. The runs are kept in `--output`, and read from there by the next call.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from photographs import faces_and_bedrooms
from torch.nn import functional as F

from runs import trained
from toposampler.config import validate
from toposampler.plots.style import color, new_figure
from toposampler.records import Record, read_records
from toposampler.training import RunConfig, load_model
from toposampler.training.config import run_folder

BATCH, SHOWN, SEED = 32, 12, 0
METRICS = ("energy_distance_root", "coverage_k5", "mass_tv_nn1")
MEAN_OF = 10
"""records that a printed value is the mean of"""


def run_of(gamma: float, folder: Path, given: argparse.Namespace) -> RunConfig:
    """R3GAN with a constant gamma."""
    adam = {"learning_rate": 1e-3, "betas": [0.0, 0.9], "final_learning_rate": None, "final_beta2": None}
    content: dict[str, Any] = {
        "name": f"gamma-{gamma:g}-{given.side}-{given.width}-{given.steps}",
        "output": str(given.output),
        "seed": SEED,
        "data": {"name": "folder", "path": str(folder), "size": given.side},
        "system": {
            "name": "r3gan", "generator_network": "resnet", "critic_network": "resnet", "generator_width": given.width,
            "critic_width": given.width, "generator_depth": 1, "critic_depth": 1,
            "latent": {"kind": "normal", "dim": 64}, "penalty": {"weight": gamma}, "generator": adam, "critic": adam,
        },
        "training": {
            "batch_size": BATCH, "batch_growth": 1, "critic_steps": 1, "generator_steps": given.steps,
            "learning_rate_decay_from": 1, "ema_decay": 0.99, "log_every": max(1, given.steps // 100),
            "evaluate_every": given.steps, "evaluation_samples": 500,
        },
        "tracking": {"enabled": False},
    }  # fmt: skip
    return validate(RunConfig, content)


def curves(records: list[Record], gamma: float) -> tuple[list[int], list[float], list[float]]:
    """Images seen, the loss of pairs, and E abs(grad D)^2 at real images, which `critic/r1` has times gamma / 2."""
    rows = [(r.step * BATCH, r.metrics) for r in records if "critic/pairs" in r.metrics]
    slopes = [m["critic/r1"] / (gamma / 2) for _, m in rows]
    return [images for images, _ in rows], [m["critic/pairs"] for _, m in rows], slopes


def figure_of(runs: dict[float, RunConfig], title: str) -> Figure:
    """Samples of each gamma, and the two curves; the last values are printed."""
    figure = new_figure(9, 1 + 0.72 * len(runs) + 2.4, title)
    pictures, below = np.ravel(figure.subfigures(2, 1, squeeze=False, height_ratios=[0.72 * len(runs), 2.4]))
    rows = pictures.subplots(len(runs), 1, squeeze=False)[:, 0]
    pairs, slopes = below.subplots(1, 2)
    for k, (gamma, config) in enumerate(runs.items()):
        images = load_model(run_folder(config)).sample(SHOWN, seed=SEED)[0]
        strip = torch.cat(list(F.pad(images, (0, 2), value=1.0)), dim=2)
        rows[k].imshow((strip.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) / 2, interpolation="nearest")
        rows[k].set_yticks([(images.shape[2] - 1) / 2], [f"gamma {gamma:g}"])
        rows[k].set_xticks([])
        rows[k].tick_params(length=0)
        rows[k].set_frame_on(False)
        seen, loss, slope = curves(read_records(run_folder(config) / "metrics.jsonl"), gamma)
        pairs.plot(seen, loss, color=color(k), label=f"{gamma:g}")
        slopes.plot(seen, slope, color=color(k))
        last = [sum(of[-MEAN_OF:]) / len(of[-MEAN_OF:]) for of in (loss, slope)]
        print(f"gamma {gamma:g}: {seen[-1]:,} images, pairs {last[0]:.3f}, squared slope {last[1]:.3g}")
    pairs.axhline(math.log(2), color="0.6", linestyle=":", label="ln 2")
    pairs.set(xlabel="images seen", ylabel="critic/pairs")
    pairs.legend(title="gamma", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    slopes.set(xlabel="images seen", ylabel="mean squared slope at real images", yscale="log")
    return figure


def main() -> None:
    """Train what is not trained yet, and draw."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--gammas", type=float, nargs="+", default=[0.001, 0.3, 100.0, 10_000.0])
    line.add_argument("--steps", type=int, default=1500)
    line.add_argument("--side", type=int, default=16)
    line.add_argument("--width", type=int, default=16)
    line.add_argument("--data", type=Path, default=Path("data"))
    line.add_argument("--output", type=Path, default=Path("runs/gamma"))
    line.add_argument("--out", type=Path, default=Path("docs/gamma.png"))
    given = line.parse_args()
    folder = faces_and_bedrooms(given.data, given.output)
    runs = {gamma: run_of(gamma, folder, given) for gamma in given.gammas}
    for gamma, config in runs.items():
        result = trained(config)
        told = ", ".join(f"{name} {result['metrics'][name]:.3g}" for name in METRICS)
        print(f"gamma {gamma:g}: {result['seconds']:.0f} seconds of one thread, {told}", flush=True)
    title = f"R3GAN, {given.side} x {given.side} pixels, width {given.width}, {given.steps * BATCH:,} images"
    figure_of(runs, title).savefig(given.out)


if __name__ == "__main__":
    main()
