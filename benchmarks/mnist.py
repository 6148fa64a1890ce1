"""MNIST: Component GAN, DMGAN-PL, DMGAN, NWGAN and WGAN-GP under one budget, to be evaluated beside the real digits.

    python benchmarks/mnist.py --root FOLDER [--systems dmgan_pl,wgan_gp] [--seeds 3] [--processes 2]
    python ray_jobs/evaluate.py runs/benchmark-mnist/* -n 5000 --draws 1
    python benchmarks/tables.py mnist mnist_variety

Every critic sees 256,000 real images in batches of 32: 8,000 outer iterations with one critic step of the DMGANs, 4,000
with two of the others (`configs/mnist_*.yaml`), 10 to 18 minutes of one core. Component GAN is fitted and not trained,
with its seed for the images that it looks at (`partition.seed`), in two minutes. FOLDER holds MNIST/raw.
Runs are kept in `runs/benchmark-mnist`: the benchmark resumes where it was stopped. The second command writes all
metrics as CSV: `benchmarks/results/mnist.csv` is a copy, of which the third prints tables.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from table_text import markdown, mean_sd

from runs import side_by_side, trained
from toposampler.training import load_config
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
SYSTEMS = ("component_gan", "dmgan_pl", "wgan_gp", "dmgan", "nwgan")
OVER = "mean ± standard deviation over seeds"
REAL = "real"
"""in the place of a system: real images that the others are not compared with"""
CLASSES = range(10)


@dataclass(frozen=True)
class Column:
    """A metric in the table."""

    metric: str
    heading: str
    form: str
    more: bool | None = None
    """more is better, less is, or neither; the best system's mean is in bold"""


COLUMNS = (
    Column("jsd_nats_conf0.8", "JSD, sure samples", ".4f", False),
    Column("confident_0.8", "share that is sure", ".3f", True),
    Column("jsd_nats_argmax", "JSD, argmax class", ".4f", False),
    Column("quality_0.9", "quality at .9", ".3f", True),
    Column("fd_classifier_5000", "fd of classifier features", ".1f", False),
    Column("precision_k3_classifier", "precision", ".3f", True),
    Column("recall_k3_classifier", "recall", ".3f", True),
    Column("active_generators", "active generators", ".1f"),
    Column("purity", "purity", ".3f", True),
)
Values = Mapping[str, Mapping[str, list[float]]]
"""by system and metric, the values over seeds"""


def run(task: tuple[str, int, Path]) -> Path:
    """Train one model, or find it; its run's folder."""
    system, seed, root = task
    overrides = ["--output", "runs/benchmark-mnist", "--name", f"{system}-{seed}", "--seed", str(seed)]
    overrides += ["--data.root", str(root), "--training.checkpoint_every", "500"]
    if system == "component_gan":  # else what is fitted would be alike for all seeds
        overrides += ["--system.partition.seed", str(seed)]
    config = load_config(CONFIGS / f"mnist_{system}.yaml", overrides)
    result = trained(config)
    print(f"{config.name}: {result['seconds']:.0f} s, {result['active_generators']} active", flush=True)
    return run_folder(config)


def by_system(lines: Iterable[Mapping[str, str]]) -> Values:
    """What the lines of mnist.csv say of single runs (`dmgan_pl-0`) and of real images."""
    values: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        run = line["row"]
        system, _, seed = run.rpartition("-")
        if run == REAL or seed.isdecimal():  # the others are means over seeds
            values.setdefault(system or run, {}).setdefault(line["metric"], []).append(float(line["mean"]))
    return values


def table(lines: Iterable[Mapping[str, str]]) -> list[str]:
    """Main metrics of each system as a Markdown table, mean and standard deviation over the seeds, the best in bold."""
    values = by_system(lines)

    def cell(system: str, column: Column) -> str:
        text = mean_sd(values[system].get(column.metric, []), column.form)
        if column.more is None:
            return text
        best = (max if column.more else min)(SYSTEMS, key=lambda other: fmean(values[other][column.metric]))
        return f"**{text}**" if system == best else text

    rows = [[_named(values, name), *(cell(name, column) for column in COLUMNS)] for name in (REAL, *SYSTEMS)]
    return markdown([OVER, *(column.heading for column in COLUMNS)], rows)


def variety(lines: Iterable[Mapping[str, str]]) -> list[str]:
    """How varied each class is, against as many real images: a Markdown table over the seeds."""
    values = by_system(lines)
    rows = [
        [_named(values, system), *(mean_sd(values[system][f"msd_ratio_class_{k}"], ".2f") for k in CLASSES)]
        for system in (REAL, *SYSTEMS)
    ]
    return markdown([f"{OVER}; class", *map(str, CLASSES)], rows)


def _named(values: Values, system: str) -> str:
    """`system`, with the number of its seeds."""
    n = len(values[system][COLUMNS[0].metric])
    return system if system == REAL else f"{system}, {n} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated [all]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tasks = [
        (system, seed, options.root)
        for seed, system in itertools.product(range(options.seeds), options.systems.split(","))
    ]
    side_by_side(run, tasks, options.processes)


if __name__ == "__main__":
    main()
