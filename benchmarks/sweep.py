"""Early stopping with a model of the objective against random search, at equal total generator steps.

    python benchmarks/sweep.py [--repeats 5] [--out benchmarks/results/sweep.json]

Topo-DMGAN on the unbalanced lines, six keys of its ready space, the default score. Random search trains `TRIALS` trials
to their end; TPE with ASHA begins trials until all have done as many steps together. What counts is the best score of a
trial that was trained to its end, at the moment when so many steps had been done; the median over the repeats (seeds of
the search) is compared.

Sweeps are kept in `runs/benchmark-sweep`: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from table_text import markdown

from runs import write_results
from toposampler.config import to_yaml, validate
from toposampler.plots import best_over_steps
from toposampler.records import read_records

ROOT = Path(__file__).parent.parent
OUTPUT = Path("runs/benchmark-sweep")
STEPS, TRIALS = 2000, 16
BUDGET = STEPS * TRIALS
"""generator steps of all trials together"""
KEYS = (
    "system.n_generators",
    "system.prior.entropy_decay",
    "system.topology_weight",
    "system.prior.learning_rate",
    "system.generator.learning_rate",
    "system.critic.learning_rate",
)
SEARCHES: dict[str, dict[str, Any]] = {
    "random search": {"search": {"name": "random"}, "scheduler": {"name": "none"}, "trials": TRIALS},
    "TPE with ASHA": {
        "search": {"name": "tpe"},
        "scheduler": {"name": "asha", "rungs": 2},
        "trials": 200,
        "total_steps": BUDGET,
    },
}
Curve = tuple[list[float], list[float]]


def sweep(search: str, repeat: int) -> Curve:
    """The best score so far over the steps of all trials, of one sweep, run or read."""
    from toposampler.tuning.config import SweepConfig, load_sweep
    from toposampler.tuning.driver import run_sweep  # Ray, which the table does not need

    name = f"{search.replace(' ', '-').lower()}-{repeat}"
    content = {
        "name": name,
        "base": str(ROOT / "configs" / "lines_topo_dmgan.yaml"),
        "overrides": {
            "training.generator_steps": STEPS,
            "training.evaluation_samples": 5000,
            "training.evaluate_every": STEPS,
            "tracking.enabled": False,
        },
        "output": str(OUTPUT),
        "seed": repeat,
        "space": dict.fromkeys(KEYS, "ready"),
        "start_with_base": False,
        "confirm_seeds": 0,
        **SEARCHES[search],
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.yaml"
    path.write_text(to_yaml(validate(SweepConfig, content)))
    if not (OUTPUT / name / "result.json").exists():
        run_sweep(load_sweep(path), resume=True)
    records = [r.metrics for r in read_records(OUTPUT / name / "metrics.jsonl") if "best/score" in r.metrics]
    return [m["trials/generator_steps"] for m in records], [m["best/score"] for m in records]


def best_after(steps: int, curve: Curve) -> float:
    """The best score when so many generator steps of all trials had been done."""
    return [score for done, score in zip(*curve, strict=True) if done <= steps][-1]


def table(results: Mapping[str, Any]) -> list[str]:
    """Median and single scores after half of the budget and all of it, as a Markdown table, the best median in bold."""
    scores = {
        f"{search}, {steps:,} generator steps of all trials": [best_after(steps, curve) for curve in curves]
        for steps in (results["budget"] // 2, results["budget"])
        for search, curves in results["curves"].items()
    }
    best = min(scores, key=lambda name: median(scores[name]))
    rows = []
    for name, found in scores.items():
        middle = f"{median(found):.3f}"
        rows.append([name, f"**{middle}**" if name == best else middle, ", ".join(f"{score:.3f}" for score in found)])
    return markdown(["best score", "median", "repeats"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sweep.json"))
    options = parser.parse_args()
    curves: dict[str, list[Curve]] = {search: [] for search in SEARCHES}
    for repeat in range(options.repeats):
        for search in SEARCHES:
            curves[search].append(sweep(search, repeat))
            print(f"== {search}, repeat {repeat}: {best_after(BUDGET, curves[search][-1]):.4f}", flush=True)
    best = {search: [best_after(BUDGET, curve) for curve in of] for search, of in curves.items()}
    results = {"budget": BUDGET, "steps_of_a_trial": STEPS, "best": best, "curves": curves}
    print("", *table(results), sep="\n")
    write_results(options.out, results)
    title = f"Best score at equal steps, {options.repeats} repeats"
    best_over_steps(curves, "score", title).savefig(options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
