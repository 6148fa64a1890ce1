"""Train one configuration through Ray, tracked by MLflow.

    toposampler train CONFIG [--key value ...] [options]
    toposampler train --resume NAME [--output DIR] [--key value ...] [options]

CONFIG is a YAML file, or the name of a configuration that comes with the package. Its keys:

    toposampler train CONFIG --help      those that this configuration may hold
    toposampler train CONFIG --dry-run   their values, and what the data holds
    toposampler systems [NAME]           the systems and data sets there are, and their keys

options:
  --dry-run          show what would run, with every key, look at the data, estimate the time
                     by a few iterations, and start nothing
  --resume NAME      resume the run NAME as it was configured, instead of a CONFIG; more
                     --training.generator_steps than it has may be given
  --init-from MODEL  begin with the weights of a trained model: the folder of a run, a checkpoint, a
                     model directory, models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID; data
                     and constants may be others, networks not
  --init-state full  with --init-from: resume its whole training (optimizers, moving average,
                     random state, steps) under this name, to --training.generator_steps
  --local            train in this process, without Ray: one worker, with the same result
  --profile          the same as --cluster.profile true
  --submit http://HOST:8265
                     hand this command, with the current folder, to the Ray cluster that has its
                     dashboard there; print the job's log until it ends, and end with its exit
                     code (Ctrl-C leaves it running)
  --wait, --no-wait  with --submit: wait for its end (the default), or only say how to follow and
                     to stop the job

Alone it starts a small Ray on this machine and stops it afterwards; where Ray is not installed,
one worker is this process. As a Ray job, or with RAY_ADDRESS set, it trains on that cluster. A run
that was stopped resumes from its newest checkpoint when it is given again.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from toposampler.commands.usage import WIDTH, called, command, described, usage
from toposampler.distributed.stop import StoppedBySignalError
from toposampler.errors import TimeUsedError, TrainingStoppedError, UserError
from toposampler.extras import how_to_install, installed, require
from toposampler.files import REGISTERED
from toposampler.packaged import find, packaged

# What is imported in functions below takes seconds, of which --help and --dry-run need few.
if TYPE_CHECKING:
    from toposampler.training import RunConfig

ONCE = ("--resume", "--submit", "--init-from", "--init-state")
KEYS = {"--init-from": "--init_from", "--init-state": "--init_state"}
"""options that set a key"""
JOB_PACKAGES = "runtime_resources/working_dir_files"  # where Ray unpacks what `ray job submit` uploads

TIME_USED = 75
"""exit code of a run that has more to do: EX_TEMPFAIL of sysexits.h, try again"""
EXIT_CODES = """\
exit codes:
  0    done
  1    a fault, with its traceback
  2    bad input: the message says which, and what would be right
  3    training stopped by its guards: the message says where the last good checkpoint is
  75   the run has trained for its training.minutes and is not at its end: give the command again
  130  stopped by Ctrl-C, with a checkpoint of that moment; a second Ctrl-C stops at once
  143  stopped by SIGTERM (ray job stop), with a checkpoint of that moment
"""


@dataclass
class Command:
    """A command line, taken apart."""

    path: Path | None = None
    """CONFIG: a file, or the name of one that comes with the package"""
    overrides: list[str] = field(default_factory=list)
    """`--key value`, as they stand"""
    resume: str | None = None
    address: str | None = None
    """of the dashboard that the command is submitted to"""
    dry_run: bool = False
    local: bool = False
    """in this process, without Ray"""
    help: bool = False
    wait: bool = True


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    if not set(arguments) - {"-h", "--help"}:
        print("\n".join([usage(__doc__, "train"), EXIT_CODES, *configurations()]))
        return 0 if arguments else 2
    stopped_by: list[int] = []
    typed: Command | None = None

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that Ray and MLflow are left in order

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        typed = parse(arguments)
        config = load(typed)
        if typed.help:
            print("\n".join(keys(config)))
            return 0
        local = in_this_process(typed, config)
        print("\n".join(beginning(config, typed.address, local)), flush=True)
        if typed.dry_run:
            print("\n".join(dry_run(config)))
        elif typed.address:
            return submitted(typed, config)
        else:
            from toposampler.commands.ending import ending
            from toposampler.distributed.driver import launch

            print("\n".join(ending(config, launch(config, local))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingStoppedError as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 3
    except TimeUsedError as error:
        print(f"{error}\nthe same command resumes from there", file=sys.stderr)
        return TIME_USED
    except StoppedBySignalError as error:
        print(f"{error}\nthe same command resumes from there", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        if typed is None or typed.address is None:
            print("stopped; the same command resumes from the newest checkpoint", file=sys.stderr)
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
            case "-h" | "--help":
                command.help = True
            case "--local":
                command.local = True
            case "--wait" | "--no-wait":
                command.wait = option == "--wait"
            case "--profile":
                command.overrides += ["--cluster.profile", "true"]
            case "--resume":
                command.resume = _value_of(option, rest, "the name of a run")
            case "--init-from" | "--init-state":
                what = "a model" if option == "--init-from" else "weights or full"
                command.overrides += [KEYS[option], _value_of(option, rest, what)]
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
        raise UserError(f"no configuration is given: {called('train')} CONFIG --dry-run")
    if command.path is not None and command.resume is not None:
        raise UserError(f"--resume {command.resume} has its own configuration: leave {command.path} out")
    if command.resume is not None and (init := {"--init-from", "--init-state"} & given):
        raise UserError(f"--resume resumes a run, and {min(init)} begins a new one: leave one of them out")
    if command.local and command.address is not None:
        raise UserError("--local trains in this process, --submit on a cluster: leave one of them out")
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
    from toposampler.config import Section, parse_overrides, validate
    from toposampler.storage import is_address
    from toposampler.training.config import Output, RunConfig, load_config

    class Place(Section):
        """Of a configuration, where its run lies."""

        output: Output = RunConfig.model_fields["output"].default

    overrides = parse_overrides(command.overrides)
    if command.path is not None:
        place = str(overrides.get("init_from", "/"))
        if command.address and not place.startswith((*REGISTERED, "/", "~")):
            raise UserError(
                f"--init-from with --submit: {place} is not sent along; give an absolute path on the cluster, or "
                "models:/NAME@alias"
            )
        return load_config(find(command.path), command.overrides)
    name = str(command.resume)
    if Path(name).name != name:
        raise UserError(f"--resume {name}: the name of a run is no path; give the folder that holds it by --output")
    if (other := str(overrides.get("name", name))) != name:
        raise UserError(f"--resume {name} resumes the run of that name: leave --name {other} out")
    place = validate(Place, {key: overrides[key] for key in ("output",) if key in overrides}).output
    here = [f"--output={place}", f"--name={name}"]  # wherever it lay when it was begun, and whatever it was called
    if is_address(place):
        with stored(place, name) as file:
            return load_config(file, [*command.overrides, *here])
    folder = Path(place)
    if command.address and not folder.is_absolute():
        raise UserError(
            f"--resume with --submit: {folder} is not sent along; give --output an absolute path on the cluster"
        )
    if not (folder / name / "config.yaml").exists():
        names = ", ".join(sorted(there.parent.name for there in folder.glob("*/config.yaml"))) or "none"
        raise UserError(f"--resume {name}: {folder / name} holds no run; the runs in {folder} (--output): {names}")
    return load_config(folder / name / "config.yaml", [*command.overrides, *here])


@contextmanager
def stored(place: str, name: str) -> Iterator[Path]:
    """A copy of the configuration that the run `name` at the address `place` was begun with, while the block runs.

    Raises UserError if there is no such run.
    """
    from toposampler.storage import Store, reason

    try:
        store = Store(f"{place}/{name}")
        if not store.has("config.yaml"):
            names = [other.partition("/")[0] for other in Store(place).stamps() if other.count("/") == 1]
            there = ", ".join(sorted(set(names))) or "none"
            raise UserError(f"--resume {name}: {store.address} holds no run; the runs in {place} (--output): {there}")
        with tempfile.TemporaryDirectory() as folder:
            store.get("config.yaml", Path(folder) / "config.yaml")
            yield Path(folder) / "config.yaml"
    except OSError as error:
        raise UserError(f"--output: {place} cannot be read: {reason(error)}") from None


def submitted(command: Command, config: RunConfig) -> int:
    """Submit `command` as a Ray job; its exit code, or 0 at once unless it is waited for."""
    require("ray", "ray", "--submit")
    from toposampler.distributed.jobs import follow, how_to_follow, how_to_stop, submit

    address = str(command.address)
    what = ["--resume", command.resume] if command.resume else [str(command.path)]
    submission = submit(address, config, [*entry_point(), *what, *command.overrides])
    print(f"job      {submission}\n{how_to_follow(address, submission)}", flush=True)
    if not command.wait:
        return 0
    try:
        return follow(address, submission)
    except KeyboardInterrupt:
        print(f"the job continues; to stop it: {how_to_stop(address, submission)}", file=sys.stderr)
        raise


def entry_point() -> list[str]:
    """What a job runs to train: the script of the checkout that is sent along, or else the package of the cluster."""
    script = Path("ray_jobs/train.py")
    return ["python", str(script)] if script.exists() else ["python", "-m", "toposampler", "train"]


def in_this_process(command: Command, config: RunConfig) -> bool:
    """Whether to train without Ray: it was asked for, or one worker is enough and Ray is not installed, which is said.

    Raises UserError if Ray is not installed and the run needs it.
    """
    if command.local or command.address or command.dry_run or installed("ray"):
        return command.local
    workers, way_out = config.cluster.num_workers, "--local trains in this process"
    if workers > 1 or "RAY_ADDRESS" in os.environ:
        need = f"cluster.num_workers {workers}" if workers > 1 else "training on the cluster at RAY_ADDRESS"
        require("ray", "ray", need, way_out + (", with cluster.num_workers 1" if workers > 1 else ""))
    print(f"Ray is not installed ({how_to_install('ray')}): as with --local, this process trains", file=sys.stderr)
    return True


def configurations() -> Iterator[str]:
    """The names of the configurations that come with the package."""
    yield "configurations that come with the package:"
    names = "  ".join(packaged("configs"))
    yield from textwrap.wrap(
        names, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def keys(config: RunConfig) -> Iterator[str]:
    """The keys that a configuration with the data and the system of `config` may hold, section by section."""
    from toposampler.config import Section, as_text, describe, flatten

    yield "keys (in CONFIG, or as --key value; lists as JSON) [default], and what CONFIG has instead"
    here = flatten(config.model_dump(mode="json"))
    top = [row for row in describe(type(config)) if "." not in row[0]]
    sections = {name: part for name, part in config if isinstance(part, Section)}
    rows = {
        name: [(f"{name}.{key}", default, meaning) for key, default, meaning in describe(type(part))]
        for name, part in sections.items()
    }
    for title, part in {"the run": top, **rows}.items():
        chosen = getattr(sections.get(title), "name", "")  # data and system have one
        yield f"\n{title} {chosen}".rstrip()
        for key, default, meaning in part:
            yield from described(f"--{key}", default, meaning, as_text(here[key]) if key in here else None)


def dry_run(config: RunConfig) -> Iterator[str]:
    """What the data holds, what the run will cost, and every key. Raises UserError if the data cannot be used."""
    from toposampler.config import to_yaml
    from toposampler.data import describe
    from toposampler.lookup import fetch_initial
    from toposampler.storage import is_address
    from toposampler.training.cost import told
    from toposampler.training.run import check_data

    dataset = check_data(config)
    with tempfile.TemporaryDirectory() as empty:  # a run at an address is not looked at
        here = config.model_copy(update={"output": empty}) if is_address(config.output) else config
        fetch_initial(here, dataset, keep=False)
    yield from (f"{'' if i else 'data':<9}{line}" for i, line in enumerate(describe(dataset)))
    prepared = config.system.prepare(dataset)
    yield from (prepared.report or {}).get("in_words", ())
    yield from (f"{'' if i else 'cost':<9}{line}" for i, line in enumerate(told(config, dataset, prepared)))
    yield ""
    yield to_yaml(config)


def beginning(config: RunConfig, address: str | None = None, local: bool = False) -> Iterator[str]:
    """What will run, where (`address`: of the dashboard it is submitted to), and where results go."""
    from toposampler.distributed.resources import description
    from toposampler.storage import is_address
    from toposampler.training.config import as_known
    from toposampler.training.run_length import faults

    ray = address or os.environ.get("RAY_ADDRESS")
    place = "this process" if local else f"the Ray cluster at {ray}" if ray else "a Ray on this machine"
    folder, training = as_known(config), config.training
    number = "as many as the data have components" if config.system.asks_the_data else config.system.K
    yield f"run      {config.name}: {config.system.name} on {config.data.name}, generators: {number}"
    if config.seeds is not None:
        from toposampler.commands.ending import seeds_named

        yield f"seeds    {seeds_named(config)}, as one program in each worker"
    yield f"steps    {training.generator_steps:,} generator steps, {training.critic_steps} critic steps before each"
    yield from (f"note     {fault}" for fault in faults(config))
    if config.init_from is not None:
        what = "the whole training" if config.init_state == "full" else "the weights"
        yield f"begins   with {what} of {config.init_from}"
    yield f"where    {place}, workers: {description(config.cluster)}"
    if address and entry_point()[1] == "-m":
        yield "job      runs the toposampler that is installed on the cluster, in a copy of the current folder"
    if address and not (is_address(config.output) or Path(config.output).is_absolute()):
        yield f"results  {config.output}/{config.name}, in the job's folder on the cluster"
        yield "warning: that folder goes when the Ray job is cleaned up; give --output an absolute path that stays"
        return
    yield f"results  {folder}"
    if JOB_PACKAGES in folder:
        yield "warning: this folder goes when the Ray job is cleaned up; give --output an absolute path that stays"
