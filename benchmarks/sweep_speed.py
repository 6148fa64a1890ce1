"""What does a sweep's search cost? Seconds of whole commands here and in another checkout, by generator steps trained.

    git worktree add /tmp/before COMMIT
    python benchmarks/sweep_speed.py /tmp/before [--steps 3000] [--trials 12] [--only CASE ...] [--out FILE]

`tuning/lines.yaml`'s search (12 trials, ASHA) in the other checkout and here, and the same here with many trials in a
worker, as they come and as a race of `SEEDS` seeds; all search the same space, which one program can vary. One after
the other, each from the start of the command to its end, without the comparison at the end, MLflow and the
registry. ASHA and races train different numbers of steps, so seconds are also given for a thousand of them, and ratios
are of these. With `scheduler none` all 12 trials are trained to their end in both checkouts: equal total steps.
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
from typing import Any

ROOT = Path(__file__).parent.parent
SEEDS = 4
SPACE: dict[str, Any] = {
    "system.n_generators": {"int": [4, 16]},
    "system.prior.entropy_decay": "ready",
    "system.topology_weight": "ready",
}
TOGETHER: dict[str, Any] = {"trials_per_worker": "auto"}
TO_THE_END: dict[str, Any] = {"scheduler": {"name": "none"}}
CASES: dict[str, dict[str, Any]] = {
    "before": {},
    "one trial a worker": {},
    "many trials a worker": TOGETHER,
    "a race": {
        **TOGETHER,
        "scheduler": {"name": "racing", "rungs": 3, "reduction": 3},
        "search": {"name": "random"},
        "repeats": SEEDS,
        "confirm_seeds": 2,
    },
    "before, to the end": TO_THE_END,
    "many trials a worker, to the end": {**TOGETHER, **TO_THE_END},
}
BEFORE = {name: "before, to the end" if name.endswith("to the end") else "before" for name in CASES}
"""what a case is compared with"""


def measure(root: Path, steps: int, trials: int, changes: dict[str, Any]) -> dict[str, float]:
    """Seconds of the search with `changes` in the checkout `root`, and the generator steps that it trained."""
    with tempfile.TemporaryDirectory() as place:
        content = {
            "name": "speed",
            "base": str(root / "configs" / "lines_topo_dmgan.yaml"),
            "overrides": {
                "training.generator_steps": steps,
                "training.evaluation_samples": 5000,
                "tracking.enabled": False,
            },
            "output": place,
            "space": SPACE,
            "trials": trials,
            "scheduler": {"name": "asha", "rungs": 3, "reduction": 3},
            "confirm_seeds": 0,
            **changes,
        }
        path = Path(place) / "speed.yaml"
        path.write_text(json.dumps(content))
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "tuning/sweep.py", str(path)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - start
        trained = json.loads((Path(place) / "speed" / "result.json").read_text())["generator_steps"]
    trained += 2 * content["confirm_seeds"] * steps  # the comparison is a part of every race
    return {"seconds": round(seconds, 1), "generator_steps": trained, "seconds_per_1000": 1e3 * seconds / trained}


def main() -> None:
    """Measure, print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--steps", type=int, default=3000, help="generator steps of a trial")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="cases [all]")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "sweep_speed.json")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for name in options.only:
        root = options.before.resolve() if name in BEFORE.values() else ROOT
        found[name] = measure(root, options.steps, options.trials, CASES[name])
        print(f"{name:24} {json.dumps(found[name])}", flush=True)
    for name, row in found.items():
        if BEFORE[name] in found:
            row["ratio"] = round(row["seconds_per_1000"] / found[BEFORE[name]]["seconds_per_1000"], 3)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.before, capture_output=True, text=True, check=True
    )
    about = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "before": commit.stdout.strip(),
        "steps": options.steps,
        "trials": options.trials,
        "seeds_of_the_race": SEEDS,
    }
    text = json.dumps({**about, "cases": found}, indent=1)
    print(text)
    options.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
