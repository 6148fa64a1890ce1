"""What a finished run's folder says of it, and in what several runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toposampler.config import as_text, flatten
from toposampler.errors import UserError
from toposampler.metrics.catalog import is_detail
from toposampler.reader import plain, read_yaml

ABSENT = "-"


@dataclass(frozen=True)
class FinishedRun:
    """One run that was trained to its end."""

    label: str
    """its name, or where several have the same, its folder"""
    folder: Path
    config: dict[str, Any]
    """its configuration, by dotted keys"""
    metrics: dict[str, float]
    masses: list[float]
    """of the generators, as they are drawn; [1.0] where there is one"""
    active_generators: float
    """the mean over its members of a population"""
    generator_steps: int
    seconds: float
    """0 of a sweep"""
    result: dict[str, Any]
    """all of its result.json"""

    @property
    def figures(self) -> list[Path]:
        """The PNGs of the run."""
        return sorted((self.folder / "figures").glob("*.png"))

    @property
    def shown_masses(self) -> str:
        """The masses of 0.001 and more as text, the largest first."""
        shown = [f"{mass:.3f}" for mass in sorted(self.masses, reverse=True) if mass >= 0.001]
        rest = len(self.masses) - len(shown)
        return "  ".join([*shown, *([f"and {rest} below 0.001"] if rest else [])])


def read_runs(places: Sequence[str]) -> list[FinishedRun]:
    """The runs in the folders `places`. Raises UserError if one holds no run, or none that has ended."""
    names = [Path(place).resolve().name for place in places]
    return [
        read_run(Path(place), name if names.count(name) == 1 else place)
        for place, name in zip(places, names, strict=True)
    ]


def read_run(folder: Path, label: str, result: Mapping[str, Any] | None = None) -> FinishedRun:
    """The run in `folder`, called `label`, with its `result`, which is read where it is not given. Raises UserError."""
    try:
        found = (folder / "config.yaml").is_file()
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    if not found:
        raise UserError(f"{folder} is not the folder of a run: it holds no config.yaml")
    path = folder / "result.json"
    try:
        if result is None:
            result = json.loads(path.read_text(encoding="utf-8"))
        return FinishedRun(
            label,
            folder,
            flatten(plain(read_yaml(folder / "config.yaml"))),
            {name: float(value) for name, value in result["metrics"].items()},
            [float(mass) for mass in result.get("prior") or [1.0]],
            float(result.get("active_generators", 1)),
            int(result["generator_steps"]),
            float(result.get("seconds", 0.0)),
            dict(result),
        )
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no result.json: its training has not ended; "
            f"toposampler train --resume {folder.name} --output {folder.parent} resumes it"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # no JSON, or no result
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None


Table = list[tuple[str, list[str]]]
"""rows: what it is, and its value for each run"""


def results(runs: Sequence[FinishedRun]) -> Table:
    """The metrics that any of `runs` has, without those of single components, and what training took."""
    names = [name for name in {name: None for run in runs for name in run.metrics} if not is_detail(name)]
    rows = [(name, [_number(run.metrics.get(name)) for run in runs]) for name in names if name != "active_generators"]
    return [
        *rows,
        ("active generators", [f"{run.active_generators:g} of {len(run.masses)}" for run in runs]),
        ("generator steps", [f"{run.generator_steps:,}" for run in runs]),
        ("seconds", [f"{run.seconds:,.0f}" for run in runs]),
    ]


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4g}"


def differences(runs: Sequence[FinishedRun]) -> Table:
    """The keys whose values differ between the configurations of `runs`, but for `name` and `output`."""
    keys = {key: None for run in runs for key in run.config if key not in ("name", "output")}
    rows = [(key, [as_text(run.config[key]) if key in run.config else ABSENT for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
