"""Why does R3GAN leave five of six samples between the Gaussians of a grid? One constant at a time, and then several.

    python benchmarks/r3gan_grid.py [--data grid9,grid] [--seeds 3] [--share 0.25] [--variants NAME ...] [--out DIR]

The base is R3GAN's row of `benchmarks/family.py`: its networks, constants and real samples (`--share` of them, in as
many steps of a batch as that takes). A variant changes what `VARIANTS` says. Constants are chosen on grid9, a grid of
3x3 Gaussians of unequal masses; grid, of 5x5, is looked at. Seeds of a variant are trained at once. Writes
r3gan_grid.json to `--out`, and resumes where it was stopped; `tables.py --write` puts its table into docs/r3gan.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from family_runs import TARGETS, Task, run_config
from populations import Row, go_on, loops_of, stepped
from table_text import markdown, mean_sd

from toposampler.config import merge_overrides, validate
from toposampler.metrics.evaluate import evaluate
from toposampler.training import RunConfig
from toposampler.training.sampling import draw_samples

SAMPLES = 10_000
FAST = {"system.generator.learning_rate": 3e-3, "system.critic.learning_rate": 3e-3}
NORMAL = {"system.latent.kind": "normal", "system.latent.dim": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "batch 256 from the start": {"training.batch_size": 256, "training.batch_growth": 1},
    "batch 64 to the end": {"training.batch_growth": 1},
    "constant learning rates": {"training.learning_rate_decay_from": 1},
    "learning rates fall from the start": {"training.learning_rate_decay_from": 0},
    "beta2 .99": {"system.generator.betas": [0.0, 0.99], "system.critic.betas": [0.0, 0.99]},
    "beta2 .999": {"system.generator.betas": [0.0, 0.999], "system.critic.betas": [0.0, 0.999]},
    "learning rates 3e-4": {"system.generator.learning_rate": 3e-4, "system.critic.learning_rate": 3e-4},
    "learning rates 3e-3": FAST,
    "gamma 1": {"system.penalty.weight": 1.0},
    "gamma .01": {"system.penalty.weight": 0.01},
    "gamma 1 to .01": {"system.penalty.weight": 1.0, "system.penalty.final_weight": 0.01},
    "one critic step": {"training.critic_steps": 1},
    "normal latents of 2 dimensions": NORMAL,
    "networks twice as wide": {"system.generator_width": 128, "system.critic_width": 256},
    "critic twice as wide": {"system.critic_width": 256},
    "3e-3, normal latents": FAST | NORMAL,
    "3e-3, normal latents, one critic step": FAST | NORMAL | {"training.critic_steps": 1},
}
"""what differs from the base, by name"""


def config_of(data: str, variant: str, share: float) -> RunConfig:
    """The run of a variant: as many real samples as the family's, times `share`."""
    budget = int(share * TARGETS[data].budget)
    base = run_config(Task(data, "r3gan", 0, budget, "runs"))
    content = merge_overrides(base.model_dump(mode="json"), VARIANTS[variant])
    training = content["training"]
    start = training["batch_growth_from"]
    grown = start + (1 - start) * training["batch_growth"]
    training["generator_steps"] = round(budget / (training["critic_steps"] * training["batch_size"] * grown))
    return validate(RunConfig, content)


def trial_rows(trial: Row) -> list[Row]:
    """All seeds of a variant, trained at once; `SAMPLES` of the moving average are evaluated."""
    config = config_of(trial["data"], trial["variant"], trial["share"])
    dataset, rows = config.data.load(), []
    loops = loops_of(config, dataset, range(trial["seeds"]))
    list(stepped(loops, [config.training.generator_steps]))
    for seed, loop in enumerate(loops):
        with loop.averaged() as system:
            x, _ = draw_samples(system, SAMPLES, seed=seed)
        if not torch.isfinite(x).all():
            rows.append({"seed": seed, "failed": "samples are not finite"})
            continue
        found = evaluate(dataset, x, None, None, seed)
        names = ("high_quality_3sd", "modes_covered_3sd", "mass_tv", "score")
        rows.append({"seed": seed, **{name: round(found[name], 4) for name in names}})
    return rows


def table(done: list[Row]) -> list[str]:
    """A row for each variant and data set: mean ± standard deviation over the seeds, the base first."""
    rows = []
    for trial in done:
        cells = [trial["data"], trial["variant"]]
        for name, form in (
            ("high_quality_3sd", ".1%"),
            ("modes_covered_3sd", ".1f"),
            ("mass_tv", ".3f"),
            ("score", ".2f"),
        ):
            cells.append(mean_sd([row[name] for row in trial["rows"] if name in row], form))
        share, seeds = trial["share"], len(trial["rows"])
        steps = config_of(trial["data"], trial["variant"], share).training.generator_steps
        rows.append([*cells, f"{share:.0%}", f"{steps:,}", f"{seeds}", f"{trial['cpu_seconds'] / seeds:.0f}"])
    heads = ["data", "variant", "within 3 standard deviations", "modes", "error of the masses (TV)", "score"]
    heads += ["real samples of the family's", "generator steps", "seeds", "CPU seconds per seed"]
    return markdown(heads, rows)


def kept_table(results: dict[str, Any]) -> list[str]:
    """The table of what was measured, for the documentation."""
    return table(results["trials"])


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="grid9,grid", help="comma-separated [grid9,grid]")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.25, help="of the family's real samples [0.25]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/r3gan_grid"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = [
        {"data": data, "variant": variant, "seeds": options.seeds, "share": options.share}
        for variant in options.variants
        for data in options.data.split(",")
    ]
    print(*table(go_on(options.out / "r3gan_grid.json", asked, trial_rows)), sep="\n")


if __name__ == "__main__":
    main()
