"""What evaluating every 200 steps costs a training on images: not at all, in the loop, and beside it.

    python benchmarks/beside.py [--config configs/digits_dmgan_pl.yaml] [--steps 1000] [--rounds 3] [--key value ...]
        [--out benchmarks/results/beside.json]

Each way trains the same run in a process of its own, in turns, `rounds` times. It is measured from one checkpoint, at
step 200, to the last that is followed by another, so the first evaluation, which compiles, and the final one are left
out. A ratio is steps a second with evaluations over those without, in the median over rounds: of the clock, and of the
CPU seconds of the process that trains, all its threads, which other programs on the machine change less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from runs import side_by_side, write_results
from toposampler.records import read_records
from toposampler.training import load_config, train
from toposampler.training.config import run_folder

EVERY = 200
NEVER = 10**9
KINDS = ("clock", "cpu")
WAYS = {
    "without": {"training.evaluate_every": NEVER},
    "in the loop": {"training.evaluate_every": EVERY},
    "beside": {"training.evaluate_every": EVERY, "cluster.evaluate_beside": "true"},
}


def measured(config: str, steps: int, overrides: list[str], way: str) -> dict[str, Any]:
    """Seconds a step of one run, by the clock and of CPU, and the metrics it has recorded."""
    torch.set_num_threads(1)
    marks: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        keys = {"output": folder, "training.generator_steps": steps, "training.checkpoint_every": EVERY, **WAYS[way]}
        run = load_config(config, [*overrides, *(str(part) for key, v in keys.items() for part in (f"--{key}", v))])
        train(run, lambda step, _: marks.append((step, time.perf_counter(), time.process_time())), progress=False)
        records = read_records(run_folder(run) / "metrics.jsonl")
    (first, clock, cpu), (last, clock_end, cpu_end) = marks[0], marks[-2]
    return {
        "clock": (clock_end - clock) / (last - first),
        "cpu": (cpu_end - cpu) / (last - first),
        "scores": {str(r.step): r.metrics["eval/score"] for r in records if "eval/score" in r.metrics},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_dmgan_pl.yaml")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/beside.json"))
    options, overrides = parser.parse_known_args()
    rounds: list[dict[str, dict[str, Any]]] = []
    for _ in range(options.rounds):
        seen = {}
        for way in WAYS:
            (seen[way],) = side_by_side(partial(measured, options.config, options.steps, overrides), [way], processes=1)
            print(way, {kind: seen[way][kind] for kind in KINDS}, flush=True)
        if seen["beside"]["scores"] != seen["in the loop"]["scores"]:
            raise SystemExit(f"the scores differ: {seen}")
        rounds.append(seen)
    ratios = {
        way: {kind: statistics.median(seen["without"][kind] / seen[way][kind] for seen in rounds) for kind in KINDS}
        for way in ("in the loop", "beside")
    }
    print(ratios)
    seconds = {way: [{kind: seen[way][kind] for kind in KINDS} for seen in rounds] for way in WAYS}
    about = {"config": options.config, "steps": options.steps, "every": EVERY, "overrides": overrides}
    write_results(options.out, {**about, "seconds_per_step": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
