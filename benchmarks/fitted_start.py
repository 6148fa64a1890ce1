"""Does a start on the data help the papers' systems? `system.fitted_start` on and off, on data of the family.

    python benchmarks/fitted_start.py [--data lines,grid9] [--systems dmgan_pl] [--seeds 3] [--share 0.1] [--out DIR]

Networks, constants and real samples are those of `benchmarks/family.py` (`--share` of the samples), on the data that
constants are chosen on. Seeds are trained at once. `start` is the score before the first step. Writes
fitted_start.json to `--out`, and resumes where it was stopped; `tables.py --write` puts its table into
docs/component_gan.md.
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
from toposampler.training.loop import Loop
from toposampler.training.sampling import draw_samples

SAMPLES = 10_000
SYSTEMS = ("dmgan", "dmgan_pl", "topo_dmgan", "toposampler")


def config_of(trial: Row) -> RunConfig:
    """The run of a trial: the family's row, with `share` of its real samples."""
    budget = int(trial["share"] * TARGETS[trial["data"]].budget)
    content = run_config(Task(trial["data"], trial["system"], 0, budget, "runs")).model_dump(mode="json")
    return validate(RunConfig, merge_overrides(content, {"system.fitted_start": trial["fitted"]}))


def trial_rows(trial: Row) -> list[Row]:
    """All seeds, trained at once; `SAMPLES` of the moving average are evaluated, at the start and at the end."""
    config = config_of(trial)
    dataset = config.data.load()
    loops = loops_of(config, dataset, range(trial["seeds"]))

    def scores(loop: Loop, seed: int) -> dict[str, float]:
        with loop.averaged() as system:
            x, c = draw_samples(system, SAMPLES, seed=seed)
            found = evaluate(dataset, x, c, system.prior(), seed)
        return {name: round(found[name], 4) for name in ("score", "active_generators") if name in found}

    before = [scores(loop, seed) for seed, loop in enumerate(loops)]
    list(stepped(loops, [config.training.generator_steps]))
    return [{"seed": seed, "start": before[seed]["score"], **scores(loop, seed)} for seed, loop in enumerate(loops)]


def table(done: list[Row]) -> list[str]:
    """A row for each data set and system: scores with and without, mean ± standard deviation over the seeds."""

    def cell(rows: list[Row], name: str, form: str) -> str:
        return mean_sd([row[name] for row in rows if name in row], form)

    rows = []
    pairs = {(trial["data"], trial["system"], trial["share"]): trial for trial in done if trial["fitted"]}
    for (data, system, share), fitted in pairs.items():
        asked = {"data": data, "system": system, "share": share, "fitted": False, "seeds": fitted["seeds"]}
        plain = next((trial for trial in done if asked.items() <= trial.items()), None)
        if plain is None:
            continue
        row = [data, system, f"{share:.0%}", str(fitted["seeds"])]
        for trial in (plain, fitted):
            row += [cell(trial["rows"], "score", ".3f"), cell(trial["rows"], "active_generators", ".1f")]
        rows.append([*row, cell(fitted["rows"], "start", ".3f")])
    heads = ["data", "system", "real samples of the family's", "seeds", "score", "active generators"]
    heads += ["score, fitted start", "active generators, fitted start", "score of that start itself"]
    return markdown(heads, rows)


def kept_table(results: dict[str, Any]) -> list[str]:
    """The table of what was measured, for the documentation."""
    return table(results["trials"])


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lines,grid9", help="comma-separated [%(default)s]")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.1, help="of the family's real samples [0.1]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fitted_start"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = [
        {"data": data, "system": system, "seeds": options.seeds, "share": options.share, "fitted": fitted}
        for data in options.data.split(",")
        for system in options.systems.split(",")
        for fitted in (False, True)
    ]
    print(*table(go_on(options.out / "fitted_start.json", asked, trial_rows)), sep="\n")


if __name__ == "__main__":
    main()
