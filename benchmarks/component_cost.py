"""What component_gan costs beside dmgan_pl: CPU time for as many real samples seen by the critic, in one process.

    python benchmarks/component_cost.py [--data lines,grid9] [--rounds 7] [--iterations 40] [--out FILE]

Constants and sizes of `benchmarks/family.py` (component_gan counts its generators, dmgan_pl has K of the table), one
thread. Both are stepped in turn, `--iterations` at a time, so that both meet the same machine; the first round is left
out. component_gan plays its game for all components (`game: always`): where all starts are kept it costs nothing but
its preparation, which is measured too. The ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from family_runs import BATCH, Task, run_config
from populations import loops_of

from runs import write_results
from toposampler.config import merge_overrides, validate
from toposampler.training import RunConfig

SYSTEMS = ("component_gan", "dmgan_pl")


def config_of(data: str, system: str) -> RunConfig:
    """The configuration of `benchmarks/family.py`, with the game played."""
    content = run_config(Task(data, system, 0, None, "runs")).model_dump(mode="json")
    changes: dict[str, Any] = {"system.game": "always"} if system == "component_gan" else {}
    return validate(RunConfig, merge_overrides(content, changes))


def measured(data: str, rounds: int, iterations: int) -> dict[str, Any]:
    """CPU microseconds for each real sample seen, of both systems, and their ratio."""
    configs = {system: config_of(data, system) for system in SYSTEMS}
    dataset = configs["dmgan_pl"].data.load()
    start = time.process_time()
    loops = {"component_gan": loops_of(configs["component_gan"], dataset, [0])[0]}
    prepared = time.process_time() - start
    loops["dmgan_pl"] = loops_of(configs["dmgan_pl"], dataset, [0])[0]
    seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _ in range(1 + rounds):
        for system, loop in loops.items():
            start = time.process_time()
            for _ in range(iterations):
                loop.iteration()
            seconds[system].append(time.process_time() - start)
    row: dict[str, Any] = {"data": data, "prepared_s": round(prepared, 2)}
    for system, config in configs.items():
        seen = iterations * BATCH * config.training.critic_steps
        row[f"{system}_us"] = round(1e6 * median(seconds[system][1:]) / seen, 2)
        row[f"{system}_K"] = loops[system].system.K
    return row | {"ratio": round(row["component_gan_us"] / row["dmgan_pl_us"], 3)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lines,grid9", help="comma-separated names of benchmarks/family.py")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/component_cost.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(data, options.rounds, options.iterations) for data in options.data.split(",")]
    for row in rows:
        print(row)
    write_results(options.out, {"rounds": options.rounds, "iterations": options.iterations, "rows": rows})


if __name__ == "__main__":
    main()
