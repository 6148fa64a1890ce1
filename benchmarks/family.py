"""Every system of `toposampler.systems` on every data set of the family, with one budget for all.

    python benchmarks/family.py [--systems wgan_gp,dmgan_pl] [--data ring,grid] [--seeds 3] [--together]
                                [--workers 2] [--mlflow]

Data: lines of equal and of unequal masses, nested circles, the ring of 8 and the grid of 25 Gaussians, a 3x3 grid whose
masses fall from 9 to 1, a grid of 25 whose masses rise from 1 to 25, a grid of 100, two spheres, two 100-spheres,
digits, and three that are one piece: a Gaussian, a ring, a Swiss roll. A system
takes part by `configs/ring_NAME.yaml`: it is trained with the constants there (on digits with those of
`configs/digits_NAME.yaml`, if it has one), at its own number of critic steps to a generator step, until its critic has
seen as many real samples as every other's (2,240,000 of points, 256,000 of images; `--budget` for all). Sizes are the
data set's (`family_runs.TARGETS`).
Runs go side by side over Ray, on one thread each: 29 to 195 seconds for points of the plane, 135 to 407 for spheres,
105 to 892 for digits. One seed of all data sets and 17 systems took 5.0 hours of one core, so 3 take 15.

After each run `--out` holds its row in DATA.json, after each data set DATA.md (the table), DATA.png (samples) and
README.md (scores of all data sets so far). Runs are kept in `--runs`: the benchmark resumes where it was stopped, and
reads what is complete. Rows of DATA.json whose runs are not there, made on another machine, count as long as their
constants (`constants` in the same file) are today's: systems and seeds are added to them, and the picture stays as it
is. A key that came later must have its default.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import family_report
from family_runs import ENTRANTS, REAL, TARGETS, Task, are_todays, constants_of, fingerprint, run_config, run_seeds

from runs import write_results
from toposampler.config import TrackingConfig, flatten
from toposampler.data.base import SyntheticConfig
from toposampler.distributed.driver import tags
from toposampler.distributed.pool import on_workers
from toposampler.errors import UserError
from toposampler.training.config import run_folder
from toposampler.training.lock import locked

Row = dict[str, Any]


def tasks_of(data: Sequence[str], systems: Sequence[str], seeds: int, budget: int | None, runs: Path) -> list[Task]:
    """All runs, data set by data set. Raises UserError if a configuration is missing or wrong."""
    tasks = [
        Task(*names, budget, str(runs.absolute()))
        for names in itertools.product(data, [*systems, REAL], range(seeds))
        if names[1] != REAL or isinstance(TARGETS[names[0]].data, SyntheticConfig)  # there are no new real images
    ]
    for task in tasks:
        if task.system != REAL:
            run_config(task)
    return tasks


@contextmanager
def recorded(folder: Path, enabled: bool) -> Iterator[Callable[[Task, Row], None]]:
    """Within the block, delivers each run that it is called with, and its row, to MLflow, below one run for all."""
    if not enabled:
        yield lambda task, row: None
        return
    from toposampler.tracking.server import check_server  # seconds to import, needed for --mlflow only
    from toposampler.tracking.tracker import PARENT, Tracker
    from toposampler.tracking.uri import how_to_look, tracking_uri

    experiment, uri = TrackingConfig().experiment, tracking_uri(TrackingConfig(), folder)
    check_server(uri)
    print("look     ", how_to_look(uri))
    parent = Tracker(folder, uri, experiment, {}, {"kind": "benchmark"})
    parent.deliver()

    def record(task: Task, row: Row) -> None:
        if parent.run_id is None or task.system == REAL:
            return
        config = run_config(task)
        marks = {PARENT: parent.run_id, "kind": "benchmark run", "target": task.data}
        parameters = flatten(config.model_dump(mode="json"))
        child = Tracker(run_folder(config), uri, experiment, parameters, tags(config) | marks)
        child.close("FAILED" if "failed" in row else "FINISHED")

    try:
        yield record
    except KeyboardInterrupt:
        parent.close("KILLED")
        raise
    except BaseException:
        parent.close("FAILED")
        raise
    parent.close("FINISHED")


def known_rows(data: str, options: argparse.Namespace) -> list[Row]:
    """What `--out` holds of a data set with today's constants. Raises UserError if it is of another budget."""
    path = options.out / f"{data}.json"
    if not path.exists():
        return []
    results, budget = json.loads(path.read_text()), options.budget or TARGETS[data].budget
    if results["critic_samples"] != budget:
        raise UserError(f"{path} is of a budget of {results['critic_samples']}, not {budget}: choose another --out")

    todays = {
        row["constants"]: fingerprint(constants_of(task))
        for row in results["rows"]
        if row["system"] in (*ENTRANTS, REAL)
        for task in [Task(data, row["system"], row["seed"], options.budget, "")]
        if are_todays(results["constants"][row["constants"]], task)
    }
    return [row | {"constants": todays[row["constants"]]} for row in results["rows"] if row["constants"] in todays]


def groups(tasks: Iterable[Task], together: bool) -> list[list[Task]]:
    """The runs that one process does at a time: one, or `together` all seeds of a system on a data set."""
    if not together:
        return [[task] for task in tasks]
    return [list(some) for _, some in itertools.groupby(tasks, key=lambda task: (task.data, task.system))]


def at_hand(task: Task) -> bool:
    """Whether a run is complete in `--runs`, to be read again."""
    return task.system != REAL and (run_folder(run_config(task)) / "result.json").exists()


def benchmark(options: argparse.Namespace) -> None:
    """Train what is missing, and write the report of each data set as soon as its last run has ended."""
    tasks = tasks_of(options.data, options.systems, options.seeds, options.budget, options.runs)
    rows = {data: {(row["system"], row["seed"]): row for row in known_rows(data, options)} for data in options.data}
    missing = {
        (task.data, task.system, task.seed): task
        for task in tasks
        if (task.system, task.seed) not in rows[task.data] or at_hand(task)
    }
    left = Counter(task.data for task in missing.values())
    for folder in (options.runs, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(options.runs), recorded(options.runs.absolute(), options.mlflow) as record:
        for data in options.data:
            if not left[data]:
                report(options, data, write_rows(options, data, rows[data].values()))
        found = on_workers(lambda: run_seeds, groups(missing.values(), options.together), options.workers)
        for row in itertools.chain.from_iterable(found):
            data, system, seed = row["data"], row["system"], row["seed"]
            rows[data][system, seed] = row
            left[data] -= 1
            said = row.get("failed") or f"score {row['score']:.3f}, {row.get('seconds', 0):.0f} s"
            print(f"{data}, {system}, seed {seed}: {said}; {left[data]} runs to go", flush=True)
            record(missing[data, system, seed], row)
            so_far = write_rows(options, data, rows[data].values())
            if not left[data]:
                report(options, data, so_far)


def write_rows(options: argparse.Namespace, data: str, rows: Iterable[Row]) -> list[Row]:
    """Write DATA.json, with as many runs as there are; they come back in its order."""
    ordered = sorted(rows, key=lambda row: (row["system"], row["seed"]))
    budget = options.budget or TARGETS[data].budget
    every = [constants_of(Task(data, system, 0, options.budget, "")) for system in {row["system"] for row in ordered}]
    constants = {fingerprint(of_a_system): of_a_system for of_a_system in every}
    content = {"data": data, "critic_samples": budget, "constants": dict(sorted(constants.items())), "rows": ordered}
    write_results(options.out / f"{data}.json", content)
    return ordered


def report(options: argparse.Namespace, data: str, rows: list[Row]) -> None:
    """Write the page and the picture of a data set of which DATA.json has all runs, and print the table."""
    tasks = [Task(data, row["system"], row["seed"], options.budget, str(options.runs.absolute())) for row in rows]
    family_report.write(options.out, data, rows, tasks, options.budget or TARGETS[data].budget)
    print("\n" + family_report.table(data, rows) + "\n", flush=True)


def names(allowed: Sequence[str]) -> Any:
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not known; choose from {', '.join(allowed)}")
        return chosen

    return parse


def positive(text: str) -> int:
    """A parser of whole numbers from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=names(ENTRANTS), default=list(ENTRANTS), help="comma-separated [all]")
    parser.add_argument("--data", type=names(list(TARGETS)), default=list(TARGETS), help="comma-separated [all]")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--budget", type=positive, help="real samples that each critic sees [see above]")
    parser.add_argument("--together", action="store_true", help="train all seeds of a system at once, as a population")
    parser.add_argument("--workers", type=positive, default=2, help="runs at a time, one CPU each")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-family"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/family"))
    parser.add_argument(
        "--mlflow", action="store_true", help="record all runs below one, at MLFLOW_TRACKING_URI or in --runs"
    )
    try:
        benchmark(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
