"""What all commands share: their help, the name they were called by, and a reader of their output that goes away."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

WIDTH = 100
"""columns of a help text, at most"""
READER_GONE = 141
"""exit code where whoever read the output has gone (`| head`): 128 + SIGPIPE, as of other programs"""

Main = Callable[[list[str]], int]


def called(command: str) -> str:
    """What the user typed to run `command`: `toposampler train`, or `python ray_jobs/train.py`."""
    script = Path(sys.argv[0])
    if script.name == f"{command}.py":
        return f"python {sys.argv[0]}"
    if (script.parent.name, script.name) == ("toposampler", "__main__.py"):
        return f"python -m toposampler {command}"
    return f"toposampler {command}"


def usage(doc: str | None, command: str) -> str:
    """`doc`, a module's docstring that says `toposampler COMMAND`, with what the user typed instead."""
    return (doc or "").replace(f"toposampler {command}", called(command))


def parser(doc: str | None, command: str) -> argparse.ArgumentParser:
    """A parser of the arguments of `command`, whose help is `doc` and then the arguments."""
    return argparse.ArgumentParser(prog=called(command), description=usage(doc, command), formatter_class=_Help)


def add_networks(line: argparse.ArgumentParser) -> None:
    """Add `--networks`: naming a model's own networks is what allows them to be imported."""
    line.add_argument("--networks", type=lambda names: tuple(names.split(",")), default=(), metavar="MODULE:FUNCTION",
                      help="networks of MODEL that are not the package's, by its names, with commas")  # fmt: skip


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


def described(key: str, default: str, meaning: str, here: str | None = None) -> Iterator[str]:
    """The lines that tell of a key: its default, what it is `here` if that differs, and below them what it means."""
    head = f"{key} [{default}]" + (f"  here {here}" if here not in (None, default) else "")
    yield from textwrap.wrap(head, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    yield from textwrap.wrap(meaning, WIDTH, initial_indent="      ", subsequent_indent="      ")


def command(main: Main) -> Callable[..., int]:
    """`main` that ends quietly, with exit code 141, once nobody reads its standard output any more.

    Without arguments it takes those of this process, as the console script calls it.
    """

    @wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            try:
                return main(sys.argv[1:] if arguments is None else arguments)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            if not _reader_is_gone():
                raise  # of another pipe: a fault
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more at its end
            return READER_GONE

    return run


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@contextmanager
def shown_log() -> Iterator[None]:
    """Print on stderr what the package's loggers say, from INFO up, while the block runs: what is being done now."""
    logger, handler = logging.getLogger("toposampler"), logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
