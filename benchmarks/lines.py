"""Quality on the four line segments of the DMGAN paper: DMGAN-PL, DMGAN and WGAN-GP, five seeds, balanced and not.

    python benchmarks/lines.py [--seeds 5] [--processes 2] [--out benchmarks/results/lines.json]

Every run takes 40,000 critic and generator steps together (13,333 outer iterations of 2 + 1) and is evaluated by 10,000
samples. A row is the mean over the seeds, with the worst seed in brackets. The last rows train with the authors'
constants (`configs/lines_dmgan_pl_author.yaml`) and show the share of samples off the manifold after 20,000 and 30,000
steps (5 + 1), where the authors' program has .75 and .64.

Runs are kept in `runs/benchmark-lines`: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from runs import side_by_side, trained, write_results
from toposampler.records import read_records
from toposampler.training import RunConfig, load_config
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
DATA = {"balanced": "null", "unbalanced": "[0.7, 0.1, 0.1, 0.1]"}
SYSTEMS = ("dmgan_pl", "dmgan", "wgan_gp")
AUTHOR = "dmgan_pl_author"
AUTHOR_STEPS = (3333, 5000)
"""generator steps that end after 20,000 and 30,000 steps of critic and generators"""
WORSE_IF_HIGHER = ("off_manifold_0.05", "off_manifold_0.1", "prior_error_max", "jsd_nats", "energy_distance_root")


def run_config(system: str, data: str, seed: int) -> RunConfig:
    """The configuration of one run of the benchmark."""
    overrides = ["--output", "runs/benchmark-lines", "--name", f"{system}-{data}-{seed}", "--seed", str(seed)]
    overrides += ["--data.weights", DATA[data]]
    if system == AUTHOR:
        last = str(AUTHOR_STEPS[-1])
        overrides += ["--training.generator_steps", last, "--training.evaluate_every", str(AUTHOR_STEPS[0])]
        overrides += ["--training.evaluation_samples", "50000"]
    return load_config(CONFIGS / f"lines_{system}.yaml", overrides)


def run(task: tuple[str, str, int]) -> dict[str, Any]:
    """Train one run, or read its result; its metrics, seconds and active generators."""
    config = run_config(*task)
    result = trained(config)
    row = {"system": task[0], "data": task[1], "seed": task[2], "seconds": result["seconds"]}
    row |= result["metrics"] | {"active": result["active_generators"]}
    if task[0] == AUTHOR:
        records = {r.step: r.metrics for r in read_records(run_folder(config) / "metrics.jsonl")}
        row["off_manifold_0.05_at_20000"] = records[AUTHOR_STEPS[0]]["eval/off_manifold_0.05"]
    print(f"{config.name}: off_manifold_0.05 {row['off_manifold_0.05']:.4f}, {row['active']} active", flush=True)
    return row


def summary(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Mean over the seeds, and the worst of them."""
    values = [row[metric] for row in rows if metric in row]
    if not values:
        return "-"
    worst = max(values) if metric in WORSE_IF_HIGHER else min(values)
    return f"{fmean(values):.4f} ({worst:.4f})"


def table(rows: Sequence[dict[str, Any]], seeds: int) -> str:
    """The Markdown table, mean (worst seed)."""
    lines = [
        f"| {seeds} seeds, mean (worst) | off-manifold > .05 | > .1 | coverage of the least covered segment "
        "| active generators | prior error | JSD (nats) | energy distance (root) | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for system, data in itertools.product(SYSTEMS, DATA):
        chosen = [row for row in rows if (row["system"], row["data"]) == (system, data)]
        active = sorted({row["active"] for row in chosen})
        cells = [
            f"{system}, {data}",
            summary(chosen, "off_manifold_0.05"),
            summary(chosen, "off_manifold_0.1"),
            summary(chosen, "coverage_0.05_min"),
            " to ".join(map(str, (active if len(active) == 1 else (active[0], active[-1])))),
            summary(chosen, "prior_error_max"),
            summary(chosen, "jsd_nats"),
            summary(chosen, "energy_distance_root"),
            f"{fmean(row['seconds'] for row in chosen):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lines.json"))
    options = parser.parse_args()
    tasks = list(itertools.product(SYSTEMS[:1], DATA, range(options.seeds)))
    tasks += [(AUTHOR, "balanced", seed) for seed in range(options.seeds)]
    tasks += itertools.product(SYSTEMS[1:], DATA, range(options.seeds))
    rows = side_by_side(run, tasks, options.processes)

    print("\n" + table(rows, options.seeds))
    author = [row for row in rows if row["system"] == AUTHOR]
    for steps, metric in (("20,000", "off_manifold_0.05_at_20000"), ("30,000", "off_manifold_0.05")):
        values = ", ".join(f"{row[metric]:.3f}" for row in author)
        mean = fmean(row[metric] for row in author)
        print(f"\nauthors' constants, balanced, after {steps} steps: mean {mean:.3f} ({values})")
    write_results(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
