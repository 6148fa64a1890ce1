"""Train one configuration through Ray, tracked by MLflow.

    python ray_jobs/train.py CONFIG.yaml [--key value ...] [options]
    python ray_jobs/train.py --resume NAME [--output DIR] [--key value ...] [options]

options:
  --dry-run               show what would run, with every key, and start nothing
  --resume NAME           go on with the run in the folder NAME of --output as it was configured, instead of a
                          CONFIG.yaml
  --profile               the same as --cluster.profile true
  --submit http://HOST:8265
                          hand this command, with the current folder, to the Ray cluster that has its dashboard there;
                          print the job's log until it ends, and end with its exit code (Ctrl-C leaves it running)
  --wait, --no-wait       with --submit: follow the job to its end (the default); or only say how to follow and to
                          stop it

Alone it starts a small Ray on this machine and stops it afterwards. As a Ray job, or with RAY_ADDRESS set, it trains on
that cluster. A run that was stopped goes on from its newest checkpoint when it is submitted again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toposampler.config import Section, describe, parse_overrides, to_yaml, validate
from toposampler.distributed.jobs import follow, how_to_follow, submit
from toposampler.distributed.launch import launch
from toposampler.distributed.resources import description
from toposampler.distributed.stop import StoppedBySignalError
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.tracking.uri import how_to_look, tracking_uri
from toposampler.training.config import RunConfig, load_config, run_folder

JOB_PACKAGES = "runtime_resources/working_dir_files"  # where Ray unpacks what `ray job submit` uploads

OPTIONS = ("--dry-run", "--profile", "--wait", "--no-wait")
OPTIONS_WITH_VALUE = {
    "--resume": "the name of a run",
    "--submit": "an address, such as http://127.0.0.1:8265",
}

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
    """`--key value`, as they stand, or `--key=value`"""
    resume: str | None = None
    address: str | None = None
    """of the dashboard that the command is submitted to"""
    dry_run: bool = False
    wait: bool = True

    @property
    def to_submit(self) -> list[str]:
        """The arguments with which a job does what this does, but for submitting."""
        what = ["--resume", self.resume] if self.resume is not None else [str(self.path)]
        return [*what, *self.overrides]


class Place(Section):
    """Of a configuration, where its run lies."""

    output: str = RunConfig.model_fields["output"].default


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
        command = parse(arguments)
        config = load(command)
        print("\n".join(beginning(config, command.address)), flush=True)
        if command.dry_run:
            print(to_yaml(config))
        elif command.address:
            return submitted(command, command.address, config)
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
    except UnfollowedError as error:
        print(error, file=sys.stderr)
        return 128 + stopped_by[0]
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 128 + stopped_by[0]
    return 0


def parse(arguments: list[str]) -> Command:
    """Take a command line apart. Raises UserError for one that cannot be."""
    command, rest = Command(), list(arguments)
    options: dict[str, str | None] = {}
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument in OPTIONS or name in OPTIONS_WITH_VALUE:
            if name in options:
                raise UserError(f"{name} is given twice: leave one of them out")
            if name in OPTIONS_WITH_VALUE and not equals:
                value = rest.pop(0) if rest and not rest[0].startswith("-") else ""
            if name in OPTIONS_WITH_VALUE and not value:
                raise UserError(f"{name} needs {OPTIONS_WITH_VALUE[name]}")
            options[name] = value
            command.overrides += ["--cluster.profile", "true"] if name == "--profile" else []
        elif argument.startswith("-"):  # a key, with its value if that is an argument of its own
            takes = not equals and rest and not rest[0].startswith("--")
            command.overrides += [argument, *([rest.pop(0)] if takes else [])]
        elif command.path is None:
            command.path = Path(argument)
        else:
            raise UserError(f"unexpected argument {argument!r}: overrides are written --key value")
    command.resume, command.address = options.get("--resume"), options.get("--submit")
    command.dry_run, command.wait = "--dry-run" in options, "--no-wait" not in options
    check_options(command, options.keys())
    return command


def check_options(command: Command, given: Collection[str]) -> None:
    """Raises UserError for options that do not go together, and for values that they cannot have."""
    if command.path is None and command.resume is None:
        raise UserError("no configuration is given: python ray_jobs/train.py CONFIG.yaml --dry-run")
    if command.path is not None and command.resume is not None:
        raise UserError(f"--resume {command.resume} has its own configuration: leave {command.path} out")
    if command.resume is not None and Path(command.resume).name != command.resume:
        where = Path(command.resume)
        right = f": --resume {where.name}" if where.name else ""
        right += f" --output {where.parent}" if where.name and where.parent.name else ""
        raise UserError(f"--resume {command.resume} must be a name; the folder that holds the run is --output{right}")
    if command.address is not None and not re.match("https?://[^/]", command.address):
        right = "http://HEAD:8265" if "://" in command.address else f"http://{command.address}"
        raise UserError(f"--submit {command.address} must begin with http:// or https://, such as {right}")
    if {"--wait", "--no-wait"} <= set(given):
        raise UserError("--wait and --no-wait are given: leave one of them out")
    if command.address is None and (alone := {"--wait", "--no-wait"} & set(given)):
        raise UserError(f"{alone.pop()} is for --submit, which it tells whether to follow the job: leave it out")


def load(command: Command) -> RunConfig:
    """The configuration that `command` names. Raises UserError naming what is wrong."""
    if command.path is not None:
        return load_config(command.path, command.overrides)
    overrides = parse_overrides(command.overrides)
    output = Path(validate(Place, {key: overrides[key] for key in ("output",) if key in overrides}).output)
    resume = f"--resume {command.resume}"
    if (name := str(overrides.get("name", command.resume))) != command.resume:
        raise UserError(f"{resume} goes on with the run of that name: leave --name {name} out")
    if command.address and not output.is_absolute():
        raise UserError(
            f"{resume}: a job has a working folder of its own, without the runs in {output}; give --output an absolute "
            "path that the nodes of the cluster see"
        )
    path = output / str(command.resume) / "config.yaml"
    if not path.exists():
        names = ", ".join(sorted(there.parent.name for there in output.glob("*/config.yaml"))) or "none"
        raise UserError(f"{resume}: {path} does not exist; the runs in {output} (--output): {names}")
    # Wherever it lay and whatever it was called when it was begun. In quotes: a name may look like a number.
    here = {"output": str(output), "name": command.resume}
    quoted = [part for key, value in here.items() for part in (f"--{key}", json.dumps(value, ensure_ascii=False))]
    return load_config(path, [*command.overrides, *quoted])


class UnfollowedError(Exception):
    """A signal ended this process, which followed a job, and not the job."""


def submitted(command: Command, address: str, config: RunConfig) -> int:
    """Submit `command` as a Ray job; its exit code, or 0 at once if it does not wait.

    Raises UnfollowedError if it is interrupted while it waits.
    """
    script = Path(__file__).resolve()
    if not script.is_relative_to(Path.cwd()):
        raise UserError(f"--submit sends the current folder: change to {script.parents[1]}, which holds this script")
    submission = submit(address, config, ["python", str(script.relative_to(Path.cwd())), *command.to_submit])
    print(f"job      {submission}\n{how_to_follow(address, submission)}", flush=True)
    if not command.wait:
        return 0
    try:
        return follow(address, submission)
    except KeyboardInterrupt:
        stop = f"ray job stop --address {address} {submission}"
        raise UnfollowedError(f"the job goes on; to stop it: {stop}") from None


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
