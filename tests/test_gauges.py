"""What the gauges show of a run's records, without Ray (tests/test_beside_ray.py scrapes them)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from toposampler.distributed import gauges
from toposampler.records import RecordWriter


def test_gauges_follow_the_records(tmp_path: Path) -> None:
    shown: list[tuple[str, float, Mapping[str, str]]] = []
    writer = RecordWriter(tmp_path / "metrics.jsonl")
    writer.write(5, {"mass/0": 1.0}, 90.0)
    tags = {"run": "mine", "trial": ""}
    followed = gauges.Followed(tags, tmp_path, lambda *what: shown.append(what))
    followed.refresh()
    assert shown == [], "of an earlier process"
    writer.write(10, {"mass/0": 0.5, "mass/1": 0.499, "mass/2": 0.001}, 100.0)
    followed.refresh()
    assert shown == [("generator_steps", 10.0, tags), ("active_generators", 2.0, tags)]
    shown.clear()
    writer.write(20, {"eval/off_manifold_0.05": 0.25}, 104.0)
    writer.write(30, {"eval/off_support_nn99": 0.125}, 105.0)
    followed.refresh()
    assert [(name, value) for name, value, _ in shown] == [
        ("generator_steps", 20.0),
        ("steps_per_second", 2.5),
        ("off_manifold_rate", 0.25),
        ("generator_steps", 30.0),
        ("steps_per_second", 4.0),
        ("off_manifold_rate", 0.125),
    ]


def test_each_trial_has_gauges_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float, Mapping[str, str]]] = []
    monkeypatch.setattr(gauges, "_set", lambda *what: shown.append(what))
    folders = {name: tmp_path / name for name in ("trial-000", "trial-001")}
    with gauges.gauges("search", folders):
        for step, folder in enumerate(folders.values(), 1):
            folder.mkdir()
            RecordWriter(folder / "metrics.jsonl").write(step, {})
    assert sorted((tags["trial"], value) for _, value, tags in shown) == [("trial-000", 1.0), ("trial-001", 2.0)]
    assert {tags["run"] for _, _, tags in shown} == {"search"}
