"""What does it cost to train with many seeds at once? Seconds of whole commands, as ratios to one seed.

    git worktree add /tmp/before COMMIT
    python benchmarks/seeds.py /tmp/before [--seeds 32] [--workers 2] [--out benchmarks/results/seeds.json]
    python benchmarks/seeds.py . --seeds 8 -- --training.generator_steps 2000

One after the other: `ray_jobs/train.py configs/lines_dmgan_pl.yaml` in the checkout that is given, with one seed, and
here with `--seeds N` on `--cluster.num_workers W`, each from the start of the command to its end: Ray, training,
evaluations, figures; MLflow is left out. One seed is trained before the many and once more after them, as a machine's
speed drifts; the ratio is to the mean of the two. `throughput` is N times the seconds of one seed by those of all. What
is after `--` is added to both commands.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parent.parent
CONFIG = "configs/lines_dmgan_pl.yaml"
GOAL = 4
"""active generators of a run that has found the four segments"""


def seconds_of(root: Path, output: Path, options: list[str]) -> float:
    """The seconds that the command takes in the checkout `root`."""
    command = [sys.executable, "ray_jobs/train.py", CONFIG, "--output", str(output), "--tracking.enabled", "false"]
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([*command, *options], cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def measure(before: Path, seeds: int, workers: int, options: list[str]) -> dict[str, Any]:
    """Seconds of one seed in `before` and of all seeds here, and what came of them."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place)
        ones = [seconds_of(before, output, ["--name", "one", *options])]
        many = ["--name", "many", "--seeds", str(seeds), "--cluster.num_workers", str(workers)]
        together = seconds_of(ROOT, output, [*many, *options])
        ones.append(seconds_of(before, output, ["--name", "once-more", *options]))
        alone = json.loads((output / "one" / "result.json").read_text())
        result = json.loads((output / "many" / "result.json").read_text())
    one = fmean(ones)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "seeds": seeds,
        "workers": workers,
        "options": options,
        "seconds_of_one": [round(seconds, 1) for seconds in ones],
        "seconds_of_all": round(together, 1),
        "ratio": round(together / one, 2),
        "throughput": round(seeds * one / together, 2),
        "off_manifold_of_one": alone["metrics"]["off_manifold_0.05"],
        "off_manifold": result["spread"]["off_manifold_0.05"],
        "with_four_generators": sum(r["active_generators"] == GOAL for r in result["members"].values()),
        "failed": result["failed"],
    }


def main() -> None:
    """Measure, print and keep what was found."""
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, options = arguments[:cut], arguments[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="checkout whose command trains the one seed")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    found = measure(given.before.resolve(), given.seeds, given.workers, options)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
