"""Search a space of configurations: many trainings on Ray Tune, ending in a registered model.

    toposampler sweep SWEEP [--key value ...] [--resume] [--dry-run]

SWEEP is a YAML file, or the name of a sweep that comes with the package, such as lines.

Alone it starts a small Ray on this machine and stops it afterwards. As a Ray job, or with
RAY_ADDRESS set, it works on that cluster. A sweep that was stopped resumes with --resume:
trials that have ended are not trained again, the others resume from their newest checkpoints.

  --resume   resume the sweep that the folder holds (or begin it)
  --dry-run  show the space, the number of trials and how many fit at a time, and start nothing
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from toposampler.commands.usage import WIDTH, called, command, described, usage
from toposampler.errors import StorageError, UserError, has_no_room
from toposampler.extras import require
from toposampler.packaged import find

# What is imported in functions below takes seconds, of which --help needs few.
if TYPE_CHECKING:
    from toposampler.tuning.config import Sweep
    from toposampler.tuning.report import SweepReport

EXIT_CODES = """\
exit codes:
  0    done
  1    a fault, with its traceback
  2    bad input: the message says which, and what would be right
  3    the disk is full; once there is room, the same command with --resume continues
  130  stopped by Ctrl-C
  143  stopped by SIGTERM (ray job stop)
"""


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print("\n".join([usage(__doc__, "sweep"), EXIT_CODES, *keys()]))
        return 0 if arguments else 2
    since = time.time()
    stopped_by: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and MLflow are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        rest = [argument for argument in arguments if argument not in ("--dry-run", "--resume")]
        if not rest:
            raise UserError(f"no sweep is given: {called('sweep')} SWEEP --dry-run")
        for package in ("ray", "optuna"):
            require(package, "ray", "a sweep")
        from toposampler.tuning.config import check_objectives, lines, load_sweep
        from toposampler.tuning.driver import run_sweep

        path, *overrides = rest
        sweep = load_sweep(find(path, "sweeps"), overrides)
        print("\n".join([*lines(sweep), room(sweep)]), flush=True)
        if "--dry-run" in arguments:
            check_objectives(sweep, sweep.base.data.load())
            return 0
        ending = run_sweep(sweep, resume="--resume" in arguments, since=since)
        print("\n".join(report(ending)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StorageError, OSError) as error:
        if not has_no_room(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped; the same command with --resume continues", file=sys.stderr)
        return 128 + stopped_by[0]
    return 0


def room(sweep: Sweep) -> str:
    """Where the trials will run, and how many at a time. Raises UserError if this machine has no room for one."""
    from toposampler.tuning.engine import concurrent_trials, nodes
    from toposampler.tuning.room import trials_at_once

    cluster = sweep.base.cluster
    workers = f"{cluster.num_workers} worker{'s'[: cluster.num_workers > 1]} each"
    if address := os.environ.get("RAY_ADDRESS"):
        return f"where      the Ray cluster at {address}, as many trials at a time as fit, {workers}"
    at_a_time = concurrent_trials(nodes(), cluster, sweep.config.max_concurrent)
    if sweep.together:
        most = trials_at_once(sweep, at_a_time)
        return f"where      a Ray on this machine, workers: {at_a_time}, each with up to {most} trials at once"
    return f"where      a Ray on this machine, trials at a time: {at_a_time} (max_concurrent_trials), {workers}"


def report(ending: SweepReport) -> Iterator[str]:
    """The table of all trials, what came of them, and where to look."""
    from toposampler.distributed.driver import where_to_look
    from toposampler.tuning.console import table
    from toposampler.tuning.report import told

    yield ""
    yield from table(ending.sweep, ending.entries, ending.best)
    yield ""
    yield from told(ending)
    tracking = ending.sweep.base.tracking
    if tracking.enabled:
        yield f"look      {where_to_look(tracking, ending.sweep.folder)}"


def keys() -> Iterator[str]:
    """Each key of a SWEEP with its default and meaning, and the ready spaces."""
    from toposampler.config import describe
    from toposampler.keys import ready_ranges
    from toposampler.registry import name_of
    from toposampler.systems import SYSTEM_CLASSES
    from toposampler.tuning.config import SweepConfig
    from toposampler.tuning.spaces import describe_space, parse_parameter

    yield "keys (in SWEEP, or as --key value; lists as JSON) [default]:"
    chosen = {
        f"{key}.name": SweepConfig.model_fields[key].get_default(call_default_factory=True).name
        for key in ("search", "scheduler")
    }
    for key, default, meaning in describe(SweepConfig):
        yield from described(f"--{key}", chosen.get(key, default), meaning)
    for system in SYSTEM_CLASSES.classes():
        ranges = ready_ranges(system(name=name_of(system)), "system.")
        space = {key: parse_parameter(key, written) for key, written in ranges.items()}
        yield f"\nready space of {name_of(system)}:"
        for line in describe_space(space):
            yield from textwrap.wrap(f"  {line}", WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
