"""A report as one HTML file that needs nothing else: no network, no server; light and dark.

Text and tables are in the page itself, escaped. What moves is drawn by the scripts in `static/`, from data that stand
in the page as JSON; they make text of it, never HTML.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from toposampler import __version__
from toposampler.config import as_text
from toposampler.reporting.definitions import listed
from toposampler.reporting.page_data import of_run
from toposampler.reporting.runs import FinishedRun, Table, differences, results
from toposampler.reporting.tables import generators, metrics, spread, trials

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("draw.js", "film.js", "maps.js", "sweep.js", "page.js")


def page(runs: Sequence[FinishedRun]) -> str:
    """The report of `runs` as HTML."""
    title = ", ".join(run.label for run in runs)
    data = json.dumps([of_run(run) for run in runs], separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    scripts = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    body = "\n".join(filter(None, _body(title, runs)))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{(STATIC / 'page.css').read_text(encoding='utf-8')}</style>\n</head>\n"
        f'<body>\n<main>\n{body}\n</main>\n<script type="application/json" id="data">{data}</script>\n'
        f"<script>\n{scripts}</script>\n</body>\n</html>\n"
    )


def _body(title: str, runs: Sequence[FinishedRun]) -> Iterator[str]:
    one = runs[0] if len(runs) == 1 else None
    yield f"<header>\n<h1>{escape(title)}</h1>"
    for run in runs:
        yield from _verdict(run, named=one is None)
    yield "</header>"
    yield '<section id="play"></section>'
    yield '<section id="curves"></section>'
    if one is not None and "trials" in one.result:
        yield from _section("Trials", ['<div id="trials"></div>', *trials(one)])
    elif one is not None and "spread" in one.result:
        yield from _section("Spread over the members", ['<div id="members"></div>', *spread(one)])
    elif one is not None:
        yield from _section("Metrics", metrics(one))
        yield from _section("Generators", [*generators(one), '<div id="nearest"></div>'])
        yield '<section id="tear"></section>'
    else:
        yield from _section("Results", _table(results(runs), runs))
        yield from _section("Configurations: what differs", _table(differences(runs), runs))
        yield from _section("Masses of the generators", _masses(runs))
    if measured := [name for run in runs for name in {**run.metrics, **run.result.get("spread", {})}]:
        yield from _section("What the metrics mean", listed(measured))
    if figures := list(_figures(runs)):
        yield from _section("Figures", figures)
    yield from _section("To repeat it", _repeat(runs))
    yield from _section("Configuration", _configurations(runs))
    yield f"<footer><p>toposampler {escape(__version__)}</p></footer>"


def _verdict(run: FinishedRun, named: bool) -> Iterator[str]:
    """What was trained, and what came of it."""
    config = run.config
    what = f"{config['system.name']} on {config['data.name']}" if "system.name" in config else "sweep"
    took = f"{run.generator_steps:,} generator steps" + (f", {run.seconds:,.0f} s" if run.seconds else "")
    name = f"<strong>{escape(run.label)}</strong>: " if named else ""
    yield f'<p class="what">{name}{escape(what)}, {took}</p>'
    if "verdict" in run.result:
        text = str(run.result["verdict"])
        yield f'<p class="verdict">{escape(text[0].upper() + text[1:])}.</p>'
    for warning in run.result.get("warnings", ()):
        yield f'<p class="warning"><strong>Warning:</strong> {escape(str(warning))}</p>'


def _section(title: str, content: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield f"<section>\n<h2>{escape(title)}</h2>"
    yield from content
    yield "</section>"


def _table(rows: Table, runs: Sequence[FinishedRun]) -> Iterator[str]:
    if not rows:
        yield "<p>Nothing.</p>"
        return
    heads = "".join(f'<th scope="col">{escape(run.label)}</th>' for run in runs)
    yield f'<div class="wide"><table>\n<thead><tr><td></td>{heads}</tr></thead>\n<tbody>'
    for name, values in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        yield f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _masses(runs: Sequence[FinishedRun]) -> Iterator[str]:
    for run in runs:
        yield f'<h3>{escape(run.label)}</h3>\n<div class="masses">'
        for k, mass in sorted(enumerate(run.masses), key=lambda one: -one[1]):
            yield f'<span>{k}</span><span>{mass:.3f}</span><span class="bar" style="width: {mass:.2%}"></span>'
        yield "</div>"


def _figures(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """The PNGs of runs without data for what moves: all of a single one; of several, those of one kind side by side."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        for path in run.figures if not (run.folder / "report.json").exists() else ():
            kind = escape(path.stem.replace("_", " "))
            caption = escape(run.label) if len(runs) > 1 else kind
            content = base64.b64encode(path.read_bytes()).decode()
            groups.setdefault(kind if len(runs) > 1 else "", []).append(
                f'<figure><img alt="{kind} of {escape(run.label)}" src="data:image/png;base64,{content}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    for kind, figures in sorted(groups.items()):
        yield f"<h3>{kind}</h3>" if kind else ""
        yield "\n".join(['<div class="figures">', *figures, "</div>"])


def _repeat(runs: Sequence[FinishedRun]) -> Iterator[str]:
    for run in runs:
        command = "sweep" if "trials" in run.result else "train"
        name = str(run.config.get("name", run.label))
        again = f"toposampler {command} {name}/config.yaml --name {name}-again"
        yield f"<pre>{escape(again)}</pre>"
        known = of_run(run)
        lines = [*known["data"].get("lines", [])]
        if sha := known["data"].get("sha256"):
            lines.append(f"SHA-256 of the data: {sha}")
        lines += [f"{key} {value}" for key, value in known["environment"].items()]
        if lines:
            yield f"<details><summary>Data and environment of {escape(run.label)}</summary>"
            yield f"<pre>{escape(chr(10).join(lines))}</pre></details>"


def _configurations(runs: Sequence[FinishedRun]) -> Iterator[str]:
    for run in runs:
        lines = "\n".join(f"{key}: {as_text(value)}" for key, value in run.config.items())
        yield f"<details><summary>{escape(run.label)}</summary>\n<pre>{escape(lines)}</pre></details>"
