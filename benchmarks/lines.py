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
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from table_text import markdown, mean_worst, seeds

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


def table(results: Mapping[str, Any]) -> list[str]:
    """The Markdown table, mean (worst seed)."""
    runs = [row for row in results["rows"] if row["system"] != AUTHOR]
    columns = (
        ("off_manifold_0.05", "off-manifold > .05", max),
        ("off_manifold_0.1", "> .1", max),
        ("coverage_0.05_min", "coverage of the least covered segment", min),
        ("active", "active generators", None),
        ("prior_error_max", "prior error", max),
        ("jsd_nats", "JSD (nats)", max),
        ("energy_distance_root", "energy distance (root)", max),
    )
    rows = []
    for system, data in itertools.product(SYSTEMS, DATA):
        chosen = [row for row in runs if (row["system"], row["data"]) == (system, data)]
        cells = [f"{system}, {data}"]
        for metric, _, worst in columns:
            values = [row[metric] for row in chosen if metric in row]
            cells.append(mean_worst(values, worst) if worst else " to ".join(map(str, sorted({*values}))))
        rows.append([*cells, f"{fmean(row['seconds'] for row in chosen):.0f}"])
    head = [f"{seeds(row['seed'] for row in runs)}, mean (worst)", *(heading for _, heading, _ in columns), "seconds"]
    return markdown(head, rows)


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

    results = {"rows": rows}
    print("", *table(results), sep="\n")
    author = [row for row in rows if row["system"] == AUTHOR]
    for steps, metric in (("20,000", "off_manifold_0.05_at_20000"), ("30,000", "off_manifold_0.05")):
        values = ", ".join(f"{row[metric]:.3f}" for row in author)
        mean = fmean(row[metric] for row in author)
        print(f"\nauthors' constants, balanced, after {steps} steps: mean {mean:.3f} ({values})")
    write_results(options.out, results)


if __name__ == "__main__":
    main()
