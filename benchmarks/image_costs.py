"""Images a second of R3GAN by the side of the images and the width of its networks, on one thread of this CPU.

    python benchmarks/image_costs.py [--sides 16 32 64] [--widths 16 32 64] [--out benchmarks/results/image_costs.json]

Each figure is what `toposampler train CONFIG --dry-run` prints for such a configuration on color images (one residual
block a stage, exact R1 and R2, one critic step a generator step): a batch of 32, from the quickest of three iterations
on batches of 4 and 16, or of 4 alone where those are long. A table is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from table_text import markdown

from runs import write_results
from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.training import RunConfig
from toposampler.training.cost import measured

BATCH, DEPTH = 32, 1


def images_per_s(side: int, width: int) -> float:
    """Real images that the critic sees a second."""
    sizes = {f"{who}_{what}": n for who in ("generator", "critic") for what, n in (("width", width), ("depth", DEPTH))}
    networks = {"generator_network": "resnet", "critic_network": "resnet", "latent": {"kind": "normal", "dim": 64}}
    content: dict[str, Any] = {
        "name": "cost", "data": {"name": "folder", "path": ".", "size": side},
        "system": {"name": "r3gan", **networks, **sizes},
        "training": {"batch_size": BATCH, "batch_growth": 1, "critic_steps": 1},
    }  # fmt: skip
    config = validate(RunConfig, content)
    data = Dataset(torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return measured(config, data, config.system.prepare(data)).images_per_s


def table(results: dict[str, Any]) -> list[str]:
    """The lines of the Markdown table: images a second by side and width."""
    speeds: dict[str, dict[str, float]] = results["images_per_s"]
    head = ["pixels", *(f"width {width}" for width in next(iter(speeds.values())))]
    return markdown(head, ([f"{side} x {side}", *(f"{x:.3g}" for x in row.values())] for side, row in speeds.items()))


def main() -> None:
    """Measure, print and keep."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64])
    line.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    line.add_argument("--out", type=Path, default=Path("benchmarks/results/image_costs.json"))
    given = line.parse_args()
    torch.set_num_threads(1)
    found = {f"{side}": {f"{width}": images_per_s(side, width) for width in given.widths} for side in given.sides}
    results = {"batch": BATCH, "depth": DEPTH, "images_per_s": found}
    write_results(given.out, results)
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
