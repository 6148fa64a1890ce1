"""List the systems, data sets and networks there are, with their papers and their keys.

toposampler systems         all of them, a line each
toposampler systems NAME    describe one: the paper, and its keys with default and meaning
"""

from __future__ import annotations

import difflib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from toposampler.commands.usage import WIDTH, command, described, parser
from toposampler.errors import UserError

if TYPE_CHECKING:
    from toposampler.config import Section

Classes = dict[str, "type[Section]"]
"""sections by their names in a configuration"""


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code: 0 done, 2 no such system or data set."""
    line = parser(__doc__, "systems")
    line.add_argument("name", metavar="NAME", nargs="?", help="of a system or of a data set [a line of each]")
    name = line.parse_args(arguments).name
    try:
        print("\n".join(overview() if name is None else describe(name)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def known() -> dict[str, Classes]:
    """The classes of each kind, by the key of a configuration that chooses among them; of other packages, too."""
    from toposampler.plugins import datasets, systems

    return {
        "system": {entry.name: entry.value for entry in systems()},
        "data": {entry.name: entry.value for entry in datasets()},
    }


def list_systems() -> dict[str, str]:
    """Name and paper of each system that `system.name` of a configuration, or `fit`, may choose."""
    return {name: text(section)[0] for name, section in sorted(known()["system"].items())}


def text(section: type[Section]) -> list[str]:
    """The paragraphs of the docstring of the module that declares `section`, the title first."""
    module = inspect.getmodule(section)
    return ((module and inspect.getdoc(module)) or section.__name__).split("\n\n")


def overview() -> Iterator[str]:
    """A line for each of them: name and title."""
    for key, classes in known().items():
        yield f"{key}.name"
        column = 4 + max(map(len, classes))
        for name, section in sorted(classes.items()):
            title = " ".join(text(section)[0].split())
            yield from textwrap.wrap(
                f"  {name:<{column - 2}}{title}", WIDTH, subsequent_indent=" " * column, break_on_hyphens=False
            )
        yield ""
    from toposampler.plugins import metrics, networks

    yield "system.generator_network, system.critic_network"
    yield from textwrap.wrap(", ".join([*(entry.name for entry in networks()), "module:function"]), WIDTH,
                             initial_indent="  ", subsequent_indent="  ")  # fmt: skip
    if named := [entry.name for entry in metrics()]:
        yield from ("", "metrics of other packages", f"  {', '.join(named)}")
    yield ""
    yield "`toposampler systems NAME` shows the keys of one"


def describe(name: str) -> Iterator[str]:
    """Title and paper of the system or data set `name`, and its keys. Raises UserError if there is none."""
    from toposampler.config import describe

    found = [(key, classes[name]) for key, classes in known().items() if name in classes]
    if not found:
        names = [other for classes in known().values() for other in classes]
        close = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
        raise UserError(f"there is no system and no data set {name!r}: {hint}")
    for key, section in found:
        title, *paragraphs = text(section)
        yield from textwrap.wrap(" ".join(title.split()), WIDTH)
        if paragraphs and not paragraphs[0].lstrip().startswith("|"):
            yield ""
            yield from textwrap.wrap(" ".join(paragraphs[0].split()), WIDTH)
        yield ""
        yield "keys [default]:"
        for of, default, meaning in describe(section):
            yield from described(f"--{key}.{of}", default, meaning)
