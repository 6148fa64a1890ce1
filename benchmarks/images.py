"""Color images with R3GAN's networks and game: one generator against several with a learned prior and against several
that have a component of the data each, in legs.

    python benchmarks/images.py --minutes 8 [--data FOLDER] [--only stacked_mnist cifar10] [--device cuda|cpu]
    python benchmarks/images.py --device cpu --size small --minutes 3   sizes for a CPU: pictures, not results
    python benchmarks/images.py --device cpu --size tiny                the smallest sizes, in a minute or two
    python benchmarks/images.py --report                                what has been trained so far, as a table

FOLDER (default `data`) holds `MNIST/raw`; CIFAR-10 in a form that `data.name cifar10` reads, or as the archive
`cifar10/*.npz`; and `faces_bedrooms`, a folder of images with the sub-folders `faces` and `bedrooms`, or the archives
`faces/*.npz` and `bedrooms/*.npz` of which one is made. A data set that is not there is named and skipped.

Each row is a run in `--output` (default `runs/images`) that trains for `--minutes` and stops itself with a checkpoint:
the same command resumes, and ends with exit code 75 until every run is complete. So legs of 8 minutes fit a machine
that is lent for 10, and the sum of their minutes is what a row cost. Rows of one data set share all constants but the
number of generators, so that their metrics compare at equal images and at equal minutes.

`results.json` has the hardware's name and, for each row: images that the critic saw of the data, images a second,
minutes, the share of the card's bf16 peak that the networks' products would take at that speed (three passes a trained
network, four with exact penalties; null where the peak is not known), and the metrics of `metrics.jsonl` against images
seen. DATA_SET.png has real images and samples of each row, as far as it is; the grids of complete runs are in their
`figures`. `toposampler evaluate RUN` adds the metrics that need a classifier, such as the modes of stacked MNIST.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from photographs import faces_and_bedrooms

from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.errors import TimeUsedError, UserError
from toposampler.files import write_atomically
from toposampler.plots import image_grid
from toposampler.records import read_records
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import newest_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.operations import share_of_peak

UNFINISHED = 75
"""exit code while a run has more to train: EX_TEMPFAIL, as of `toposampler train`"""
NETWORKS = {"generator_network": "resnet", "critic_network": "resnet", "latent": {"kind": "normal", "dim": 64}}
BETAS = {"betas": [0.0, 0.9], "final_beta2": 0.99}
GAMMAS = {"stacked_mnist": (1.0, 0.1), "cifar10": (0.05, 0.005), "faces_bedrooms": (2.0, 0.2)}
"""the authors' of the most similar data: faces and bedrooms those of FFHQ-64"""
OUTPUTS = {"stacked_mnist": "linear", "cifar10": "tanh", "faces_bedrooms": "tanh"}
"""how images leave the generators: with tanh those of stacked MNIST turned black"""
GENERATORS = {"stacked_mnist": 10, "cifar10": 10, "faces_bedrooms": 5}
"""K of the rows with several"""
SYSTEMS = ("r3gan", "dmgan_pl", "component_gan")
SHOWN = 10
"""images in a row of a picture"""


@dataclass(frozen=True)
class Size:
    """How large the networks of all rows are, and how long they train."""

    width: int
    depth: int
    batch: int
    steps: int
    burn_in: int
    side: int
    """of faces and bedrooms"""
    stacked: int
    """images of stacked MNIST"""
    evaluated: int
    learning_rate: float


SIZES = {
    "full": Size(192, 2, 256, 40_000, 16_000, 64, 50_000, 10_000, 2e-4),
    "small": Size(16, 1, 32, 4_000, 200, 16, 10_000, 1_000, 1e-3),
    "tiny": Size(16, 1, 8, 4, 2, 16, 1_000, 100, 2e-4),
}


def sources(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The `data` section of each data set that is asked for; of one that is not there, it is said why."""
    folder, size = given.data, SIZES[given.size]
    for name in given.only or GAMMAS:
        if name == "stacked_mnist":
            yield name, {"name": "stacked_mnist", "root": str(folder), "n": size.stacked}
        elif name == "cifar10":
            archives = sorted((folder / "cifar10").glob("*.npz"))
            yield name, {"name": "cifar10", **({"path": str(archives[0])} if archives else {"root": str(folder)})}
        else:
            try:
                place = faces_and_bedrooms(folder, given.output)
            except UserError as error:
                print(f"{name}: skipped: {error}", flush=True)
                continue
            yield name, {"name": "folder", "path": str(place), "size": size.side}


def configs(name: str, data: dict[str, Any], given: argparse.Namespace) -> Iterator[RunConfig]:
    """The runs on one data set. Several generators have a basis each on a shared trunk."""
    size, (gamma, last) = SIZES[given.size], GAMMAS[name]
    rate = {"learning_rate": size.learning_rate, "final_learning_rate": size.learning_rate / 4}
    keys: dict[str, Any] = {
        **NETWORKS, "generator_output": OUTPUTS[name], "generator_width": size.width, "critic_width": size.width,
        "generator_depth": size.depth, "critic_depth": size.depth, "burn_in": size.burn_in,
        "adversarial": "relativistic", "penalty": {"weight": gamma, "final_weight": last},
        "generator": BETAS | rate, "critic": BETAS | rate,
    }  # fmt: skip
    several = {"n_generators": GENERATORS[name], "shared_trunk": True}
    # The prior's bonus is spent by the end of the burn-in.
    prior = {"entropy_schedule": "linear", "entropy_decay_from": 0.1, "entropy_span": 0.3}
    own: dict[str, dict[str, Any]] = {
        "r3gan": {},
        "dmgan_pl": several | {"prior": prior},
        "component_gan": several | {"start_normals": 0},
    }
    for system in given.systems or SYSTEMS:
        content = {
            "name": f"{name}-{system}" + ("" if given.size == "full" else f"-{given.size}"),
            "output": str(given.output),
            "data": data,
            "system": keys | {"name": system} | own[system],
            "training": {
                "batch_size": size.batch, "batch_growth": 1, "critic_steps": 1, "generator_steps": size.steps,
                "learning_rate_decay_from": 1, "ema_decay": 0.9995 if given.size == "full" else 0.99,
                "minutes": given.minutes, "precision": "bf16" if given.device == "cuda" else "fp32",
                "log_every": max(1, size.steps // 200), "evaluate_every": max(1, size.steps // 10),
                "checkpoint_every": max(1, size.steps // 20), "evaluation_samples": size.evaluated,
            },
            "cluster": {"use_gpu": given.device == "cuda"},
            "tracking": {"enabled": False},
        }  # fmt: skip
        yield validate(RunConfig, content)


def row(config: RunConfig, shape: tuple[int, ...], hardware: str) -> dict[str, Any]:
    """What one run has cost and reached so far, from its folder."""
    folder, n = run_folder(config), config.training.batch_size
    newest = newest_checkpoint(folder / "checkpoints")
    records = read_records(folder / "metrics.jsonl")
    result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").exists() else None
    seconds, steps = (newest[1]["seconds"], newest[1]["loop"]["step"]) if newest else (0.0, 0)
    speed = steps * n / seconds if seconds else 0.0
    return {
        "name": config.name,
        "complete": result is not None,
        "images_seen": steps * n,
        "images_per_s": speed,
        "minutes": seconds / 60,
        "share_of_bf16_peak": share_of_peak(config.system.build(shape), speed, hardware),
        "curve": [
            {"images": r.step * n} | {k: v for k, v in r.metrics.items() if k.startswith("eval/")}
            for r in records
            if any(k.startswith("eval/") for k in r.metrics)
        ],
        "metrics": None if result is None else result["metrics"],
        "prior": None if result is None else result["prior"],
    }


def measure(given: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Train what is left to train of each row, a leg each; the table so far, and whether all rows are complete."""
    cuda = given.device == "cuda"
    hardware = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    found: dict[str, Any] = {"hardware": hardware, "torch": torch.__version__, "size": given.size, "rows": []}
    complete = True
    for name, data in sources(given):
        rows = []
        for config in configs(name, data, given):
            try:
                dataset = config.data.load()
            except UserError as error:
                print(f"{name}: skipped: {error}", flush=True)
                break
            if not given.report and not (run_folder(config) / "result.json").exists():
                try:
                    train(config, dataset=dataset)
                except TimeUsedError as error:
                    print(f"{config.name}: {error}", flush=True)
            found["rows"].append(row(config, dataset.shape, hardware))
            complete &= found["rows"][-1]["complete"]
            print(told(found["rows"][-1]), flush=True)
            given.output.mkdir(parents=True, exist_ok=True)
            write_atomically(given.output / "results.json", json.dumps(found, indent=1))
            rows.append((config, found["rows"][-1]))
            picture(name, dataset, rows).savefig(given.output / f"{name}.png")
    return found, complete


def picture(name: str, dataset: Dataset, rows: list[tuple[RunConfig, dict[str, Any]]]) -> Figure:
    """Images of the data, and below them samples of each run that has a checkpoint."""
    real = dataset.x[torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(0))[:SHOWN]]
    shown = [("real", real)]
    for config, about in rows:
        if about["images_seen"]:
            samples = load_model(run_folder(config)).sample(SHOWN, seed=0)[0]
            shown.append((f"{config.system.name}\n{about['images_seen']:,} images", samples))
    return image_grid(shown, name)


def told(row: dict[str, Any]) -> str:
    """A row in words."""
    share = "unknown" if row["share_of_bf16_peak"] is None else f"{row['share_of_bf16_peak']:.1%}"
    return (
        f"{row['name']}: {'complete' if row['complete'] else 'to be resumed'}, {row['images_seen']:,} images, "
        f"{row['images_per_s']:.1f} a second, {row['minutes']:.2f} minutes, share of the bf16 peak: {share}"
    )


def main() -> int:
    """Train, print and keep; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of each row in this call")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path("runs/images"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=tuple(GAMMAS), help="data sets; default: all")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="rows of each data set; default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="full", help="of networks, batches and runs")
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available() and not given.report:
        parser.error("--device cuda: torch sees no CUDA device here; --device cpu --size small is for a CPU")
    if given.minutes <= 0:
        parser.error(f"--minutes {given.minutes:g}: must be more than 0")
    return 0 if measure(given)[1] else UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
