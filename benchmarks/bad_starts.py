"""Bad starts: generators whose weights are drawn at other scales than usual, or that all start alike (DMGAN).

    python benchmarks/bad_starts.py [--systems wgan_gp,dmgan_pl,component_gan] [--seeds 5] [--steps 300] [--out DIR]

DMGAN claims that several small generators stand bad starts better than one large. Here generators of the four lines are
drawn as usual, biases too, and multiplied by .1, .3, 1, 3 and 10; or at the usual scale all generators of a system are
copies of the first (`alike`; a single generator has nothing to be like). All else is as in `benchmarks/family.py`, in a
short run. Starts and seeds of a system are trained at once, and evaluated by 4,000 samples of the moving average.
component_gan plays its game for all components (`game: always`), and its last layers, 0 by default, are drawn like the
others. Writes bad_starts.json, .md and .png, of all that is measured so far, to `--out`, and resumes where it was
stopped.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from family_runs import Task, run_config
from matplotlib.figure import Figure
from populations import Row, go_on, kept, loops_of, stepped

from toposampler.config import merge_overrides, validate
from toposampler.metrics.evaluate import evaluate
from toposampler.plots.style import OKABE_ITO, new_figure
from toposampler.systems.base import System
from toposampler.training import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.sampling import draw_samples

DATA, SAMPLES = "lines", 4000
SYSTEMS = ("wgan_gp", "dmgan_pl", "component_gan")
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
ALIKE = "alike"
STARTS: tuple[float | str, ...] = (*SCALES, ALIKE)


def config_of(system: str, steps: int) -> RunConfig:
    """The constants and sizes of `benchmarks/family.py`, for `steps` generator steps."""
    content = run_config(Task(DATA, system, 0, None, "runs")).model_dump(mode="json")
    changes: dict[str, Any] = {"training.generator_steps": steps}
    if system == "component_gan":
        changes["system.game"] = "always"
    return validate(RunConfig, merge_overrides(content, changes))


@torch.no_grad()
def badly_started(system: System, start: float | str) -> None:
    """Draw the last layers of component_gan's generators, and multiply all generators by the scale `start`, or make
    them copies of the first."""
    stacked = list(system.generators.parameters())
    *_, weight, bias = stacked
    if not weight.any():
        bound = weight.shape[-1] ** -0.5  # torch's own for linear layers
        weight.uniform_(-bound, bound)
        bias.uniform_(-bound, bound)
    for parameter in stacked:
        if start == ALIKE:
            parameter.copy_(parameter[:1].expand_as(parameter).clone())
        else:
            parameter.mul_(float(start))


def trial_rows(trial: Row) -> list[Row]:
    """All starts and seeds of a system, trained at once."""
    config = config_of(trial["system"], trial["steps"])
    dataset = config.data.load()
    starts: list[float | str] = [*SCALES, *([] if trial["system"] == "wgan_gp" else [ALIKE])]
    loops: list[Loop] = []
    for start in starts:
        loops += loops_of(config, dataset, range(trial["seeds"]), changed=partial(badly_started, start=start))
    list(stepped(loops, [trial["steps"]]))
    rows = []
    for i, loop in enumerate(loops):
        row: Row = {"start": starts[i // trial["seeds"]], "seed": i % trial["seeds"]}
        with loop.averaged() as system:
            x, ids = draw_samples(system, SAMPLES, seed=0)
            prior = system.prior()
        if not torch.isfinite(x).all():
            rows.append(row | {"failed": "samples are not finite"})
            continue
        found = evaluate(dataset, x, ids, prior, 0, SAMPLES, loop.system.least_active)
        names = ("score", "off_manifold_0.05", "coverage_0.05_min", "mass_tv", "sliced_wasserstein_2")
        rows.append(row | {name: round(found[name], 5) for name in names})
    return rows


def by_start(trial: Row, name: str) -> dict[float | str, list[float]]:
    """The values of a metric by start."""
    found: dict[float | str, list[float]] = {}
    for row in trial["rows"]:
        found.setdefault(row["start"], []).append(row.get(name, float("nan")))
    return found


def table(done: list[Row]) -> str:
    """The score, mean ± standard deviation over the seeds (greatest), by start."""
    lines = [f"| system | {' | '.join(map(str, STARTS))} | steps | seeds | date |", "|---" * (len(STARTS) + 4) + "|"]
    for trial in done:
        found, cells = by_start(trial, "score"), []
        for start in STARTS:
            values = found.get(start, [])
            spread = f" ± {stdev(values):.2f} ({max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.3f}{spread}" if values else "-")
        more = f"{trial['steps']} | {trial['seeds']} | {trial['date']}"
        lines.append(f"| {trial['system']} | {' | '.join(cells)} | {more} |")
    return "\n".join(lines)


def figure(done: list[Row]) -> Figure:
    """The score of every seed by start."""
    drawn = new_figure(7, 3.6, "Four lines: score after bad starts (0 perfect, 3 worst)")
    axes = drawn.add_subplot()
    for i, trial in enumerate(done):
        found = by_start(trial, "score")
        for start, values in found.items():
            place = STARTS.index(start) + 0.2 * (i - 1)
            label = trial["system"] if start == STARTS[0] else None
            axes.plot([place] * len(values), values, "o", color=OKABE_ITO[i], alpha=0.7, label=label)
    axes.set_xticks(range(len(STARTS)), [f"x {start:g}" if isinstance(start, float) else start for start in STARTS])
    axes.set_ylabel("score")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def main() -> None:
    """Train what is missing, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated [all three]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="generator steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bad_starts"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked: list[dict[str, Any]] = [
        {"system": system, "seeds": options.seeds, "steps": options.steps} for system in options.systems.split(",")
    ]
    path = options.out / "bad_starts.json"
    go_on(path, asked, trial_rows)
    done = kept(path)
    text = table(done)
    head = (
        "# Bad starts\n\n`python benchmarks/bad_starts.py`; the score by start: mean ± standard deviation (worst).\n\n"
    )
    (options.out / "bad_starts.md").write_text(f"{head}{text}\n")
    figure(done).savefig(options.out / "bad_starts.png")
    print(text)


if __name__ == "__main__":
    main()
