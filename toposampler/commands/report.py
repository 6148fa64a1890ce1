"""Show the results of finished runs side by side, on the terminal or as HTML that moves.

    toposampler report RUN [RUN ...]             metrics, keys that differ, masses
    toposampler report RUN [RUN ...] --out FILE  HTML: samples by step, curves, tear map
    toposampler report RUN --out                 in figures/report.html of the run

RUN is the folder of a run, of several seeds or of a sweep, that came to its end.
Exit codes: 0 done, 2 bad input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from toposampler.commands.usage import WIDTH, command, parser
from toposampler.errors import UserError

if TYPE_CHECKING:
    from toposampler.reporting.runs import FinishedRun, Table

BESIDE = Path("figures") / "report.html"
"""where the report of a single run goes, in its folder"""


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    line = parser(__doc__, "report")
    line.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a finished run")
    line.add_argument("--out", type=Path, nargs="?", const=BESIDE, metavar="FILE.html", help="write HTML there")
    options = line.parse_args(arguments)
    try:
        from toposampler.reporting.runs import read_runs

        runs = read_runs(options.runs)
        print("\n".join(lines(runs)))
        if options.out is not None:
            print(f"\nreport    {write(runs, options.out)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def lines(runs: list[FinishedRun]) -> Iterator[str]:
    """The report as text."""
    from toposampler.reporting.runs import differences, results

    labels = [run.label for run in runs]
    yield from columns([("results", labels), *results(runs)])
    if len(runs) > 1:
        yield ""
        differ = differences(runs)
        yield from columns([("what differs", labels), *(differ or [("nothing", ["" for _ in runs])])])
    yield "\nmasses of the generators"
    yield from (f"  {run.label}  {run.shown_masses}" for run in runs)


def columns(table: Table) -> Iterator[str]:
    """The rows of `table`, the first its head, in columns; runs that do not fit beside the others go on below."""
    first = max(len(name) for name, _ in table)
    widths = [2 + max(len(values[i]) for _, values in table) for i in range(len(table[0][1]))]
    begin = 0
    while begin < len(widths):
        end = begin + 1
        while end < len(widths) and first + sum(widths[begin : end + 1]) <= WIDTH:
            end += 1
        if begin:
            yield ""
        for name, values in table:
            yield name.ljust(first) + "".join(values[i].rjust(widths[i]) for i in range(begin, end))
        begin = end


def write(runs: list[FinishedRun], out: Path) -> Path:
    """Write the report as HTML, and return where. Raises UserError if it cannot go there."""
    from toposampler.files import write_atomically
    from toposampler.reporting.html import page

    if out == BESIDE:
        if len(runs) > 1:
            raise UserError("--out needs a FILE.html for the report of several runs")
        out = runs[0].folder / BESIDE
    elif out.suffix != ".html":
        raise UserError(f"--out {out}: the report is HTML, so give it a name such as {out.with_suffix('.html')}")
    try:
        write_atomically(out, page(runs))
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from None
    return out
