"""The benchmark of all systems: its runs, its table and its figure."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from processes import ROOT, marked_environment

from toposampler.errors import UserError
from toposampler.systems import SYSTEMS
from toposampler.tracking.tracker import PARENT
from toposampler.training.config import run_folder
from toposampler.training.lock import locked

torch.set_num_threads(1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import family_runs

    return family_runs


@pytest.fixture
def report(runs: ModuleType) -> ModuleType:
    import family_report

    return family_report


def test_every_system_takes_part_with_one_budget_and_one_number_of_generators(runs: ModuleType) -> None:
    found = set()
    for name, (data, target) in itertools.product(runs.ENTRANTS, runs.TARGETS.items()):
        config = runs.run_config(runs.Task(data, name, 1, None, "runs"))
        found.add(config.system.name)
        training = config.training
        late = training.generator_steps - math.ceil(training.generator_steps * training.batch_growth_from)
        steps = training.generator_steps + (training.batch_growth - 1) * late
        assert training.critic_steps * training.batch_size * steps == pytest.approx(target.budget, rel=0.01)
        assert config.system.K in (1, target.generators)
        assert (config.name, config.seed) == (f"{data}-{name}-1", 1)
    given_the_labels = {"conditional_wgan_gp"}  # which the others have to find
    another_page = {"r3gan"}  # its entrant has its loss on the page wgan_gp, without a burn-in
    assert found == {page.model_fields["name"].default for page in SYSTEMS} - given_the_labels - another_page
    assert "r3gan" in runs.ENTRANTS


def row(system: str, seed: int, **metrics: Any) -> dict[str, Any]:
    return {"data": "ring", "system": system, "seed": seed, **metrics}


def test_the_table_has_mean_and_spread_best_score_first_and_says_what_broke_down(report: ModuleType) -> None:
    rows = [
        row("a", 0, score=2.0, modes_2500=1, prior_tv=0.25),
        row("a", 1, score=1.0, modes_2500=3, prior_tv=0.75),
        row("b", 0, score=0.5, modes_2500=8),
        row("b", 1, failed="a loss is not finite"),
        row("c", 0, failed="a loss is not finite"),
        row(report.REAL, 0, score=0.7, modes_2500=8),
    ]
    assert report.seeds_of(rows) == "1 to 2 seeds"
    assert report.seeds_of(rows[:4]) == "2 seeds"
    assert report.seeds_of(rows[4:]) == "1 seed"
    assert report.table("ring", rows).splitlines() == [
        "| system | modes of 8 | prior error (TV) | score | worst score |",
        "|---|---|---|---|---|",
        "| real data | 8.0 | - | 0.700 | - |",
        "| b (1 of 2 broke down) | 8.0 | - | 0.500 | - |",
        "| a | 2.0 ± 1.4 | 0.500 ± 0.354 | 1.500 ± 0.707 | 2.000 |",
        "| c (1 of 1 broke down) | - | - | - | - |",
    ]


def test_new_points_of_the_data_score_as_a_perfect_sampler_does(runs: ModuleType) -> None:
    scores = runs.run(runs.Task("grid9", runs.REAL, 0, None, "runs"))
    assert scores["modes_2500"] == 9
    assert scores["high_quality_3sd_2500"] == pytest.approx(0.9889, abs=4 * 0.0021)  # of a binomial share
    assert scores["jsd_nats"] < 1e-6
    assert scores["off_manifold_0.05"] < 0.001


@pytest.mark.usefixtures("drawn")
def test_a_run_gives_a_row_and_a_page_and_is_read_again(
    runs: ModuleType, report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = runs.Task("ring", "wgan_gp", 0, 2000, str(tmp_path))
    found = runs.run(task)
    assert found["generator_steps"] == 9
    assert found["parameters"] == 8 * 128 + 128 + 128 * 64 + 64 + 64 * 2 + 2
    assert found["parameters_in_training"] > found["parameters"]
    monkeypatch.setattr(sys.modules["runs"], "train", None)  # a complete run is not trained
    assert runs.run(task) == found
    with locked(run_folder(runs.run_config(task))), pytest.raises(UserError, match="another process is working on"):
        runs.run(task)
    (tmp_path / "ring.json").write_text(json.dumps({"rows": [found]}))
    report.write(tmp_path, "ring", [found], [task], 2000)
    page = (tmp_path / "ring.md").read_text()
    assert "| wgan_gp | " in page
    assert "| PacGAN4 (PacGAN paper) | 7.8 | 95.9 |" in page
    overview = (tmp_path / "README.md").read_text()
    assert "| system | [ring](ring.md), 1 seed |" in overview
    assert "| wgan_gp | " in overview
    assert (tmp_path / "ring.png").stat().st_size > 1000


@pytest.mark.slow
def test_seeds_that_are_trained_at_once_give_the_rows_of_single_runs(runs: ModuleType, tmp_path: Path) -> None:
    together = [runs.Task("ring", "wgan_gp", seed, 12_000, str(tmp_path / "all")) for seed in (0, 1)]
    alone = runs.Task("ring", "wgan_gp", 1, 12_000, str(tmp_path / "one"))
    rows = runs.run_seeds(together)
    assert [row["seed"] for row in rows] == [0, 1]
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"ring-wgan_gp-0", "ring-wgan_gp-1"}
    assert runs.run_seeds(together) == rows
    one = runs.run(alone)
    assert (rows[1]["together"], one["together"]) == (2, 1)
    assert rows[1]["constants"] == one["constants"]
    assert rows[1]["score"] == pytest.approx(one["score"], abs=0.02)
    assert rows[1]["solved"] == one["solved"] == 0


def test_a_task_is_solved_where_each_of_the_last_evaluations_is_good(runs: ModuleType, tmp_path: Path) -> None:
    good = {"off_manifold_0.05": 0.01, "coverage_0.05_mean": 0.99, "coverage_0.05_min": 0.9, "mass_tv": 0.01}

    def solved(evaluations: list[dict[str, float]], last: dict[str, float]) -> dict[str, float]:
        lines = [
            {"step": step, "time": 0.0, "metrics": {f"eval/{k}": v for k, v in found.items()} | {"eval/score": 0.0}}
            for step, found in enumerate(evaluations)
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return runs._solved(tmp_path, last)

    bad = good | {"mass_tv": 0.2}
    assert solved([bad, good, good, good, good], good) == {"solved": 1}
    assert solved([good, bad, good, good, good], good) == {"solved": 0}
    assert solved([good] * 5, good | {"coverage_0.05_mean": 0.9}) == {"solved": 0}
    assert solved([good] * 3, good) == {"solved": 0}
    assert solved([good] * 5, {"score": 0.0}) == {}


def test_rows_of_another_machine_count_with_todays_constants(runs: ModuleType, tmp_path: Path) -> None:
    import family

    wgan_gp, sn_gan, real = (
        runs.constants_of(runs.Task("ring", system, 0, None, "elsewhere"))
        for system in ("wgan_gp", "sn_gan", runs.REAL)
    )
    constants = {
        "earlier": {key: value for key, value in wgan_gp.items() if key != "training.minutes"}  # now at its default
        | {"training.augmentation.kinds": ["flip", "translation", "colour", "cutout"]},  # an old spelling
        "refused": wgan_gp | {"training.batch_size": "many"},
        "other": sn_gan | {"training.batch_size": 7},
        "further": {key: value for key, value in wgan_gp.items() if key != "training.generator_steps"},  # at another
        "real": real,
    }
    elsewhere = [row("wgan_gp", 0, constants="earlier", score=0.25), row(runs.REAL, 2, constants="real", score=0.0)]
    rows = [
        *elsewhere,
        row("sn_gan", 1, constants="other"),
        row("wgan_gp", 1, constants="further"),
        row("wgan_gp", 2, constants="refused"),
        row("removed", 0, constants="further"),
    ]
    content = {"critic_samples": runs.TARGETS["ring"].budget, "constants": constants, "rows": rows}
    (tmp_path / "ring.json").write_text(json.dumps(content))
    options = argparse.Namespace(out=tmp_path, runs=tmp_path / "runs", budget=None)
    assert family.known_rows("grid", options) == []
    assert family.known_rows("ring", options) == [
        elsewhere[0] | {"constants": runs.fingerprint(wgan_gp)}, elsewhere[1] | {"constants": runs.fingerprint(real)}
    ]  # fmt: skip
    with pytest.raises(UserError, match="budget of 2240000, not 1000: choose another --out"):
        family.known_rows("ring", argparse.Namespace(**vars(options) | {"budget": 1000}))


def test_rows_are_added_to_those_there_are_and_runs_at_hand_are_read_again(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import family

    def in_process(make: Callable[[], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
        return map(make(), tasks)

    monkeypatch.setattr(family, "on_workers", in_process)
    path = tmp_path / "out" / "ring.json"
    common = {"data": ["ring"], "seeds": 1, "together": True, "budget": 1000, "workers": 1, "mlflow": False}

    def scores_after(system: str) -> dict[str, float]:
        options = argparse.Namespace(**common, systems=[system], runs=tmp_path / "runs", out=path.parent)
        family.benchmark(options)
        return {row["system"]: row["score"] for row in json.loads(path.read_text())["rows"]}

    first = scores_after("wgan_gp")
    both = scores_after("sn_gan")  # the run of wgan_gp is at hand, and not asked for
    assert both.keys() == {"wgan_gp", "sn_gan", runs.REAL}
    assert both["wgan_gp"] == first["wgan_gp"]

    def write(score: float) -> None:
        results = json.loads(path.read_text())
        changed = [row | {"score": score} if row["system"] == "wgan_gp" else row for row in results["rows"]]
        path.write_text(json.dumps(results | {"rows": changed}))

    write(9.0)
    assert scores_after("wgan_gp") == both  # read from the run
    shutil.rmtree(tmp_path / "runs" / "ring-wgan_gp-0")
    write(9.0)
    assert scores_after("wgan_gp") == both | {"wgan_gp": 9.0}  # the run is not there, and not trained again
    assert not (tmp_path / "runs" / "ring-wgan_gp-0").exists()


def test_the_picture_is_drawn_where_a_run_of_every_system_is_at_hand(report: ModuleType, tmp_path: Path) -> None:
    tasks = [report.Task("ring", system, 0, None, str(tmp_path)) for system in ("wgan_gp", "sn_gan")]
    rows = [row(task.system, 0, score=1.0) for task in tasks]
    for task in tasks:
        assert report.figure("ring", rows, tasks) is None
        folder = run_folder(report.run_config(task))
        folder.mkdir()
        np.savez(folder / "samples.npz", samples=np.zeros((10, 2), np.float32))
    assert report.figure("ring", rows, tasks) is not None


@pytest.mark.slow
@pytest.mark.ray
def test_the_benchmark_runs_over_ray_is_read_again_and_recorded_below_one_run(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "family.py"), "--systems", "wgan_gp", "--data", "ring,digits"]
    command += ["--seeds", "1", "--budget", "1000", "--workers", "1", "--mlflow"]
    command += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    for _ in range(2):
        subprocess.run(command, check=True, env=marked_environment())
        names = {f"{data}.{kind}" for data in ("ring", "digits") for kind in ("md", "json", "png")} | {"README.md"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == names
        assert "| wgan_gp | " in (tmp_path / "out" / "digits.md").read_text()
    before = (tmp_path / "out" / "ring.json").read_text()
    shutil.rmtree(tmp_path / "runs" / "ring-wgan_gp-0")
    subprocess.run(command, check=True, env=marked_environment())
    assert not (tmp_path / "runs" / "ring-wgan_gp-0").exists()
    assert (tmp_path / "out" / "ring.json").read_text() == before
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in found if PARENT not in run.data.tags]
    children = [run for run in found if run.data.tags.get(PARENT) == parent.info.run_id]
    assert sorted(run.info.run_name for run in children) == ["digits-wgan_gp-0", "ring-wgan_gp-0"]
    assert {run.info.status for run in found} == {"FINISHED"}
    assert all("final/score" in run.data.metrics for run in children)
