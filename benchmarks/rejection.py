"""Precision against recall of rejection around trained models, on four line segments of equal mass.

    python benchmarks/rejection.py [--seeds 5] [--steps 13333] [--processes 2] [--out benchmarks/results/rejection.json]

WGAN-GP and DMGAN-PL are trained with the configurations of `benchmarks/lines.py` for --steps generator steps. Around
each: Jacobian truncation at several shares kept, latentRS with and without gradient ascent (its weights trained for
5,000 steps), and the critic as a control. Each is judged by 10,000 accepted samples: precision is the share within
.05 of the support, recall the covered share of the segments' bins, beside the acceptance rate and the cost.

Runs are kept in `runs/benchmark-rejection`: the benchmark goes on where it was stopped. The figure, of the means over
the seeds, goes to --out's name in .png.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from runs import side_by_side, trained, write_results
from toposampler.data import Dataset
from toposampler.metrics.manifold import coverage, off_manifold
from toposampler.plots import precision_recall
from toposampler.rejection import rejection
from toposampler.training import load_config, load_model
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
SYSTEMS = ("wgan_gp", "dmgan_pl")
KEEPS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
OTHERS = ("latent_rs", "latent_rs_ga", "critic")
SAMPLES, TAU = 10_000, 0.05


def run(task: tuple[str, int, int]) -> list[dict[str, Any]]:
    """Train one model, or find it, and judge every sampler around it."""
    system, seed, steps = task
    overrides = ["--output", "runs/benchmark-rejection", "--name", f"{system}-{seed}", "--seed", str(seed)]
    overrides += ["--data.weights", "null", "--training.generator_steps", str(steps)]
    config = load_config(CONFIGS / f"lines_{system}.yaml", overrides)
    trained(config)
    model, dataset = load_model(run_folder(config)), config.data.load()
    rows = []
    for name, keep in [("jacobian", keep) for keep in KEEPS] + [(name, None) for name in OTHERS]:
        weights = run_folder(config) / "latent_rs.pt" if name.startswith("latent_rs") else None
        drawn = rejection(name, model, keep, weights).draw(SAMPLES, seed)
        row = {
            "system": system,
            "seed": seed,
            "rejection": name,
            "keep": keep,
            "acceptance": drawn.cost.acceptance_rate,
        }
        row |= {"forward_passes": drawn.cost.forward_passes / SAMPLES, "seconds": drawn.cost.seconds}
        row |= judged(drawn.samples, dataset)
        print(
            f"{system} {seed} {name} {keep or ''}: P {row['precision']:.4f} R {row['recall']:.4f}, {drawn}", flush=True
        )
        rows.append(row)
    return rows


def judged(samples: Tensor, dataset: Dataset) -> dict[str, float]:
    """Precision and recall of samples (n, 2) against the exact support."""
    assert dataset.manifold is not None
    distance = dataset.manifold.distance(samples)
    reached = coverage(distance, dataset.manifold.bins(samples), TAU, dataset.manifold.n_bins)
    return {"precision": 1 - off_manifold(distance, TAU), "recall": float(reached.mean())}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all seeds as one row for each sampler."""
    groups: dict[tuple[str, str, float | None], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["rejection"], row["keep"]), []).append(row)
    measured = ("precision", "recall", "acceptance", "forward_passes", "seconds")
    return [
        dict(zip(("system", "rejection", "keep"), key, strict=True)) | {m: fmean(r[m] for r in group) for m in measured}
        for key, group in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=13_333)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rejection.json"))
    options = parser.parse_args()
    tasks = [(system, seed, options.steps) for system, seed in itertools.product(SYSTEMS, range(options.seeds))]
    rows = [row for part in side_by_side(run, tasks, options.processes) for row in part]

    print("\n| model, rejection | precision | recall | accepted | generator passes a sample | us a sample |")
    print("|---|---|---|---|---|---|")
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for row in means(rows):
        name = f"{row['system']}, {row['rejection']}"
        curves.setdefault(name, []).append((row["precision"], row["recall"], row["acceptance"]))
        keep = "" if row["keep"] is None else f" {row['keep']}"
        cells = f"{row['precision']:.4f} | {row['recall']:.4f} | {row['acceptance']:.1%} | {row['forward_passes']:.1f}"
        print(f"| {name}{keep} | {cells} | {1e6 * row['seconds'] / SAMPLES:.0f} |")
    write_results(options.out, {"steps": options.steps, "seeds": options.seeds, "rows": rows})
    title = f"Rejection on lines, {options.steps:,} generator steps, {options.seeds} seed(s)"
    precision_recall(curves, title).savefig(options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
