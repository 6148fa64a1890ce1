"""What the command `train` says when a run has ended: its result as a table, and where to look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toposampler.training.config import RunConfig, as_known, seeds_of


def ending(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """The result of a run, or of those of several seeds, and where to look."""
    from toposampler.distributed.driver import recorded_on_mlflow, where_to_look

    folder = as_known(config)
    if config.seeds is None:
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


def seeds_named(config: RunConfig) -> str:
    """How many seeds, and which."""
    seeds = seeds_of(config)
    if len(seeds) > 3 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{len(seeds)}: {seeds[0]} to {seeds[-1]}"
    return f"{len(seeds)}: {', '.join(map(str, seeds))}"


def _table(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """A row for each metric, but for those of single components."""
    metrics = _of_the_whole(result["metrics"])
    rows = {**metrics, **{key: result[key] for key in ("active_generators", "generator_steps", "seconds")}}
    width = max(map(len, rows))
    yield from (f"  {name:<{width}}  {value:>10.5g}  {_better(name)}".rstrip() for name, value in rows.items())
    yield from _left_out(config, len(result["metrics"]) - len(metrics))


def _table_of_seeds(config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """Mean, standard deviation and extremes over the seeds of every metric, and the seeds without a result."""
    spread = _of_the_whole(result["spread"])
    width, columns = max(map(len, spread)), ("mean", "sd", "min", "max")
    yield f"  {len(result['members'])} seeds".ljust(width + 2) + "".join(f"  {column:>10}" for column in columns)
    for name, values in spread.items():
        numbers = "".join(f"  {values[column]:>10.5g}" for column in columns)
        yield f"  {name:<{width}}{numbers}  {_better(name)}".rstrip()
    yield f"  generator_steps {result['generator_steps']:,}, seconds {result['seconds']:g}"
    yield from _left_out(config, len(result["spread"]) - len(spread))
    for seed, reason in result["failed"].items():
        yield f"failed   seed {seed}: {reason}"


def _of_the_whole(metrics: dict[str, Any]) -> dict[str, Any]:
    """Those of `metrics` that are not of single components."""
    from toposampler.metrics.catalog import is_detail

    return {name: value for name, value in metrics.items() if not is_detail(name)}


def _left_out(config: RunConfig, number: int) -> Iterator[str]:
    if number:
        yield f"metrics  {number} more, of single components, in {as_known(config)}/result.json"


def _better(name: str) -> str:
    """Which values of the metric `name` are better, in words; none where nothing is known of it, or none are."""
    from toposampler.metrics.catalog import direction

    way = direction(name)
    return "" if way == "-" else f"better: {way}"
