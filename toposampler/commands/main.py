"""Train, sample, evaluate and compare generative models of data on disconnected manifolds.

    toposampler COMMAND [arguments]
    toposampler COMMAND --help
    toposampler --version

A command that is given bad input says what would be right, and ends with exit code 2.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from toposampler import __version__
from toposampler.commands.usage import WIDTH, command

COMMANDS = ("train", "sample", "evaluate", "export", "promote", "sweep", "report", "demo", "systems")


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return the exit code of the command."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join([__doc__ or "", *overview()]))
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"toposampler {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(f"error: there is no command {name!r}.{hint} There are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"toposampler.commands.{name}").main(rest))


def overview() -> Iterator[str]:
    """A line for each command: the first of its module's docstring, which is read without importing the module."""
    yield "commands:"
    for name in COMMANDS:
        spec = find_spec(f"toposampler.commands.{name}")
        assert spec is not None
        assert spec.origin is not None
        doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        first = doc.partition("\n")[0].rstrip(".")
        yield from textwrap.wrap(f"  {name:<10}{first}", WIDTH, subsequent_indent=" " * 12)
