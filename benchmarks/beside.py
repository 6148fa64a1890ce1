"""What an evaluation costs the process that trains: in the loop, and beside it (`cluster.evaluate_beside`).

    python benchmarks/beside.py [--config configs/digits_dmgan_pl.yaml] [--rounds 3] [--key value ...]
        [--out benchmarks/results/beside.json]

One process trains, and between some iterations evaluates, in turns in either way. Counted are its CPU seconds, all
threads, which other programs on the machine change less than the clock; the first of each kind, which compiles, is left
out. The ratio is steps a second with an evaluation at every 200 steps over those without, from the medians: what it
would be by the clock where the process beside has CPUs of its own, and no evaluation outlasts 200 steps. With `--clock`
whole stretches of 200 iterations are timed by the clock too, without an evaluation and with one of either kind at their
start, in turns: for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from runs import write_results
from toposampler.training import load_config
from toposampler.training.beside import Beside, Drawn, Entry
from toposampler.training.evaluator import SpawnedEvaluator
from toposampler.training.run import Run, begin
from toposampler.training.sampling import draw_samples

EVERY, ITERATIONS = 200, 30


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def drawn(run: Run) -> Drawn:
    """What an evaluation during training looks at."""
    with run.loop.averaged() as system:
        samples, ids = draw_samples(system, run.config.training.evaluation_samples // 5, run.config.seed)
    prior = run.loop.system.prior()
    return Drawn(
        run.dataset.to_units(samples.float().cpu()), ids.cpu(), None if prior is None else prior.detach().cpu()
    )


def measured(run: Run, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each iteration and of each evaluation, by its kind."""
    beside = Beside(run.sample_metrics, SpawnedEvaluator)

    def handed_over() -> None:
        beside.add(Entry(run.loop.step, {}, None), drawn(run))
        beside.ready(wait=True)  # so that iterations are not measured meanwhile

    kinds: dict[str, Callable[[], object]] = {
        "in the loop": lambda: run.sample_metrics.metrics(drawn(run)),
        "beside": handed_over,
    }
    for work in (run.loop.iteration, *kinds.values()):
        work()
    seconds: dict[str, list[float]] = {"iteration": [], "in the loop": [], "beside": []}
    for _ in range(rounds):
        seconds["iteration"] += [cpu_seconds(run.loop.iteration) for _ in range(ITERATIONS)]
        for kind, work in kinds.items():
            seconds[kind].append(cpu_seconds(work))
    beside.close()
    return seconds


def by_clock(run: Run, rounds: int) -> dict[str, list[float]]:
    """Seconds of each stretch of `EVERY` iterations, by what was begun before them."""
    beside = Beside(run.sample_metrics, SpawnedEvaluator)
    kinds: dict[str, Callable[[], object]] = {
        "without": lambda: None,
        "in the loop": lambda: run.sample_metrics.metrics(drawn(run)),
        "beside": lambda: beside.add(Entry(run.loop.step, {}, None), drawn(run)),
    }
    kinds["beside"]()
    beside.ready(wait=True)  # the process is there
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, begin_evaluation in kinds.items():
            start = time.monotonic()
            begin_evaluation()
            for _ in range(EVERY):
                run.loop.iteration()
            seconds[kind].append(time.monotonic() - start)
            beside.ready(wait=True)
    beside.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_dmgan_pl.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", action="store_true", help="time by the clock too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/beside.json"))
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, begin(
        load_config(options.config, [*overrides, "--output", folder])
    ) as run:  # fmt: skip
        seconds = measured(run, options.rounds)
        clock = by_clock(run, options.rounds) if options.clock else {}
    medians = {kind: round(statistics.median(values), 4) for kind, values in seconds.items()}
    without = EVERY * medians["iteration"]
    ratios = {kind: round(without / (without + medians[kind]), 4) for kind in ("in the loop", "beside")}
    print(medians, ratios)
    about = {"config": options.config, "overrides": overrides, "every": EVERY}
    found = {**about, "cpu_seconds": medians, "ratios": ratios}
    if clock:
        medians = {kind: round(statistics.median(values), 3) for kind, values in clock.items()}
        ratios = {kind: round(medians["without"] / medians[kind], 4) for kind in ("in the loop", "beside")}
        print(medians, ratios)
        found |= {"clock_seconds": medians, "clock_ratios": ratios}
    write_results(options.out, found)


if __name__ == "__main__":
    main()
