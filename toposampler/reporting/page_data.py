"""What the scripts of a page draw of a run, from the files in its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from toposampler.metrics.catalog import is_detail
from toposampler.records import Record, read_records
from toposampler.reporting.encoding import plain
from toposampler.reporting.runs import FinishedRun

POINTS = 400
"""records of a curve, at most"""
PAUSE = 20.0
"""a gap between two records longer than so many times the median is no training, but a pause"""
PARTS = ("film", "nearest", "tear", "data", "environment")

log = logging.getLogger(__name__)


def of_run(run: FinishedRun) -> dict[str, Any]:
    """The data of `run`: `report.json` where it has one, its curves, and of its result what is drawn."""
    records = _thinned(read_records(run.folder / "metrics.jsonl"))
    stored = _stored(run.folder / "report.json")
    findings = run.result.get("findings") or {}
    batch = run.config.get("training.batch_size") or 0
    shown: dict[str, Any] = {
        "label": run.label,
        "steps": [record.step for record in records],
        "seconds": _seconds(records),
        "samples": [_samples(run, record.step, batch) for record in records],
        "curves": _curves(records),
        "final": {f"eval/{name}": value for name, value in run.metrics.items() if not is_detail(name)},
        "evaluated": findings.get("n", 0),
        "components": findings.get("components", []),
        "makers": findings.get("makers", []),
        "members": run.result.get("members", {}) and _members(run),
        "trials": run.result.get("trials", []),
        "best": (run.result.get("best") or {}).get("trial"),
    } | {name: stored.get(name, {} if name in ("data", "environment") else None) for name in PARTS}
    return {name: plain(value) if name not in ("film", "nearest", "tear") else value for name, value in shown.items()}


@cache
def _text(path: Path, changed: float) -> str:
    return path.read_text(encoding="utf-8")


def _stored(path: Path) -> dict[str, Any]:
    """The content of `report.json`; nothing where there is none, or where it is damaged, which is said."""
    try:
        content = json.loads(_text(path, path.stat().st_mtime))
        return content if isinstance(content, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s is left out of the report: %s", path, error)
        return {}


def _thinned(records: Sequence[Record]) -> list[Record]:
    """At most `POINTS` of the records, the last among them; all that hold an evaluation."""
    stride = -(-len(records) // POINTS)
    last = len(records) - 1
    return [
        record
        for i, record in enumerate(records)
        if (last - i) % max(1, stride) == 0 or any(name.startswith("eval/") for name in record.metrics)
    ]


def _seconds(records: Sequence[Record]) -> list[float]:
    """Seconds of training since the first record, without pauses of a run that was stopped and went on."""
    gaps = [b.time - a.time for a, b in pairwise(records)]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
    seconds = [0.0] if records else []
    for gap in gaps:
        seconds.append(seconds[-1] + (usual if gap > PAUSE * usual else max(0.0, gap)))
    return seconds


def _samples(run: FinishedRun, step: int, batch: int) -> int:
    """Real samples that were seen after `step`: of every step of the critic and of the others."""
    config = run.config
    grows = (config.get("training.batch_growth_from") or 1.0) * (config.get("training.generator_steps") or 0)
    later = max(0.0, step - grows)
    moves = 1 + int(config.get("training.critic_steps") or 0)
    return round(moves * batch * (step + ((config.get("training.batch_growth") or 1) - 1) * later))


def _curves(records: Sequence[Record]) -> dict[str, list[float | None]]:
    """Values of every metric that is not of a single component, None where a record lacks it."""
    told = [name for record in records for name in record.metrics if not is_detail(name)]
    names = dict.fromkeys(name for name in told if name not in ("members", "generators"))  # how many: no curves
    return {name: [record.metrics.get(name) for record in records] for name in names}


def _members(run: FinishedRun) -> dict[str, dict[str, float]]:
    """Metrics of the members of a population, by seed."""
    return {
        seed: {name: value for name, value in member["metrics"].items() if not is_detail(name)}
        for seed, member in run.result["members"].items()
    }
