"""One configuration trained with several seeds at once: a run for each, the members of a population.

Each member is a run like any other, in the folder `seed-N` below the run's, with its own checkpoints, records and
result: it can be sampled, evaluated, resumed. Workers share the members out, and do not wait for each other. A member
whose loss is not finite ends alone. The result of the whole tells mean, spread and extremes over the members.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from toposampler.config import to_yaml
from toposampler.data import Dataset
from toposampler.errors import RunInterruptedError, StorageError, TrainingStoppedError, UserError
from toposampler.files import write_atomically
from toposampler.nn.custom import Networks
from toposampler.records import RecordWriter
from toposampler.training.conclusion import write_page
from toposampler.training.config import RunConfig, in_run, run_folder, seeds_of
from toposampler.training.console import shown
from toposampler.training.lock import PATIENCE_S, TRAINING, locked
from toposampler.training.memory import check_fits
from toposampler.training.process_group import ONE_PROCESS, ProcessGroup
from toposampler.training.progress import of_runs
from toposampler.training.run import Run, alike, begin, check, keep_shorter_result
from toposampler.training.stopping import ShouldStop, Stopping
from toposampler.training.together import advance_together, finish_together

FAILURE = "failed"
"""file in a member's folder: why it has ended without a result"""
SAVED = ".saved-"
"""file in the folder of all, with a rank: this worker has stopped, with a checkpoint of each of its members"""
POLL_S = 0.2
GRACE_S = 15.0
"""how long rank 0 waits for the checkpoints of other workers when it is asked to stop"""

log = logging.getLogger(__name__)


def members_of(config: RunConfig) -> list[RunConfig]:
    """The configuration of each member: named seed-N, in the folder of `config`."""
    folder = in_run(config)
    return [
        config.model_copy(update={"name": f"seed-{seed}", "output": folder, "seed": seed, "seeds": None})
        for seed in seeds_of(config)
    ]


def train_seeds(
    config: RunConfig,
    should_stop: ShouldStop = lambda: None,
    dataset: Dataset | None = None,
    networks: Networks | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Train all members of `config` to the end, each from its newest good checkpoint.

    Args are those of `toposampler.training.train`; in a process group every process trains some of the members.

    Returns on rank 0 the content of the `result.json` in the folder of `config`, once all members have ended; None on
    other ranks. Raises as `train`, but TrainingStoppedError only if no member has come to its end.
    """
    group, folder = ProcessGroup.current(), run_folder(config)
    members = members_of(config)
    mine = members[group.rank :: group.size]
    with ExitStack() as stack:
        dataset = alike(group, lambda: _prepared(config, members, stack, group, dataset, networks))
        if progress:
            stack.enter_context(shown(config, dataset))
        try:
            _train(config, mine, should_stop, dataset, networks, reports=group.rank == 0)
        except RunInterruptedError:
            (folder / f"{SAVED}{group.rank}").touch()
            if group.rank == 0:
                _wait_for_checkpoints(folder, members, group)
            raise
        except (UserError, StorageError) as error:
            if isinstance(error, UserError) or group.rank > 0:  # rank 0 waits for these members
                _fail(mine, str(error))
            if group.size == 1 or isinstance(error, StorageError):
                raise
        if group.rank > 0:
            return None
        _wait(members, should_stop)
        result = summary(members)
        _draw(next(member for member in members if member.seed == result["typical"]), dataset, networks)
        (folder / "figures").mkdir(exist_ok=True)
        write_page(folder, result)
        write_atomically(folder / "result.json", json.dumps(result, indent=2))
        return result


def _prepared(
    config: RunConfig,
    members: Sequence[RunConfig],
    stack: ExitStack,
    group: ProcessGroup,
    dataset: Dataset | None,
    networks: Networks | None,
) -> Dataset:
    """The data, once it is known that they can be trained on; rank 0 keeps others off the folder."""
    dataset = config.data.load() if dataset is None else dataset
    if group.rank == 0:
        folder = run_folder(config)
        check(config, dataset, networks)
        stack.enter_context(locked(folder, TRAINING, PATIENCE_S))
        write_atomically(folder / "config.yaml", to_yaml(config))
        for marker in folder.glob(f"{SAVED}*"):
            marker.unlink()
        for member in members:
            (run_folder(member) / FAILURE).unlink(missing_ok=True)
            keep_shorter_result(run_folder(member), config.training.generator_steps)
    return dataset


def _train(
    config: RunConfig,
    members: Sequence[RunConfig],
    should_stop: ShouldStop,
    dataset: Dataset,
    networks: Networks | None,
    reports: bool,
) -> None:
    """Train `members` to their results in this process; with `reports` their means are records of the whole run."""
    with ExitStack() as stack:
        runs: list[Run] = []
        for member in members:
            prepared = runs[0].prepared if runs else None
            run = stack.enter_context(begin(member, None, lambda: None, dataset, networks, ONE_PROCESS, prepared))
            if not runs:
                check_fits(run.loop, len(members))
            else:
                run.loop.data, run.loop.labels = runs[0].loop.data, runs[0].loop.labels  # one copy for all
            runs.append(run)
        stopping = Stopping(ONE_PROCESS, should_stop)
        records = RecordWriter(run_folder(config) / "metrics.jsonl") if reports else None
        failed: list[Run] = []

        def fails(run: Run, error: TrainingStoppedError) -> None:
            log.warning("%s ends without a result: %s", run.config.name, error)
            _fail([run.config], str(error))
            failed.append(run)

        def after(step: int, alive: Sequence[Run], recorded: Sequence[dict[str, float]]) -> None:
            if records is not None and recorded:
                records.write(step, {"members": float(len(recorded)), **of_runs(recorded)})
            if reason := stopping.after(step):
                for run in alive:
                    run.save()
                message = f"stopped after generator step {step}, with a checkpoint of each member"
                raise RunInterruptedError(message, reason)

        advance_together(runs, config.training.generator_steps, fails, after)
        left = (run for run in runs if run not in failed and not (run.folder / "result.json").exists())
        finish_together(left, fails)


def _fail(members: Sequence[RunConfig], message: str) -> None:
    """Note of members that have no result why they end without one."""
    for member in members:
        folder = run_folder(member)
        if not (folder / "result.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / FAILURE, message)


def _draw(member: RunConfig, dataset: Dataset, networks: Networks | None) -> None:
    """Draw the figures of one member, in its folder: those of all would take longer than their training."""
    with begin(member, None, lambda: None, dataset, networks, ONE_PROCESS) as run:
        run.finish()


def _wait(members: Sequence[RunConfig], should_stop: ShouldStop) -> None:
    """Wait until every member, those of other workers too, has ended."""
    while not all(_has_ended(run_folder(member)) for member in members):
        if reason := should_stop():
            raise RunInterruptedError("stopped while other workers still train their members", reason)
        time.sleep(POLL_S)


def _wait_for_checkpoints(folder: Path, members: Sequence[RunConfig], group: ProcessGroup) -> None:
    """Wait until each other worker has saved checkpoints of its members, or has ended them."""
    deadline = time.monotonic() + GRACE_S
    for rank in range(1, group.size):
        while not (folder / f"{SAVED}{rank}").exists() and time.monotonic() < deadline:
            if all(_has_ended(run_folder(member)) for member in members[rank :: group.size]):
                break
            time.sleep(POLL_S)


def _has_ended(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("result.json", FAILURE))


def summary(members: Sequence[RunConfig]) -> dict[str, Any]:
    """The result of all members, from theirs: of each metric the mean as in a run's result, and `spread`.

    `spread` has of each metric the standard deviation, the least and the greatest value; `members` the results by seed,
    `failed` the reasons of those without one; `typical` is the seed whose metrics are closest to the means, and `model`
    its checkpoint. Raises TrainingStoppedError if no member has a result.
    """
    results: dict[int, dict[str, Any]] = {}
    failed: dict[int, str] = {}
    for member in members:
        path = run_folder(member) / "result.json"
        if path.exists():
            results[member.seed] = json.loads(path.read_text())
        else:
            failed[member.seed] = (run_folder(member) / FAILURE).read_text()
    if not results:
        seed, reason = next(iter(failed.items()))
        raise TrainingStoppedError(f"no seed has come to a result; seed {seed}: {reason}")
    rows = [result["metrics"] | {"active_generators": result["active_generators"]} for result in results.values()]
    spread = {name: _spread([row[name] for row in rows]) for name in rows[0]}
    means = {name: values["mean"] for name, values in spread.items()}
    typical = min(results, key=lambda seed: _distance(results[seed], spread))
    return {
        "metrics": {name: mean for name, mean in means.items() if name != "active_generators"},
        "prior": None,
        "active_generators": means["active_generators"],
        "generator_steps": results[typical]["generator_steps"],
        "seconds": max(result["seconds"] for result in results.values()),
        "model": results[typical]["model"],
        "typical": typical,
        "spread": spread,
        "members": {str(seed): result for seed, result in results.items()},
        "failed": {str(seed): reason for seed, reason in failed.items()},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def _distance(result: dict[str, Any], spread: dict[str, dict[str, float]]) -> float:
    """How far a member's metrics are from the means, in standard deviations: the sum of squares."""
    return sum(
        ((value - spread[name]["mean"]) / spread[name]["sd"]) ** 2
        for name, value in result["metrics"].items()
        if spread[name]["sd"] > 0
    )
