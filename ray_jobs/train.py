"""Train one configuration through Ray, tracked by MLflow.

    python ray_jobs/train.py CONFIG.yaml [--key value ...] [--dry-run]

Alone it starts a small Ray on this machine and stops it afterwards. Under
`ray job submit --working-dir . -- python ray_jobs/train.py ...`, or with RAY_ADDRESS set, it trains on that cluster.
A run that was stopped goes on from its newest checkpoint when it is submitted again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toposampler.config import describe, to_yaml
from toposampler.distributed.launch import launch
from toposampler.distributed.resources import required
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.tracking.uri import how_to_look, tracking_uri
from toposampler.training.config import RunConfig, load_config, run_folder

JOB_PACKAGES = "runtime_resources/working_dir_files"  # where Ray unpacks what `ray job submit` uploads

EXIT_CODES = """\
exit codes:
  0    done
  1    a fault, with its traceback
  2    bad input: the message says which, and what would be right
  3    training stopped by its guards: the message says where the last good checkpoint is
  130  stopped by Ctrl-C
  143  stopped by SIGTERM (ray job stop)
"""


def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print("\n".join([__doc__ or "", EXIT_CODES, *keys()]))
        return 0 if arguments else 2
    stopped_by: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and MLflow are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        config_and_overrides = [argument for argument in arguments if argument != "--dry-run"]
        if not config_and_overrides:
            raise UserError("no configuration is given: python ray_jobs/train.py CONFIG.yaml --dry-run")
        path, *overrides = config_and_overrides
        config = load_config(Path(path), overrides)
        print("\n".join(beginning(config)), flush=True)
        if "--dry-run" in arguments:
            print(to_yaml(config))
            return 0
        print("\n".join(ending(config, launch(config))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingStoppedError as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 128 + stopped_by[0]
    return 0


def keys() -> Iterator[str]:
    """One line for each key of a configuration: default and meaning."""
    yield "keys (in CONFIG.yaml, or as --key value; lists as JSON), [default]:"
    for key, default, meaning in describe(RunConfig):
        yield f"  --{key} [{default}]  {meaning}"


def beginning(config: RunConfig) -> Iterator[str]:
    """What will run, where, and where results go."""
    asked = ", ".join(f"{amount:g} {kind}" for kind, amount in required(config.cluster).items() if amount)
    place = f"the Ray cluster at {address}" if (address := os.environ.get("RAY_ADDRESS")) else "a Ray on this machine"
    folder, training = run_folder(config), config.training
    yield f"run      {config.name}: {config.system.name} on {config.data.name}, generators: {config.system.K}"
    yield f"steps    {training.generator_steps:,} generator steps, {training.critic_steps} critic steps before each"
    yield f"where    {place}, workers: {config.cluster.num_workers} ({asked})"
    yield f"results  {folder}"
    if JOB_PACKAGES in str(folder):
        yield "warning: this folder goes when the Ray job is cleaned up; give --output an absolute path that stays"


def ending(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """The result as a table, and where to look."""
    folder = run_folder(config)
    rows = {**result["metrics"], **{key: result[key] for key in ("active_generators", "generator_steps", "seconds")}}
    width = max(map(len, rows))
    yield from (f"  {name:<{width}}  {value:>10.5g}" for name, value in rows.items())
    yield f"figures  {folder / 'figures'}"
    yield f"samples  {folder / 'samples.npz'}"
    yield f"model    {result['model']}"
    if config.tracking.enabled:
        yield f"look     {how_to_look(tracking_uri(config.tracking, folder.parent))}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
