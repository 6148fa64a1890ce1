"""What the command `train` says when a run has ended: its result in a sentence and a table, and where to look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toposampler.commands.usage import WIDTH
from toposampler.training.config import RunConfig, as_known, run_address, seeds_of

MAKERS = 12
"""generators that have a line, at most"""


def ending(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """The result of a run, or of those of several seeds, and where to look; the last line is the most useful place."""
    from toposampler.distributed.driver import recorded_on_mlflow, where_to_look

    folder = as_known(config)
    if config.seeds is None:
        yield from in_words(result)
        yield from _makers(result)
        yield from _table(config, result)
        yield from result.get("components", {}).get("in_words", ())
        yield f"figures  {folder}/figures"
        yield f"samples  {folder}/samples.npz"
    else:
        yield from _table_of_seeds(config, result)
        yield f"runs     {folder}/seed-*, each a run of its own; figures of seed-{result['typical']}, the most typical"
        yield f"result   {folder}/result.json"
    yield f"model    {result['model']}"
    if recorded_on_mlflow(config):
        yield f"look     {where_to_look(config.tracking, Path(folder))}"
    if run_address(config) is not None:
        yield f"report   {folder}/figures/report.html"
    elif (report := Path(folder) / "figures" / "report.html").exists():
        yield f"report   {report.absolute().as_uri()}"


def in_words(result: dict[str, Any]) -> Iterator[str]:
    """The verdict and the warnings of a result, in lines that fit a terminal; none of an earlier version's result."""
    if "verdict" in result:
        yield from textwrap.wrap(result["verdict"], WIDTH, break_long_words=False, break_on_hyphens=False)
    for warning in result.get("warnings", ()):
        yield from textwrap.wrap(f"warning: {warning}", WIDTH, subsequent_indent="         ", break_on_hyphens=False)


def seeds_named(config: RunConfig) -> str:
    """How many seeds, and which."""
    seeds = seeds_of(config)
    if len(seeds) > 3 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{len(seeds)}: {seeds[0]} to {seeds[-1]}"
    return f"{len(seeds)}: {', '.join(map(str, seeds))}"


def _makers(result: dict[str, Any]) -> Iterator[str]:
    """A row for each active generator: its component, its mass, and how much of what it makes is there."""
    from toposampler.reporting.words import percent

    makers = result.get("findings", {}).get("makers", [])
    if not makers:
        return
    yield f"  {'generator':>9}  {'component':>9}  {'mass':>6}  {'in it':>7}  {'off data':>8}"
    for one in makers[:MAKERS]:
        shares = f"{percent(one['purity']):>7}  {percent(one['off']):>8}"
        yield f"  {one['id']:>9}  {one['component']:>9}  {one['mass']:>6.3f}  {shares}"
    if len(makers) > MAKERS:
        yield f"  and {len(makers) - MAKERS} generators more, in the report"


def _table(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """Six metrics with the direction of better, their interval where there is one, and what real points have."""
    from toposampler.reporting.intervals import headline, interval

    metrics, real = result["metrics"], result.get("real", {"n": 0, "metrics": {}})
    names = headline(metrics)
    rows = [(name, f"{metrics[name]:.4g}", name) for name in names]
    rows += [(key, f"{result[key]:,.6g}", "") for key in ("active_generators", "generator_steps", "seconds")]
    width = max(len(name) for name, _, _ in rows)
    for label, value, name in rows:
        notes = [_better(name)] if name else []
        if name and (ends := interval(name, metrics[name], result.get("evaluated", 0))):
            notes.append(f"95 %: {ends[0]:.3g} to {ends[1]:.3g}")
        if name in real["metrics"]:
            notes.append(f"{real['n']:,} real: {real['metrics'][name]:.3g}")
        yield f"  {label:<{width}}  {value:>10}  {'   '.join(filter(None, notes))}".rstrip()
    if rest := len(metrics) - len(names) - ("active_generators" in metrics):
        yield f"metrics  {rest} more in {as_known(config)}/result.json, and in the report"


def _table_of_seeds(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """Mean, standard deviation and extremes over the seeds of every metric, and the seeds without a result."""
    spread = _of_the_whole(result["spread"])
    width, columns = max(map(len, spread)), ("mean", "sd", "min", "max")
    yield f"  {len(result['members'])} seeds".ljust(width + 2) + "".join(f"  {column:>10}" for column in columns)
    for name, values in spread.items():
        numbers = "".join(f"  {values[column]:>10.5g}" for column in columns)
        yield f"  {name:<{width}}{numbers}  {_better(name)}".rstrip()
    yield f"  generator_steps {result['generator_steps']:,}, seconds {result['seconds']:g}"
    if number := len(result["spread"]) - len(spread):
        yield f"metrics  {number} more, of single components, in {as_known(config)}/result.json"
    for seed, reason in result["failed"].items():
        yield f"failed   seed {seed}: {reason}"


def _of_the_whole(metrics: dict[str, Any]) -> dict[str, Any]:
    """Those of `metrics` that are not of single components."""
    from toposampler.metrics.catalog import is_detail

    return {name: value for name, value in metrics.items() if not is_detail(name)}


def _better(name: str) -> str:
    """Which values of the metric `name` are better, in words; none where nothing is known of it, or none are."""
    from toposampler.metrics.catalog import direction

    way = direction(name)
    return "" if way == "-" else f"better: {way}"
