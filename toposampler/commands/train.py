"""Train one configuration through Ray, tracked by MLflow.

    python ray_jobs/train.py CONFIG.yaml [--key value ...] [options]
    python ray_jobs/train.py --resume NAME [--output DIR] [--key value ...] [options]

options:
  --dry-run               show what would run, with every key, and start nothing
  --resume NAME           go on with the run NAME as it was configured, instead of a CONFIG.yaml
  --profile               the same as --cluster.profile true
  --submit http://HOST:8265
                          hand this command, with the current folder, to the Ray cluster that has its dashboard there;
                          print the job's log until it ends, and end with its exit code (Ctrl-C leaves it running)
  --wait, --no-wait       with --submit: wait for its end (the default), or only say how to follow and to stop the job

Alone it starts a small Ray on this machine and stops it afterwards. As a Ray job, or with RAY_ADDRESS set, it trains on
that cluster. A run that was stopped goes on from its newest checkpoint when it is submitted again.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toposampler.config import Folder, Section, describe, parse_overrides, to_yaml, validate
from toposampler.distributed.driver import launch
from toposampler.distributed.jobs import follow, how_to_follow, submit
from toposampler.distributed.resources import description
from toposampler.distributed.stop import StoppedBySignalError
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.tracking.uri import how_to_look, tracking_uri
from toposampler.training.config import RunConfig, load_config, run_folder

ONCE = ("--resume", "--submit")
JOB_PACKAGES = "runtime_resources/working_dir_files"  # where Ray unpacks what `ray job submit` uploads

EXIT_CODES = """\
exit codes:
  0    done
  1    a fault, with its traceback
  2    bad input: the message says which, and what would be right
  3    training stopped by its guards: the message says where the last good checkpoint is
  130  stopped by Ctrl-C, with a checkpoint of that moment; a second Ctrl-C stops at once
  143  stopped by SIGTERM (ray job stop), with a checkpoint of that moment
"""


@dataclass
class Command:
    """A command line, taken apart."""

    path: Path | None = None
    """CONFIG.yaml"""
    overrides: list[str] = field(default_factory=list)
    """`--key value`, as they stand"""
    resume: str | None = None
    address: str | None = None
    """of the dashboard that the command is submitted to"""
    dry_run: bool = False
    wait: bool = True


class Place(Section):
    """Of a configuration, where its run lies."""

    output: Folder = RunConfig.model_fields["output"].default


def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print("\n".join([__doc__ or "", EXIT_CODES, *keys()]))
        return 0 if arguments else 2
    stopped_by: list[int] = []
    command: Command | None = None

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and MLflow are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        command = parse(arguments)
        config = load(command)
        print("\n".join(beginning(config, command.address)), flush=True)
        if command.dry_run:
            print(to_yaml(config))
        elif command.address:
            return submitted(command, config)
        else:
            print("\n".join(ending(config, launch(config))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingStoppedError as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 3
    except StoppedBySignalError as error:
        print(f"{error}\nthe same command goes on from there", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        if command is None or command.address is None:
            print("stopped; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 128 + (stopped_by or [signal.SIGINT])[0]
    return 0


def parse(arguments: list[str]) -> Command:
    """Take a command line apart. Raises UserError for one that cannot be."""
    command, rest = Command(), list(arguments)
    given: set[str] = set()
    while rest:
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        if option in ONCE and option in given:
            raise UserError(f"{option} is given twice: leave one of them out")
        if option in ONCE and equals:
            rest.insert(0, value)
        given.add(option)
        match option:
            case "--dry-run":
                command.dry_run = True
            case "--wait" | "--no-wait":
                command.wait = option == "--wait"
            case "--profile":
                command.overrides += ["--cluster.profile", "true"]
            case "--resume":
                command.resume = _value_of(option, rest, "the name of a run")
            case "--submit":
                command.address = _value_of(option, rest, "an address, such as http://127.0.0.1:8265")
            case _ if option.startswith("-"):  # a key, with its value if that is an argument of its own
                takes = not equals and rest and not rest[0].startswith("--")
                command.overrides += [argument, *([rest.pop(0)] if takes else [])]
            case _ if command.path is None:
                command.path = Path(argument)
            case _:
                raise UserError(f"unexpected argument {argument!r}: overrides are written --key value")
    if command.path is None and command.resume is None:
        raise UserError("no configuration is given: python ray_jobs/train.py CONFIG.yaml --dry-run")
    if command.path is not None and command.resume is not None:
        raise UserError(f"--resume {command.resume} has its own configuration: leave {command.path} out")
    if {"--wait", "--no-wait"} & given and command.address is None:
        raise UserError("--wait and --no-wait say what to do after --submit http://HOST:8265, which is not given")
    if {"--wait", "--no-wait"} <= given:
        raise UserError("--wait and --no-wait are both given: leave one of them out")
    if command.address is not None and not re.match("https?://[^/]", command.address):
        right = "http://HEAD:8265" if "://" in command.address else f"http://{command.address}"
        raise UserError(
            f"--submit {command.address}: the dashboard's address starts with http:// or https://, such as {right}"
        )
    return command


def _value_of(option: str, rest: list[str], what: str) -> str:
    """The argument after `option`, taken off `rest`. Raises UserError if there is none."""
    if not rest or not rest[0] or rest[0].startswith("-"):
        raise UserError(f"{option} needs {what}")
    return rest.pop(0)


def load(command: Command) -> RunConfig:
    """The configuration that `command` names. Raises UserError naming what is wrong."""
    if command.path is not None:
        return load_config(command.path, command.overrides)
    name, overrides = str(command.resume), parse_overrides(command.overrides)
    if Path(name).name != name:
        raise UserError(f"--resume {name}: the name of a run is no path; give the folder that holds it by --output")
    if (other := str(overrides.get("name", name))) != name:
        raise UserError(f"--resume {name} goes on with the run of that name: leave --name {other} out")
    folder = Path(validate(Place, {key: overrides[key] for key in ("output",) if key in overrides}).output)
    if command.address and not folder.is_absolute():
        raise UserError(
            f"--resume with --submit: {folder} is not sent along; give --output an absolute path on the cluster"
        )
    if not (folder / name / "config.yaml").exists():
        names = ", ".join(sorted(there.parent.name for there in folder.glob("*/config.yaml"))) or "none"
        raise UserError(f"--resume {name}: {folder / name} holds no run; the runs in {folder} (--output): {names}")
    # Wherever it lay when it was begun, and whatever it was called.
    here = [f"--output={folder}", f"--name={name}"]
    return load_config(folder / name / "config.yaml", [*command.overrides, *here])


def submitted(command: Command, config: RunConfig) -> int:
    """Submit `command` as a Ray job; its exit code, or 0 at once unless it is waited for."""
    script, address = Path("ray_jobs/train.py"), str(command.address)
    if not script.exists():
        raise UserError(f"--submit sends the current folder, {Path.cwd()}, which does not hold {script}")
    what = ["--resume", command.resume] if command.resume else [str(command.path)]
    job = ["python", str(script), *what, *command.overrides]
    submission = submit(address, config, job)
    print(f"job      {submission}\n{how_to_follow(address, submission)}", flush=True)
    if not command.wait:
        return 0
    try:
        return follow(address, submission)
    except KeyboardInterrupt:
        print(f"the job goes on; to stop it: ray job stop --address {address} {submission}", file=sys.stderr)
        raise


def keys() -> Iterator[str]:
    """One line for each key of a configuration: default and meaning."""
    yield "keys (in CONFIG.yaml, or as --key value; lists as JSON), [default]:"
    for key, default, meaning in describe(RunConfig):
        yield f"  --{key} [{default}]  {meaning}"


def beginning(config: RunConfig, address: str | None = None) -> Iterator[str]:
    """What will run, where (`address`: of the dashboard it is submitted to), and where results go."""
    place = (
        f"the Ray cluster at {ray}" if (ray := address or os.environ.get("RAY_ADDRESS")) else "a Ray on this machine"
    )
    folder, training = run_folder(config), config.training
    yield f"run      {config.name}: {config.system.name} on {config.data.name}, generators: {config.system.K}"
    yield f"steps    {training.generator_steps:,} generator steps, {training.critic_steps} critic steps before each"
    yield f"where    {place}, workers: {description(config.cluster)}"
    if address and not Path(config.output).is_absolute():
        yield f"results  {config.output}/{config.name}, in the job's folder on the cluster"
        yield "warning: that folder goes when the Ray job is cleaned up; give --output an absolute path that stays"
        return
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
