"""Color images with R3GAN's networks and game: one generator against several with a learned prior, in legs.

    python benchmarks/images.py --minutes 8 [--data FOLDER] [--only stacked_mnist cifar10] [--device cuda|cpu]
    python benchmarks/images.py --device cpu --tiny                  the smallest sizes, in a minute or two
    python benchmarks/images.py --report                             what has been trained so far, as a table

FOLDER (default `data`) holds `MNIST/raw`; CIFAR-10 in a form that `data.name cifar10` reads, or as the archive
`cifar10/*.npz`; and `faces_bedrooms`, a folder of images with the sub-folders `faces` and `bedrooms`. A data set that
is not there is named and skipped.

Each row is a run in `--output` (default `runs/images`) that trains for `--minutes` and stops itself with a checkpoint:
the same command resumes, and ends with exit code 75 until every run is complete. So legs of 8 minutes fit a machine
that is lent for 10, and the sum of their minutes is what a row cost. Rows of one data set share all constants but the
number of generators, so that their metrics compare at equal images and at equal minutes.

`results.json` has the hardware's name and, for each row: images that the critic saw of the data, images a second,
minutes, the share of the card's bf16 peak that the networks' products would take at that speed (three passes a trained
network, four with exact penalties; null where the peak is not known), and the metrics of `metrics.jsonl` against images
seen. The grids are in each run's `figures`; `toposampler evaluate RUN` adds the metrics that need a classifier, such as
the modes of stacked MNIST.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from toposampler.config import merge_overrides, validate
from toposampler.errors import TimeUsedError, UserError
from toposampler.files import write_atomically
from toposampler.records import read_records
from toposampler.training import RunConfig, train
from toposampler.training.checkpoint import newest_checkpoint
from toposampler.training.config import run_folder

UNFINISHED = 75
"""exit code while a run has more to train: EX_TEMPFAIL, as of `toposampler train`"""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12}
"""dense bf16 products, in operations a second, from NVIDIA's data sheets, by a part of the card's name"""
NETWORKS = {"generator_network": "resnet", "critic_network": "resnet", "latent": {"kind": "normal", "dim": 64}}
ADAM = {"learning_rate": 2e-4, "betas": [0.0, 0.9], "final_learning_rate": 5e-5, "final_beta2": 0.99}
GAMMAS = {"stacked_mnist": (1.0, 0.1), "cifar10": (0.05, 0.005), "faces_bedrooms": (2.0, 0.2)}
"""the authors' of the most similar data: faces and bedrooms those of FFHQ-64"""
GENERATORS = {"stacked_mnist": 10, "cifar10": 10, "faces_bedrooms": 5}
"""K of the row with several"""
SIZES = {"width": 192, "depth": 2, "batch": 256, "steps": 40_000, "burn_in": 16_000}
TINY = {"width": 16, "depth": 1, "batch": 8, "steps": 4, "burn_in": 2}


def sources(folder: Path) -> dict[str, dict[str, Any]]:
    """The `data` section of each data set below `folder`."""
    archives = sorted((folder / "cifar10").glob("*.npz")) if (folder / "cifar10").is_dir() else []
    cifar = {"path": str(archives[0])} if archives else {"root": str(folder)}
    return {
        "stacked_mnist": {"name": "stacked_mnist", "root": str(folder)},
        "cifar10": {"name": "cifar10", **cifar},
        "faces_bedrooms": {"name": "folder", "path": str(folder / "faces_bedrooms"), "size": 64},
    }


def configs(name: str, data: dict[str, Any], given: argparse.Namespace) -> Iterator[RunConfig]:
    """The runs on one data set: r3gan, and DMGAN-PL with a basis for each of K generators on a shared trunk."""
    size, (gamma, last) = TINY if given.tiny else SIZES, GAMMAS[name]
    keys: dict[str, Any] = {
        **NETWORKS, "generator_width": size["width"], "critic_width": size["width"],
        "generator_depth": size["depth"], "critic_depth": size["depth"], "burn_in": size["burn_in"],
        "adversarial": "relativistic", "penalty": {"weight": gamma, "final_weight": last},
        "generator": ADAM, "critic": ADAM,
    }  # fmt: skip
    several = {"name": "dmgan_pl", "n_generators": GENERATORS[name], "shared_trunk": True}
    steps = size["steps"]
    for system in ({"name": "r3gan"}, several):
        content = {
            "name": f"{name}-{system['name']}" + ("-tiny" if given.tiny else ""),
            "output": str(given.output),
            "data": data | ({"size": 16} if given.tiny and name == "faces_bedrooms" else {}),
            "system": keys | system,
            "training": {
                "batch_size": size["batch"], "batch_growth": 1, "critic_steps": 1, "generator_steps": steps,
                "learning_rate_decay_from": 1, "ema_decay": 0.9995, "minutes": given.minutes,
                "precision": "bf16" if given.device == "cuda" else "fp32", "log_every": max(1, steps // 200),
                "evaluate_every": max(1, steps // 10), "checkpoint_every": max(1, steps // 20),
                "evaluation_samples": 100 if given.tiny else 10_000,
            },
            "cluster": {"use_gpu": given.device == "cuda"},
            "tracking": {"enabled": False},
        }  # fmt: skip
        if system["name"] == "dmgan_pl":  # the prior's bonus is spent by the end of the burn-in
            prior = {"entropy_schedule": "linear", "entropy_decay_from": 0.1, "entropy_span": 0.3}
            content = merge_overrides(content, {"system.prior": prior})
        yield validate(RunConfig, content)


def operations(config: RunConfig, shape: tuple[int, ...]) -> float:
    """Operations (products and sums) of the networks for one image that is trained on.

    A critic step has a critic of one real and one generated image, and the generator's pass; a generator step has both
    networks once more, and the critic of the real image. A backward pass costs two forward passes, and a penalty's
    second derivative one more forward and backward of the critic.
    """
    system = config.system.build(shape)
    with torch.no_grad():
        noise = {key: x[0] for key, x in system.draw(1, 2, torch.Generator().manual_seed(0)).items()}
        made, generator = _counted(system, lambda: system.generate(noise))
        _, critic = _counted(system, lambda: system.critic(made))
    critic_step = generator + 2 * critic * (3 + 3)
    generator_step = 3 * generator + (1 + 3) * critic
    return critic_step + generator_step


def _counted(system: nn.Module, action: Any) -> tuple[torch.Tensor, float]:
    """What `action` returns for two images, and its operations for one."""
    with FlopCounterMode(display=False) as counter:
        result = action()
    return result, counter.get_total_flops() / 2


def row(config: RunConfig, shape: tuple[int, ...], hardware: str) -> dict[str, Any]:
    """What one run has cost and reached so far, from its folder."""
    folder, n = run_folder(config), config.training.batch_size
    newest = newest_checkpoint(folder / "checkpoints")
    records = read_records(folder / "metrics.jsonl")
    result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").exists() else None
    seconds, steps = (newest[1]["seconds"], newest[1]["loop"]["step"]) if newest else (0.0, 0)
    speed = steps * n / seconds if seconds else 0.0
    peak = next((value for part, value in PEAKS.items() if part in hardware), None)
    return {
        "name": config.name,
        "complete": result is not None,
        "images_seen": steps * n,
        "images_per_s": speed,
        "minutes": seconds / 60,
        "share_of_bf16_peak": None if peak is None else speed * operations(config, shape) / peak,
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
    found: dict[str, Any] = {"hardware": hardware, "torch": torch.__version__, "tiny": given.tiny, "rows": []}
    complete = True
    for name, data in sources(given.data).items():
        if given.only and name not in given.only:
            continue
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
    return found, complete


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
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, for a test")
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available() and not given.report:
        parser.error("--device cuda: torch sees no CUDA device here; --device cpu --tiny runs small rows on the CPU")
    if given.minutes <= 0:
        parser.error(f"--minutes {given.minutes:g}: must be more than 0")
    return 0 if measure(given)[1] else UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
