"""The tables of a page about one run, one sweep or one population, as lines of escaped HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from toposampler.metrics.catalog import by_block, kind_of
from toposampler.reporting.importance import importance
from toposampler.reporting.intervals import interval
from toposampler.reporting.runs import FinishedRun

TRIALS = 10
"""trials in a table, at most: the best"""


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], hints: Mapping[str, str] | None = None, words: bool = False
) -> Iterator[str]:
    """A table of text; the first cell of a row is its head, with what `hints` says of it shown on hover. A row of one
    cell heads those below it; with `words` the last column is text."""
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    kind = ' class="words"' if words else ""
    yield f'<div class="wide"><table{kind}>\n<thead><tr>{cells}</tr></thead>\n<tbody>'
    for first, *values in rows:
        hint = (hints or {}).get(first, "")
        attribute = f' title="{escape(hint)}" class="hint"' if hint else ""
        if not values:
            attribute = f' class="block" colspan="{len(heads)}"'
        rest = "".join(f"<td>{escape(value)}</td>" for value in values)
        yield f'<tr><th scope="row"{attribute}>{escape(first)}</th>{rest}</tr>'
    yield "</tbody></table></div>"


def metrics(run: FinishedRun) -> Iterator[str]:
    """Every metric with its interval, its direction, and what real points have."""
    real, evaluated = run.result.get("real") or {"n": 0, "metrics": {}}, int(run.result.get("evaluated", 0))
    hints: dict[str, str] = {}
    rows: list[Sequence[str]] = []
    for block, names in by_block(run.metrics).items():
        rows.append((block[0].upper() + block[1:],))
        for name in names:
            kind = kind_of(name)
            meaning, better = ("", "") if kind is None else (kind.meaning, kind.direction)
            hints[name] = "" if kind is None else f"{meaning}; better: {better}"
            ends = interval(name, run.metrics[name], evaluated)
            sure = "" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"
            against = real["metrics"].get(name)
            if name == "components_found":
                against = run.metrics.get("components_found_real", against)
            shown = "" if against is None else f"{against:.4g}"
            rows.append((name, f"{run.metrics[name]:.4g}", sure, better, shown, meaning))
    heads = ("", "value", "95 % interval", "better", f"{real['n']:,} real" if real["n"] else "real", "meaning")
    yield from table(heads, rows, hints, words=True)
    if real["n"]:
        yield (
            f'<p class="note">“{real["n"]:,} real”: real points in the place of samples, against as many others. Of '
            "fewer points distances are larger and coverage is less, so compare orders of magnitude. Intervals are "
            "Wilson's, of shares of samples; the others need several draws: <code>toposampler evaluate</code>.</p>"
        )


def generators(run: FinishedRun) -> Iterator[str]:
    """Each active generator, the components, and whether samples are copies."""
    found = run.result.get("findings")
    if not found:
        yield "<p>No report was recorded by the version that trained this run.</p>"
        return
    known = {"labels": "labels of the data", "points": "gaps between the points", "none": "nothing: all data are one"}
    yield f"<p>Components are known by {known[found['source']]}; {found['n']:,} samples were assigned.</p>"
    rows = (
        (
            str(one["id"]),
            f"{one['mass']:.4f}",
            str(one["component"]),
            f"{one['purity']:.1%}",
            "" if one["other"] is None else f"{one['in_other']:.1%} in {one['other']}",
            f"{one['off']:.1%}",
        )
        for one in found["makers"]
    )
    yield from table(("generator", "mass", "component", "purity", "next component", "off the data"), rows)
    if len(found["components"]) > 1:
        yield "<h3>Components of the data</h3>"
        parts = (
            (
                str(m),
                f"{one['mass']:.4f}",
                f"{one['samples']:.4f}",
                "-" if one["learned"] is None else f"{one['learned']:.4f}",
                f"{one['covered']:.1%}",
            )
            for m, one in enumerate(found["components"])
        )
        yield from table(("component", "mass in the data", "of samples", "of the prior", "covered"), parts)
    yield (
        f"<p><strong>Memorization:</strong> {found['copies']:.1%} of samples are nearer to a data point than 5 % of "
        "data points are to their nearest other. Fresh draws of the data have about 5 %, copies 100 %.</p>"
    )


def spread(run: FinishedRun) -> Iterator[str]:
    """Mean, standard deviation and extremes of each metric over the members, and the members that failed."""
    of = run.result["spread"]
    rows = [
        (name, *(f"{of[name][column]:.4g}" for column in ("mean", "sd", "min", "max")))
        for names in by_block(of).values()
        for name in names
    ]
    heads = (f"{len(run.result['members'])} members", "mean", "standard deviation", "least", "greatest")
    yield from table(heads, rows, {name: k.meaning for name, *_ in rows if (k := kind_of(name))})
    for seed, reason in run.result.get("failed", {}).items():
        yield f'<p class="warning">Seed {escape(str(seed))} has no result: {escape(str(reason))}</p>'


def trials(run: FinishedRun) -> Iterator[str]:
    """The best finished trials of a sweep with their values."""
    finished = [one for one in run.result["trials"] if one["outcome"] == "finished" and one["objectives"]]
    if not finished:
        yield "<p>No trial was trained to its end.</p>"
        return
    goal = next(iter(finished[0]["objectives"]))
    winner = (run.result.get("best") or {}).get("trial")
    best = next((one["objectives"][goal] for one in finished if one["number"] == winner), None)
    sign = -1 if best is not None and best == max(one["objectives"][goal] for one in finished) else 1
    finished.sort(key=lambda one: sign * one["objectives"][goal])
    keys = list({key: None for one in finished for key in one["values"]})
    rows = (
        (
            f"trial {one['number']}",
            *(f"{value:.4g}" for value in one["objectives"].values()),
            *(_short(one["values"].get(key)) for key in keys),
        )
        for one in finished[:TRIALS]
    )
    yield f"<h3>The best {min(TRIALS, len(finished))} of {len(run.result['trials'])} trials</h3>"
    yield from table(("", *finished[0]["objectives"], *keys), rows)
    explained = importance([one["values"] for one in finished], [one["objectives"][goal] for one in finished])
    if explained:
        yield "<h3>Importance of the keys</h3>"
        yield (
            f'<p class="note">The share of the variance of the ranks of {escape(goal)} that each key explains alone, '
            "over trials trained to their ends. With few trials chance explains much.</p>"
        )
        shares = ((key, f"{share:.2f}", str(n)) for key, (share, n) in explained.items())
        yield from table(("key", "share explained", "trials"), shares)


def _short(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
