"""The benchmark of searches: equal steps, true scores, where it goes on, and what it counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from processes import ROOT

from toposampler.tuning import programs
from toposampler.tuning.config import load_sweep
from toposampler.tuning.driver import sweep_plan
from toposampler.tuning.ledger import Ledger
from toposampler.tuning.report import FRESH

STEPS, SEEDS = 9, (0, 1, 2)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import searches
    import searches_runs
    import searches_settings
    import searches_simulated

    toy = searches_runs.Target(
        title="toy",
        base="lines_wgan_gp.yaml",
        overrides={
            "system.generator_width": 8,
            "system.critic_width": 8,
            "training.generator_steps": STEPS,
            "training.batch_size": 4,
            "training.batch_growth": 1,
            "training.evaluation_samples": 100,
        },
        space={"system.generator.learning_rate": "ready", "system.critic.learning_rate": "ready"},
        race={"trials": 4, "repeats": 2, "confirm_seeds": 2, "scheduler": {"name": "racing"}},
    )
    for module in (searches, searches_runs, searches_settings, searches_simulated):
        monkeypatch.setattr(module, "TARGETS", {"toy": toy})
    return searches


@pytest.fixture
def runs(searches: ModuleType) -> ModuleType:
    """The module that trains."""
    return sys.modules["searches_runs"]


def test_a_repeat_trains_equal_steps_and_goes_on_where_it_was_stopped(
    searches: ModuleType, runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, true_scores, advance = tmp_path / "searches.json", runs.true_scores, programs.advance_together
    asked: list[dict[str, Any]] = []
    trained = {"race": 0, "random": 0}

    def scored(target: Any, values: dict[str, Any]) -> Any:
        asked.append(values)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return true_scores(target, values, SEEDS)

    def counted(members: Any, until: int, fails: Any) -> None:
        search = next(name for name in trained if f"/{name}-3/" in members[0].config.output)
        trained[search] += sum(until - run.loop.step for run in members)
        advance(members, until, fails)

    monkeypatch.setattr(programs, "advance_together", counted)
    monkeypatch.setattr(runs, "true_scores", scored)
    with pytest.raises(KeyboardInterrupt):
        runs.go("toy", 3, out, tmp_path / "runs")
    assert searches.outcomes(searches.kept(out), "toy") == [], "a repeat that is not complete is in no table"
    monkeypatch.setattr(runs, "searched", None)  # is not called again
    runs.go("toy", 3, out, tmp_path / "runs")
    (found,) = searches.outcomes(searches.kept(out), "toy")
    assert asked[:2] == [{}, {}], "the base, which was interrupted, and again"
    assert len(found.base) == len(found.random) == len(SEEDS)
    assert (trained["race"], trained["random"]) == (found.steps, found.random_steps), "what is said was trained"
    assert found.steps <= found.random_steps < found.steps + STEPS
    first = [ledger_values(tmp_path / "runs" / "toy", f"{search}-3") for search in ("race", "random")]
    assert first[0] == first[1][: len(first[0])], "both begin with the same settings"
    assert len(first[1]) == found.random_steps // STEPS
    runs.go("toy", 3, out, tmp_path / "runs")
    assert asked.count({}) == 2, "nothing is left to do"


def ledger_values(folder: Path, name: str) -> list[dict[str, Any]]:
    """The settings of the trials of a sweep, in order."""
    return [entry.values for entry in Ledger(load_sweep(folder / f"{name}.yaml")).entries()]


def test_no_seed_of_a_true_score_is_one_of_a_search(runs: ModuleType, tmp_path: Path) -> None:
    target = runs.TARGETS["toy"]
    used: set[int] = set(runs.TRUTH)
    n = len(used)
    for repeat in (0, 1, 9):
        sweep = runs.sweep_of(target, f"race-{repeat}", repeat, tmp_path, target.race)
        mine = set(sweep_plan(sweep).seeds)
        mine |= set(range(sweep.base.seed + FRESH, sweep.base.seed + FRESH + sweep.config.confirm_seeds))
        assert not used & mine
        used |= mine
        n += sweep.config.repeats + sweep.config.confirm_seeds
    assert len(used) == n


def test_samples_that_are_not_finite_have_the_worst_score(runs: ModuleType) -> None:
    target, seeds = runs.TARGETS["toy"], (0, 1)
    found = runs.true_scores(target, {"system.generator.learning_rate": 1e38}, seeds)
    assert found == {"scores": [runs.WORST] * 2}


def trials_of(repeats: int, race: list[float], random: list[float], base: list[float]) -> list[dict[str, Any]]:
    """Results of `repeats` repeats; in every second the race found nothing better than the base."""
    trials: list[dict[str, Any]] = [{"target": "toy", "values": {}, "rows": {"scores": base}}]
    for repeat in range(repeats):
        better = repeat % 2 == 0
        values = {"race": {"a": repeat} if better else {}, "random search": {"b": repeat}}
        about = {"target": "toy", "repeat": repeat}
        said = {"winner": values["race"], "better": better, "steps": 70}
        drawn = {"winner": values["random search"], "score": 0.25, "steps": 72}
        trials += [{**about, "search": "race", "rows": said}, {**about, "search": "random search", "rows": drawn}]
        trials += [{"target": "toy", "values": values["race"], "rows": {"scores": race}}] if better else []
        trials += [{"target": "toy", "values": values["random search"], "rows": {"scores": random}}]
    return trials


def test_tables_count_and_say_how_many_repeats_there_are(searches: ModuleType, tmp_path: Path) -> None:
    trials = trials_of(3, race=[0.1, 0.3], random=[0.4, 0.6], base=[0.5, 0.9])
    (tmp_path / "toy.json").write_text(json.dumps({"trials": trials}))
    *_, row = searches.table(tmp_path)
    # The race has .2, .7, .2 (the second is the base); random search .5 each time; the base .7.
    assert row == "| toy | 3 | 0.367 | 0.500 | 0.700 | 2 of 3 | 2 of 3 | 1 of 3 |"
    *_, last = searches.repeats_table(tmp_path)
    assert last == "| toy | 2 | 0.200 ± 0.100 | 0.500 ± 0.100 | 0.700 ± 0.200 | better | 0.250 | 70 and 72 |"
    (tmp_path / "toy.json").write_text(json.dumps({"trials": trials[:-1]}))
    *_, row = searches.table(tmp_path)
    assert row.startswith("| toy | 2 |"), "the last repeat has no true score of random search yet"


def test_the_command_draws_what_there_is(
    searches: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figure = tmp_path / "results", tmp_path / "figure.png"
    out.mkdir()
    command = ["searches.py", "--targets", "toy", "--repeats", "0", "--out", str(out), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="results holds no results"):
        searches.main()
    (out / "toy.json").write_text(json.dumps({"trials": trials_of(3, [0.1, 0.3], [0.4, 0.6], [0.5, 0.9])}))
    searches.main()
    assert "| toy | 3 | 0.367 |" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_searches_simulated_on_scores_of_settings(searches: ModuleType, tmp_path: Path) -> None:
    module = sys.modules["searches_settings"]
    rng = np.random.default_rng(0)
    good, bad = rng.normal(0.5, 0.01, (1, 8)), rng.normal(2.0, 0.01, (40, 8))
    scores = np.concatenate([rng.normal(1.0, 0.01, (1, 8)), good, bad])  # the base first
    assert module.race(scores, 42, 2, 1, 8, 0.95)(rng) == 1
    assert module.race(scores[[0, 2, 3]], 3, 2, 2, 8, 0.95)(rng) == 0, "nothing better found"
    mean, wrong = module.simulated(scores, module.random_search(scores))
    missed = (40 / 41) ** 47  # then the base is the best of those tried
    assert mean == pytest.approx(0.5 + 0.5 * missed, abs=0.04)
    assert wrong == 0
    noisy = rng.normal(1.0, 0.3, (9, 8))
    noisy[0] += noisy.mean(axis=1).min() - 0.01 - noisy[0].mean()  # nothing is better than the base
    assert (
        module.simulated(noisy, module.random_search(noisy))[1]
        > module.simulated(noisy, module.race(noisy, 9, 2, 1, 8, 0.95))[1]
    ), "the best single score is mostly luck, and a race keeps the base"


def test_settings_drawn_at_random_are_the_same_ones_first(searches: ModuleType, runs: ModuleType) -> None:
    module = sys.modules["searches_settings"]
    (target,) = runs.TARGETS.values()
    few, many = (list(module.settings(target, n)) for n in (2, 4))
    assert many[:2] == few
    assert few[0] == {}
    assert len({tuple(values.items()) for values in many}) == 4


def test_races_simulated_on_drawn_functions(
    searches: ModuleType, runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, settings = sys.modules["searches_simulated"], sys.modules["searches_settings"]
    for name, value in {"SPLITS": (10, 12), "COST": 20, "FEATURES": 200, "GENERATION": 4}.items():
        monkeypatch.setattr(module, name, value)
    (target,) = runs.TARGETS.values()
    rng, trials = np.random.default_rng(0), []
    for values in settings.settings(target, 12):
        mean = 2 + np.log10(values.get("system.generator.learning_rate", 1e-3))  # a smaller one is better
        trials.append({"values": values, "rows": {"scores": list(mean + 3 + rng.normal(0, 0.05, 8))}})
    rows = module.simulate(target, trials, 0)
    assert rows == module.simulate(target, trials, 0), "the same in each call"
    assert rows != module.simulate(target, trials, 1)
    assert [(race["trials"], race["by"]) for race in rows["races"]] == [
        (n, way) for n in (10, 12) for way in ("score", "model")
    ]
    assert all(race["candidate"] < rows["base"] for race in rows["races"]), "the rate decides, and is found"
    assert all(race["nothing"] < 0.5 for race in rows["races"])
    (tmp_path / "toy.json").write_text(json.dumps({"trials": [{"rows": rows}]}))
    assert len(module.table(tmp_path)) == 2 + len(rows["races"])


def test_a_drawn_function_agrees_with_the_scores_it_is_of(searches: ModuleType) -> None:
    module, rng = sys.modules["searches_simulated"], np.random.default_rng(0)
    x = rng.random((30, 2))
    y = np.sin(3 * x[:, 0]) + x[:, 1] + 2
    near = [module.drawn_function(x, y, np.random.default_rng(seed))(x) for seed in range(4)]
    assert np.abs(np.array(near) - y).max() < 0.1 * y.std()
    far = [module.drawn_function(x, y, np.random.default_rng(seed))(np.full((1, 2), 3.0)) for seed in range(4)]
    assert np.std(far) > 0.1, "elsewhere they differ"
