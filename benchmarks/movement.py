"""Whether samples of fixed latents come to rest: the last tenth of a run, with weights as they are (DMGAN, section 2).

    python benchmarks/movement.py [--data lines,grid9,mnist] [--systems ...] [--seeds 3] [--steps 600] [--out DIR]

DMGAN argues that a single generator does not converge locally on disconnected data, its support keeps moving near the
data, and that several do. Here no moving average, no falling learning rate and no growing batch hides that: batches of
64, constants and sizes of `benchmarks/family.py`, all seeds of a system trained at once; MNIST has those of
`configs/mnist_*.yaml` (batches of 32), and is in `--root`. In the last tenth samples of
2,000 fixed latents (and generators, drawn from r(c) at its beginning) are compared ten times with those before:

- sliced: sliced 2-Wasserstein distance of the two clouds, over that of two draws of as many real points;
- moved: median distance that a sample moves, over the standard deviation of the data;
- off: share of samples farther than .05 from the support, which images do not have.

component_gan plays its game for all components (`game: always`); as it is by default it trains nothing on these data.
Writes movement.json, movement.md and movement.png, of all that is measured so far, to `--out`, and resumes where it was
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
from populations import Row, distance, go_on, kept, loops_of, of_latents, stepped
from torch import Tensor

from toposampler.config import merge_overrides, validate
from toposampler.data.base import Dataset
from toposampler.metrics.manifold import off_manifold
from toposampler.plots.style import OKABE_ITO, new_figure
from toposampler.reader import read_yaml
from toposampler.training import RunConfig
from toposampler.training.loop import Loop

SYSTEMS = ("wgan_gp", "dmgan", "dmgan_pl", "component_gan")
SAMPLES, LOOKS = 2000, 10
SEEN = ("sliced", "moved", "off")
MNIST, CONFIGS = "mnist", Path(__file__).parent.parent / "configs"
PLAIN = {"learning_rate_decay_from": 1.0, "ema_decay": 0.0, "batch_growth": 1}
"""keys of `training` that leave the weights as the game has them"""


def config_of(data: str, system: str, steps: int, root: Path) -> RunConfig:
    """The system's constants and sizes of `benchmarks/family.py`, or of MNIST, without what would calm the weights."""
    changes: dict[str, Any] = {f"training.{key}": value for key, value in PLAIN.items()}
    if data == MNIST:
        content = read_yaml(CONFIGS / f"mnist_{system}.yaml")
        changes["data.root"] = str(root)
    else:
        content = run_config(Task(data, system, 0, None, "runs")).model_dump(mode="json")
    changes["training.generator_steps"] = steps
    if system == "component_gan":
        changes["system.game"] = "always"
    return validate(RunConfig, merge_overrides(content, changes))


def fixed_noise(loop: Loop) -> dict[str, Tensor]:
    """Latents and generators that stay the same: one batch of what the system draws."""
    return {name: x[0] for name, x in loop.system.draw(1, SAMPLES, torch.Generator().manual_seed(0)).items()}


def trial_rows(trial: Row, seeds: int, root: Path) -> list[Row]:
    """Of each seed the looks at its last tenth, of a system on a data set."""
    config = config_of(trial["data"], trial["system"], trial["steps"], root)
    dataset = config.data.load()
    loops = loops_of(config, dataset, range(seeds))
    first = trial["steps"] - trial["steps"] // 10
    at = [first + (trial["steps"] - first) * i // LOOKS for i in range(LOOKS + 1)]
    noise: list[dict[str, Tensor]] = []
    before: list[Tensor] = []
    rows: list[Row] = [{"seed": seed, **{name: [] for name in SEEN}} for seed in range(seeds)]
    for step in stepped(loops, at):
        if step == first:
            noise = [fixed_noise(loop) for loop in loops]
        now = [of_latents(loop, of) for loop, of in zip(loops, noise, strict=True)]
        for row, x, y in zip(rows, before, now, strict=False):
            seen = look(x, y, dataset)
            for name, value in seen.items():
                row[name].append(round(value, 5))
        before = now
    return rows


def look(x: Tensor, y: Tensor, dataset: Dataset) -> dict[str, float]:
    """How far samples x (n, *shape) have moved to y, in units of the data."""
    order = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(0))[: 2 * len(x)]
    one, two = dataset.x[order].chunk(2)
    spread = float(dataset.x.flatten(1).var(dim=0).sum().sqrt())
    seen = {
        "sliced": distance(x, y) / distance(one, two),
        "moved": float(torch.linalg.vector_norm((y - x).flatten(1), dim=1).median()) / spread,
    }
    return seen if dataset.manifold is None else {**seen, "off": off_manifold(dataset.manifold.distance(y), 0.05)}


def summary(row: Row) -> dict[str, float]:
    """The means over the looks of a seed."""
    return {name: fmean(row[name]) for name in SEEN if row[name]}


def table(done: list[Row]) -> str:
    """Mean and standard deviation over the seeds, data set by data set."""
    lines = ["| data | system | sliced | moved | off | seeds | steps | CPU-seconds | date |", "|---" * 9 + "|"]
    for trial in done:
        found = [summary(row) for row in trial["rows"]]
        cells = []
        for name in SEEN:
            values = [row[name] for row in found if name in row]
            spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.3g}{spread}" if values else "-")
        more = [trial["seeds"], trial["steps"], f"{trial['cpu_seconds']:.0f}", trial["date"]]
        lines.append(f"| {trial['data']} | {trial['system']} | {' | '.join(cells)} | {' | '.join(map(str, more))} |")
    return "\n".join(lines)


def figure(done: list[Row]) -> Figure:
    """The sliced distance of each look from the one before: a line a seed."""
    names = list(dict.fromkeys(trial["data"] for trial in done))
    drawn = new_figure(4 * len(names) + 2, 3.4, "Movement of samples of fixed latents in the last tenth")
    for i, data in enumerate(names):
        axes = drawn.add_subplot(1, len(names), 1 + i)
        for trial in (trial for trial in done if trial["data"] == data):
            color = OKABE_ITO[SYSTEMS.index(trial["system"])]
            for row in trial["rows"]:
                label = trial["system"] if row is trial["rows"][0] else None
                axes.plot(range(1, LOOKS + 1), row["sliced"], color=color, label=label)
        axes.set_yscale("log")
        axes.axhline(1, color="0.6", linestyle=":")
        axes.set_title(data, fontsize=9)
        axes.set_xlabel("look")
        if i == 0:
            axes.set_ylabel("sliced distance / that of two real draws")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def main() -> None:
    """Train what is missing, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lines,grid9", help="comma-separated: mnist, or of benchmarks/family.py")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder that holds MNIST/raw")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated [all four]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="generator steps, a multiple of 100")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/movement"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked: list[dict[str, Any]] = [
        {"data": data, "system": system, "seeds": options.seeds, "steps": options.steps}
        for data in options.data.split(",")
        for system in options.systems.split(",")
    ]
    path = options.out / "movement.json"
    go_on(path, asked, partial(trial_rows, seeds=options.seeds, root=options.root))
    done = kept(path)
    text = table(done)
    (options.out / "movement.md").write_text(f"# Movement\n\n`python benchmarks/movement.py`\n\n{text}\n")
    figure(done).savefig(options.out / "movement.png")
    print(text)


if __name__ == "__main__":
    main()
