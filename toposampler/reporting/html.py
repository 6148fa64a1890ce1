"""A report as one HTML file that needs nothing else: no script, no network; figures are in it, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape

from toposampler import __version__
from toposampler.config import as_text
from toposampler.reporting.runs import FinishedRun, Table, differences, results

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d5dae0; --soft: #f3f5f7; --bar: #2f6fb3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #15181c; --line: #363c44; --soft: #1e2328; --bar: #6aa5e3; }
}
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child { text-align: left; font-weight: normal; } thead th { background: var(--soft); font-weight: 600; }
.masses { display: grid; grid-template-columns: max-content max-content 1fr; gap: .2rem .8rem; align-items: center;
  max-width: 36rem; font-variant-numeric: tabular-nums; }
.bar { height: .7rem; background: var(--bar); min-width: 1px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .9rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; border-radius: .4rem; }
"""


def page(runs: Sequence[FinishedRun]) -> str:
    """The report of `runs` as HTML."""
    title = ", ".join(run.label for run in runs)
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            *_section("Results", _table(results(runs), runs)),
            *(_section("Configurations: what differs", _table(differences(runs), runs)) if len(runs) > 1 else []),
            *_section("Masses of the generators", _masses(runs)),
            *_section("Figures", _figures(runs)),
            *_section("Configurations", _configurations(runs)),
            f"<footer><p><small>toposampler {escape(__version__)}</small></p></footer>",
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _section(title: str, content: Iterator[str]) -> Iterator[str]:
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
            yield f'<span>G{k}</span><span>{mass:.3f}</span><span class="bar" style="width: {mass:.2%}"></span>'
        yield "</div>"


def _figures(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """All figures of a single run; of several, those of one kind side by side, whichever runs have them."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        for path in run.figures:
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


def _configurations(runs: Sequence[FinishedRun]) -> Iterator[str]:
    for run in runs:
        lines = "\n".join(f"{key}: {as_text(value)}" for key, value in run.config.items())
        yield f"<details><summary>{escape(run.label)}</summary>\n<pre>{escape(lines)}</pre></details>"
