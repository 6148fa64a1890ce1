"""Sweeps without Ray: what is refused, what is drawn, how trials are remembered, evaluated, moved and compared."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from toposampler.commands import sweep as script
from toposampler.config import ClusterConfig, flatten, merge_overrides, validate
from toposampler.data.lines import LinesConfig
from toposampler.distributed.resources import Node
from toposampler.errors import UserError
from toposampler.keys import ready_ranges
from toposampler.metrics.evaluate import Evaluation, evaluation
from toposampler.records import RecordWriter, read_records
from toposampler.systems import SYSTEMS
from toposampler.tracking.aliases import CANDIDATE, CHAMPION
from toposampler.tracking.champion import Protocol, beats, compete, measure
from toposampler.tracking.registry import Registry
from toposampler.training import RunConfig, load_config, load_model, train
from toposampler.training.branch import branch
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.tuning.config import Sweep, base_values, lines, load_sweep, trial_config
from toposampler.tuning.console import table
from toposampler.tuning.driver import prepared, sweep_plan, written
from toposampler.tuning.engine import concurrent_trials
from toposampler.tuning.ledger import Entry, Ledger, best
from toposampler.tuning.report import best_yaml
from toposampler.tuning.schedulers import Explorer, scheduler
from toposampler.tuning.spaces import Choice, Number, Whole, drawn, parse_parameter, parse_space, widened
from toposampler.tuning.trainable import FAILED, STEP, run_trial
from toposampler.tuning.trial import Plan, reports, runs, trial_name

MakeConfig = Callable[..., RunConfig]
MakeSweep = Callable[..., Sweep]
SCHEDULE, DECAY, SPAN = (f"system.prior.entropy_{name}" for name in ("schedule", "decay", "span"))
K_SYSTEMS = [p.model_fields["name"].default for p in SYSTEMS if "n_generators" in p.model_fields]
SMALL = {
    "name": "base",
    "data": {"name": "lines", "n": 400},
    "system": {"name": "topo_dmgan", "n_generators": 4},
    "training": {"batch_size": 8, "generator_steps": 18, "log_every": 2, "evaluation_samples": 500},
    "tracking": {"enabled": False},
}


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """A SWEEP.yaml over a small base; keys change it, None removes one."""

    def write(**changes: Any) -> Path:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(SMALL))
        space = {"system.n_generators": {"int": [2, 6]}, "system.topology_weight": {"loguniform": [0.1, 10]}}
        content = {"name": "s", "base": "base.yaml", "output": str(tmp_path / "runs"), "space": space, "trials": 4}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**content, **changes}))
        return tmp_path / "sweep.yaml"

    return write


@pytest.fixture
def make_sweep(write_sweep: Callable[..., Path]) -> MakeSweep:
    """As `write_sweep`, loaded, with its folder."""

    def make(**changes: Any) -> Sweep:
        sweep = load_sweep(write_sweep(**changes))
        sweep.folder.mkdir(parents=True, exist_ok=True)
        return sweep

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"system.n_generatorz": {"int": [2, 6]}}}, "system.n_generatorz: unknown key. Did you mean 'n_gen"),
        ({"space": {"system.n_generators": {"int": [0, 6]}}}, "space.system.n_generators: 0 is in its range"),
        (
            {"space": {"system.n_generators": {"uniform": [2, 6]}}},
            "system.n_generators: input should be a valid int",
        ),
        ({"space": {DECAY: {"uniform": [0.9, 1.1]}}}, f"space.{DECAY}: 1.1 is in its range"),
        ({"space": {DECAY: {"uniform": [0.99, 0.9]}}}, f"space.{DECAY}.uniform: low must be less than high"),
        ({"space": {DECAY: {"loguniform": [0, 0.9]}}}, f"space.{DECAY}.loguniform: low must be positive (got 0)"),
        ({"space": {DECAY: {"choice": []}}}, f"space.{DECAY}.choice: a list of at least one value is needed (got [])"),
        ({"space": {DECAY: {"normal": [0, 1]}}}, "a range is one of uniform, loguniform, int, choice"),
        ({"space": {DECAY: 0.9}}, f"space.{DECAY}: 0.9 is no range"),
        ({"space": {}}, "space: no key is searched"),
        (
            {"space": {"system.topology_weight": {"choice": ["0.5", 1.0]}}},
            "space.system.topology_weight: '0.5' is in its range, and",
        ),
        ({"space": {"system.latent.dim": "ready"}}, "space.system.latent.dim: topo_dmgan has no ready range for it"),
        ({"space": {"seed": {"int": [0, 5]}}}, "space.seed: cannot be searched"),
        (
            {"space": {"training.generator_steps": {"int": [5, 9]}}},
            "space.training.generator_steps: cannot be searched",
        ),
        ({"space": {DECAY: {"uniform": [0.9, 0.99], "when": {"system.nothing": 1}}}}, "system.nothing is neither in"),
        ({"space": {SPAN: {"uniform": [0.1, 0.5], "when": {SCHEDULE: "linear"}}}}, "is always 'exponential'"),
        (
            {
                "space": {
                    SCHEDULE: {"choice": ["linear"]},
                    DECAY: {"uniform": [0.9, 0.99], "when": {SCHEDULE: "cosine"}},
                }
            },
            f"space.{DECAY}.when: {SCHEDULE} is never 'cosine'",
        ),
        ({"objectives": {"fid": "minimize"}}, "objectives: unknown metric 'fid'; this data and system have"),
        ({"objectives": {}}, "objectives: at least one metric is needed"),
        ({"objectives": {"score": "small"}}, "objectives.score"),
        ({"trials": 0}, "trials: input should be greater than or equal to 1 (got 0)"),
        ({"trails": 4}, "trails: unknown key. Did you mean 'trials'?"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml does not exist"),
        ({"overrides": {"system.n_generators": 0}}, "system.n_generators: input should be greater than or equal to 1"),
        ({"overrides": {"cluster.num_workers": 64, "training.batch_size": 64}}, "64 CPU required"),
        ({"scheduler": {"name": "asha", "rungs": 9}}, "scheduler: training.generator_steps 18 are too few"),
        ({"scheduler": {"name": "pbt"}}, "space.system.n_generators: population based training moves numbers"),
        ({"repeats": 2, "overrides": {"cluster.num_workers": 2}}, "repeats 2 with cluster.num_workers 2"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    write_sweep: Callable[..., Path],
    changes: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    assert script.main([str(write_sweep(**changes))]) == 2
    assert message in capsys.readouterr().err


def test_dry_run_shows_space_trials_and_concurrency_and_writes_nothing(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script.main([str(write_sweep()), "--trials", "7", "--dry-run", "--max_concurrent", "1"]) == 0
    out = capsys.readouterr().out
    assert "whole number from 2 to 6" in out
    assert "trials     7 of 18 generator steps, search: tpe" in out
    assert "trials at a time: 1 (max_concurrent_trials)" in out
    assert not (tmp_path / "runs").exists()


def test_help_lists_keys_with_defaults_and_ready_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--trials [12]\n      trials in all" in out
    assert "--scheduler.name [asha]" in out
    assert "ready space of topo_dmgan:" in out


@pytest.mark.parametrize("system", [page.model_fields["name"].default for page in SYSTEMS])
def test_every_point_of_a_ready_space_is_a_configuration(system: str, make_config: MakeConfig) -> None:
    base = make_config(system)
    space = parse_space(dict.fromkeys(ready_ranges(base), "ready"), base)
    rng = random.Random(0)
    for _ in range(50):
        values = drawn(space, rng)
        flat = flatten(trial_config(base, values).model_dump(mode="json"))
        assert {key: flat[key] for key in values} == values


@pytest.mark.parametrize("system", [page.model_fields["name"].default for page in SYSTEMS])
def test_every_system_is_searched_with_ranges_written_by_hand(
    system: str, write_sweep: Callable[..., Path], tmp_path: Path
) -> None:
    space = {
        "system.critic.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "training.ema_decay": {"choice": [0.9, 0.998]},
    }
    path = write_sweep(space=space)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**SMALL, "system": {"name": system}}))
    assert list(base_values(load_sweep(path)) or {}) == list(space)


def test_a_system_whose_keys_state_no_ranges_is_searched_with_ranges_written_by_hand(
    write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposampler.tuning.config.ready_ranges", lambda _: {})
    assert load_sweep(write_sweep()).space["system.n_generators"] == Whole(2, 6)
    with pytest.raises(UserError, match="space: no key is searched; topo_dmgan has no ready space, so write keys"):
        load_sweep(write_sweep(space="ready"))


@pytest.mark.parametrize("system", [page.model_fields["name"].default for page in SYSTEMS])
def test_a_sweep_of_a_ready_space_begins_with_the_base(
    system: str, write_sweep: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_sweep(space="ready")
    rates = {"system.generator.learning_rate": 0.5, "system.critic.learning_rate": 1e-7}
    content = merge_overrides({**SMALL, "system": {"name": system, "n_generators": 1}}, rates)
    if system not in K_SYSTEMS:
        del content["system"]["n_generators"]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    sweep = load_sweep(path)
    values = base_values(sweep)
    assert values is not None
    assert {key for key, p in sweep.space.items() if not p.when} <= values.keys()
    assert sweep.space["system.generator.learning_rate"] == Number(1e-4, 0.5, log=True)
    assert sweep.space["system.critic.learning_rate"] == Number(1e-7, 1e-2, log=True)
    if system in K_SYSTEMS:
        assert sweep.space["system.n_generators"] == Whole(1, 20)


def test_a_ready_range_holds_what_the_base_has() -> None:
    assert widened(Choice((1, 2)), 8) == Choice((8, 1, 2))
    assert widened(Number(0.1, 1.0), 0) == Number(0.0, 1.0)
    assert widened(Number(0.1, 1.0, log=True), 0.0) == Number(0.1, 1.0, log=True), "0 has no logarithm"
    assert widened(Whole(2, 6), "auto") == Whole(2, 6)


def test_a_base_outside_the_space_is_said(write_sweep: Callable[..., Path]) -> None:
    def first(space: dict[str, Any]) -> str:
        (line,) = [line for line in lines(load_sweep(write_sweep(space=space))) if line.startswith("first ")]
        return line.removeprefix("first      ")

    rates = {"choice": [1e-4, 1e-3]}
    assert first({"system.topology_weight": {"choice": [0.5, 1.0]}}) == "the base's own values"
    assert first({"system.topology_weight": rates, "system.n_generators": {"int": [2, 6]}}) == (
        "drawn: the base is outside the space (system.topology_weight 1.0)"
    )


def test_conditional_keys_come_behind_their_condition_and_exist_only_with_it(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(space={SPAN: "ready", DECAY: "ready", SCHEDULE: "ready"}, start_with_base=False)
    assert next(iter(sweep.space)) == SCHEDULE
    ledger, seen = Ledger(sweep), set()
    for _ in range(20):
        values = ledger.ask().values
        seen.add(values[SCHEDULE])
        assert (SPAN in values) == (values[SCHEDULE] == "linear")
        assert (DECAY in values) == (values[SCHEDULE] != "linear")
    assert seen == {"exponential", "linear", "encoder"}


def test_a_condition_that_the_base_fulfils_is_none(make_sweep: MakeSweep) -> None:
    assert make_sweep(space={DECAY: "ready"}).space[DECAY].when == {}


def test_parameters_are_typed() -> None:
    assert parse_parameter("k", {"int": [1, 3]}) == Whole(1, 3)
    assert parse_parameter("k", {"uniform": [1, 3]}) == Number(1.0, 3.0)
    assert parse_parameter("k", {"loguniform": [1, 3]}) == Number(1.0, 3.0, log=True)
    assert parse_parameter("k", {"choice": ["a", 1], "when": {"b": [1, 2]}}) == Choice(("a", 1), {"b": (1, 2)})


def test_the_base_is_the_first_trial_if_it_is_in_the_space(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    assert Ledger(sweep).ask().values == {"system.n_generators": 4, "system.topology_weight": 1.0}
    outside = make_sweep(name="t", space={"system.n_generators": {"int": [5, 6]}})
    assert base_values(outside) is None
    assert Ledger(outside).ask().values["system.n_generators"] in (5, 6)


@pytest.mark.parametrize("search", [{"name": "random"}, {"name": "tpe"}, {"name": "gp", "startup_trials": 4}])
def test_a_ledger_goes_on_after_a_kill_as_if_there_had_been_none(make_sweep: MakeSweep, search: dict[str, Any]) -> None:
    def play(sweep: Sweep, ledgers: Callable[[Ledger], Ledger]) -> list[dict[str, Any]]:
        ledger = Ledger(sweep)
        for _ in range(8):
            entry = ledger.ask()
            ledger = ledgers(ledger)
            assert ledger.again(entry.number).values == entry.values
            ledger.report(entry.number, 18, [entry.values["system.topology_weight"]])
            ledger.end(entry.number, "finished")
        return [entry.values for entry in ledger.entries()]

    whole = make_sweep(search=search)
    killed = make_sweep(name="killed", search=search)
    drawn = play(whole, lambda ledger: ledger)
    assert drawn == play(killed, lambda _: Ledger(killed))
    assert len({json.dumps(values) for values in drawn}) == 8, "nothing is drawn twice"
    left = Ledger(whole)
    number = left.ask().number
    assert [e.number for e in Ledger(whole).entries() if e.outcome == "running"] == [number] == [8]


def test_a_gaussian_process_looks_where_scores_are_low_with_other_trials_on_their_way(make_sweep: MakeSweep) -> None:
    """Trials of one batch are asked for before any of them has ended, and yet are not the same."""
    key = "system.topology_weight"
    space = {key: {"loguniform": [0.01, 10]}, "system.n_generators": {"int": [2, 12]}}

    def distances(search: dict[str, Any], name: str) -> list[float]:
        ledger = Ledger(make_sweep(name=name, space=space, search=search, start_with_base=False, trials=16))
        found = []
        for batch in (8, 4, 4):
            entries = [ledger.ask() for _ in range(batch)]
            assert len({entry.values[key] for entry in entries}) == batch
            for entry in entries:
                off = abs(math.log10(entry.values[key] / 0.3)) + abs(entry.values["system.n_generators"] - 5) / 10
                ledger.report(entry.number, 18, [off])
                ledger.end(entry.number, "finished")
                found.append(off)
        return found

    learned = distances({"name": "gp", "startup_trials": 8}, "learned")
    drawn = distances({"name": "random"}, "drawn")
    assert learned[:8] != learned[8:]
    assert fmean(learned[8:]) < 0.6 * fmean(drawn[8:])


def test_a_sweep_goes_on_with_more_trials_but_not_with_another_space(write_sweep: Callable[..., Path]) -> None:
    sweep = prepared(load_sweep(write_sweep()), resume=False)
    for name, text in written(sweep).items():
        (sweep.folder / name).write_text(text)
    with pytest.raises(UserError, match="holds this sweep already; --resume continues it"):
        prepared(load_sweep(write_sweep()), resume=False)
    prepared(load_sweep(write_sweep(trials=9, overrides={"cluster.max_failures": 1})), resume=True)
    with pytest.raises(UserError, match=r"space\.system\.n_generators\.int: \[2, 6\] -> \[2, 5\]"):
        prepared(load_sweep(write_sweep(space={"system.n_generators": {"int": [2, 5]}})), resume=True)
    with pytest.raises(UserError, match=r"training\.generator_steps: 18 -> 36"):
        prepared(load_sweep(write_sweep(overrides={"training.generator_steps": 36})), resume=True)


def test_best_and_front(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(objectives={"coverage_0.05_min": "maximize", "off_manifold_0.05": "minimize"})
    ledger = Ledger(sweep)
    for outcome, steps, objectives in (
        ("finished", 18, [0.9, 0.3]),
        ("finished", 18, [0.8, 0.1]),
        ("finished", 18, [0.7, 0.2]),
        ("stopped", 2, [1.0, 0.0]),
        ("failed", 4, [1.0, 0.0]),
    ):
        number = ledger.ask().number
        ledger.report(number, steps, objectives)
        ledger.end(number, outcome, "why" if outcome == "failed" else "")
    winner = best(sweep, ledger.entries())
    assert winner is not None
    assert winner.number == 0
    assert ledger.front() == [0, 1]
    text = best_yaml(sweep, winner)
    assert text.startswith(
        "# The best trial of the sweep s: trial-000\n# coverage_0.05_min 0.9, off_manifold_0.05 0.3 after"
    )
    assert validate(RunConfig, yaml.safe_load(text)).name == "s-best"
    assert ledger.entry(4).note == "why"
    rows = list(table(sweep, ledger.entries(), winner))
    assert rows[2].startswith("| 0 (best) | finished")
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["0 (best)", "1", "2", "3", "4"]
    assert list(table(sweep, ledger.entries(), ledger.entry(1)))[3].startswith("| 1 (best) "), "of a race, say"


def test_how_many_trials_fit_is_counted_worker_by_worker() -> None:
    def node(**has: float) -> Node:
        return Node("n", has, {})

    two = ClusterConfig(num_workers=2)
    assert concurrent_trials([node(CPU=2.0)], ClusterConfig(), None) == 2
    assert concurrent_trials([node(CPU=2.0)], two, None) == 1
    assert concurrent_trials([node(CPU=3.0), node(CPU=3.0)], two, None) == 3
    assert concurrent_trials([node(CPU=3.0), node(CPU=3.0)], two, 2) == 2
    strict = ClusterConfig(num_workers=2, placement_strategy="STRICT_PACK")
    assert concurrent_trials([node(CPU=3.0), node(CPU=3.0)], strict, None) == 2
    wide = ClusterConfig(num_workers=2, cpus_per_worker=2)
    assert concurrent_trials([node(CPU=3.0), node(CPU=3.0)], wide, None) == 1, "a worker is not made of parts of two"
    with pytest.raises(UserError, match=r"no trial fits: .*\n?.*4 CPU required"):
        concurrent_trials([node(CPU=2.0)], ClusterConfig(num_workers=4), None)


def test_moved_constants_stay_in_their_range() -> None:
    space = {"a": Number(0.9, 0.999), "b": Number(0.01, 10, log=True)}
    config: dict[str, Any] = {"order": {"name": "x", "values": {"a": 0.99, "b": 1.0}}}
    explorer, seen = Explorer(space, 0.25, 0), set()
    for _ in range(100):
        moved = explorer(config)
        values = moved["order"]["values"]
        assert all(space[key].holds(value) for key, value in values.items())
        assert moved["order"]["name"] == "x"
        seen.add(round(values["b"], 6))
        config = moved
    assert len(seen) > 10


def test_no_rung_is_just_before_the_end(make_sweep: MakeSweep) -> None:
    for steps in (18, 19, 20, 26, 2000):
        sweep = make_sweep(overrides={"training.generator_steps": steps})
        asha = scheduler(sweep, [])
        assert asha is not None
        below = [milestone for milestone, _ in asha._brackets[0]._rungs if milestone < steps]
        assert len(below) == 2
        assert max(below) <= steps / 2


class Scripted:
    """A sweep of four trials whose reports come in turn, at scores that are known: Tune and training are left out."""

    scores = ((0.6, 0.5, 0.9), (0.5, 0.6, 0.6), (0.4, 0.3, 0.2), (0.9, 0.1, 0.1))
    """of each trial at steps below 9, below 18 and above; the rungs are at 3 and 9, and trials end at 27"""
    every = 3

    def __init__(self, sweep: Sweep) -> None:
        assert sweep.every == self.every
        self.sweep = sweep
        self.stopped: dict[int, int] = {}
        """step at which the scheduler stopped a trial, by its number"""
        self.start(drivers=0)

    def start(self, drivers: int) -> None:
        """Begin as the driver of that number, with what is on disk and new ids for all trials."""
        entries = [
            Entry(number, {}, "stopped" if number in self.stopped else "running", None, 0, "")
            for number in range(len(self.scores) if drivers else 0)
        ]
        self.asha = scheduler(self.sweep, entries)
        assert self.asha is not None
        self.live = {n: Named(n, f"{drivers}-{n}") for n in range(len(self.scores)) if n not in self.stopped}
        for trial in self.live.values():
            self.asha.on_trial_add(None, trial)

    def record(self, number: int, step: int, score: float) -> None:
        folder = self.sweep.folder / "trials" / trial_name(number)
        folder.mkdir(parents=True, exist_ok=True)
        writer = RecordWriter(folder / "metrics.jsonl")
        writer.write(step, {"eval/score": score})
        writer.close()

    def report(self, number: int, step: int, score: float) -> None:
        assert self.asha is not None
        if self.asha.on_trial_result(None, self.live[number], {STEP: step, "score": score}) == "STOP":
            self.stopped[number] = step

    def play(self, killed_at: int | None, evaluated: bool) -> dict[int, int]:
        """Play all reports; the driver dies at the one of that number, before or after it has evaluated it."""
        newest: dict[int, tuple[int, float]] = {}
        turn = 0
        for step in range(self.every, 27, self.every):
            for number, scores in enumerate(self.scores):
                if number in self.stopped:
                    continue
                score = scores[0] if step < 9 else scores[1] if step < 18 else scores[2]
                self.record(number, step, score)
                newest[number] = (step, score)
                if turn != killed_at or evaluated:
                    self.report(number, step, score)
                if turn == killed_at:
                    self.start(drivers=1)
                    for other in newest.keys() - self.stopped.keys():  # each begins with its newest report
                        self.report(other, *newest[other])
                turn += 1
        return self.stopped


class Named:
    """A trial as Tune's schedulers see it: its name stays, its id is new in every driver."""

    def __init__(self, number: int, trial_id: str) -> None:
        self.trial_id, self._name = trial_id, trial_name(number)

    def __str__(self) -> str:
        return self._name


def test_after_a_kill_trials_are_stopped_where_one_driver_would_have_stopped_them(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(overrides={"training.generator_steps": 27})
    expected = Scripted(replace(sweep, folder=sweep.folder / "whole")).play(None, evaluated=True)
    assert expected == {1: 9, 3: 3}, "one at each rung"
    for turn in range(20):
        for evaluated in (True, False):
            killed = Scripted(replace(sweep, folder=sweep.folder / f"killed-{turn}-{evaluated}"))
            assert killed.play(turn, evaluated) == expected, f"killed at report {turn}, evaluated: {evaluated}"


def test_a_report_that_is_no_number_blocks_no_rung(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    folder = sweep.folder / "trials" / trial_name(Ledger(sweep).ask().number)
    folder.mkdir(parents=True)
    RecordWriter(folder / "metrics.jsonl").write(2, {"eval/score": float("nan")})
    asha = scheduler(sweep, Ledger(sweep).entries())
    assert asha is not None
    assert all(not recorded for _, recorded in asha._brackets[0]._rungs)


def small_plan(folder: Path, **changes: Any) -> Plan:
    base = load_base(folder).model_dump(mode="json")
    settings = {"base": base, "folder": folder, "seeds": (0,), "every": 6, "aggregate": "mean"}
    return Plan(**{**settings, "objectives": {"score": "minimize"}, **changes})


def load_base(folder: Path) -> RunConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(SMALL))
    return load_config(folder / "base.yaml")


@pytest.mark.parametrize("aggregate", ["worst", *(pytest.param(a, marks=pytest.mark.slow) for a in ("mean", "median"))])
def test_seeds_of_a_trial_are_trained_in_turn_and_judged_together(tmp_path: Path, aggregate: Any) -> None:
    plan = small_plan(tmp_path, seeds=(0, 1, 2), aggregate=aggregate)
    configs = runs(plan, "t", {"system.topology_weight": 0.5})
    (tmp_path / "t").mkdir()
    told = reports(tmp_path / "t", plan, configs, {})
    step, _ = next(told)
    assert step == 6
    last = [read_records(run_folder(config) / "metrics.jsonl")[-1].step for config in configs]
    assert last == [6, 6, 6], "no seed is ahead of the others"
    assert [step for step, _ in told] == [12, 18]
    result = json.loads((tmp_path / "t" / "result.json").read_text())
    of_seeds = sorted(seed["metrics"]["score"] for seed in result["seeds"].values())
    expected = {"mean": sum(of_seeds) / 3, "median": of_seeds[1], "worst": of_seeds[2]}[aggregate]
    assert result["metrics"]["score"] == pytest.approx(expected)
    records = read_records(tmp_path / "t" / "metrics.jsonl")
    assert [r.step for r in records] == [6, 12, 18]
    assert {"eval/score", "seed/0/score", "seed/2/score"} <= records[0].metrics.keys()
    assert load_config(run_folder(configs[0]) / "config.yaml").system.model_dump()["topology_weight"] == 0.5


def test_halting_at_reports_changes_no_bit_and_a_killed_trial_goes_on(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    (whole,) = runs(small_plan(tmp_path, every=18), "whole", {})
    train(whole)
    (config,) = runs(plan, "t", {})
    (tmp_path / "t").mkdir()
    told = reports(tmp_path / "t", plan, [config], {})
    assert [next(told)[0], next(told)[0]] == [6, 12]
    told.close()
    again = list(reports(tmp_path / "t", plan, [config], {}))
    assert [step for step, _ in again] == [12, 18], "it begins with the newest report"
    assert list(reports(tmp_path / "t", plan, [config], {})) == again[1:], "what is complete is only read"
    ends = [read_checkpoint(checkpoints(run_folder(c) / "checkpoints")[-1])["loop"] for c in (whole, config)]
    assert torch.equal(ends[0]["average"], ends[1]["average"])


@pytest.mark.slow
@pytest.mark.parametrize("system", [page.model_fields["name"].default for page in SYSTEMS])
def test_a_trial_of_every_system_comes_to_its_end(tmp_path: Path, system: str) -> None:
    base = validate(RunConfig, {**SMALL, "system": {"name": system}}).model_dump(mode="json")
    plan = small_plan(tmp_path, base=base)
    (config,) = runs(plan, "t", {"system.critic.learning_rate": 1e-3})
    (tmp_path / "t").mkdir()
    assert [step for step, _ in reports(tmp_path / "t", plan, [config], {})] == [6, 12, 18]


def test_a_report_does_not_tear_the_runs_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = validate(RunConfig, merge_overrides(SMALL, {"training.precision": "fp64"})).model_dump(mode="json")
    lone = runs(small_plan(tmp_path, base=base, seeds=(0, 1), every=18), "lone", {})
    for config in lone:
        train(config)
    calls: list[str] = []
    load, read = LinesConfig.load, torch.load
    monkeypatch.setattr(LinesConfig, "load", lambda self: [calls.append("data"), load(self)][1])
    monkeypatch.setattr(torch, "load", lambda *a, **k: [calls.append("checkpoint"), read(*a, **k)][1])
    plan = small_plan(tmp_path, base=base, seeds=(0, 1), every=5)
    for name, stops in (("whole", []), ("killed", [5, 15])):
        configs = runs(plan, name, {})
        (tmp_path / name).mkdir()
        for stop in [*stops, 18]:
            calls.clear()
            told = reports(tmp_path / name, plan, configs, {})
            for step, _ in told:
                if step == stop:
                    break
            told.close()
            resumed = stop != [*stops, 18][0]
            assert sorted(calls) == ["checkpoint"] * 2 * resumed + ["data"], "one load for both seeds, a read for each"
        assert [r.step for r in read_records(tmp_path / name / "metrics.jsonl")] == [5, 10, 15, 18]
        for ours, theirs in zip(configs, lone, strict=True):
            a, b = (torch.load(checkpoints(run_folder(c) / "checkpoints")[-1])["loop"] for c in (ours, theirs))
            assert a["step"] == 18
            for ours_, theirs_ in [
                (a["average"], b["average"]),
                *((v, b["system"][k]) for k, v in a["system"].items()),
            ]:
                assert torch.allclose(ours_, theirs_, rtol=0, atol=1e-10), "what a run is that is trained alone"


def test_a_trial_whose_objective_is_no_number_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_number_later(*arguments: Any, **more: Any) -> Evaluation:
        evaluations.append(1)
        found = evaluation(*arguments, **more)
        return replace(found, metrics={"score": 1.0 if len(evaluations) == 1 else float("nan")})

    evaluations: list[int] = []
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("toposampler.training.beside.evaluation", no_number_later)
    monkeypatch.setattr("ray.tune.get_context", lambda: SimpleNamespace(get_trial_name=lambda: "trial-000"))
    monkeypatch.setattr("ray.tune.report", lambda metrics, checkpoint=None: told.append(metrics))
    run_trial({"order": {"name": "trial-000", "values": {}}}, small_plan(tmp_path))
    assert told == [
        {"score": 1.0, STEP: 6},
        {"score": float("inf"), STEP: 6, FAILED: "score is nan at generator step 12 with seed 0"},
    ]
    assert [r.step for r in read_records(tmp_path / "trial-000" / "metrics.jsonl")] == [6]


def test_a_run_that_exploits_another_has_its_weights_and_its_own_constants(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, exchanges=True)
    (donor,) = runs(plan, "donor", {"system.generator.learning_rate": 1e-3})
    (mine,) = runs(plan, "mine", {"system.generator.learning_rate": 1e-3})
    for config in (donor, mine):
        with pytest.raises(KeyboardInterrupt):
            train(config, on_checkpoint=_interrupt_at(12))
    (moved,) = runs(plan, "mine", {"system.generator.learning_rate": 1e-8})
    given = checkpoints(run_folder(donor) / "checkpoints")[-1]
    branch(moved, given)
    (own,) = checkpoints(run_folder(moved) / "checkpoints")
    before = read_checkpoint(own)
    assert before["config"]["system"]["generator"]["learning_rate"] == 1e-8
    assert torch.equal(before["loop"]["average"], read_checkpoint(given)["loop"]["average"])
    train(moved)
    after = read_checkpoint(checkpoints(run_folder(moved) / "checkpoints")[-1])["loop"]["system"]
    changes = {name: (after[name] - value).abs().max().item() for name, value in before["loop"]["system"].items()}
    assert max(change for name, change in changes.items() if name.startswith("generators")) < 1e-6, "its own rate"
    assert max(change for name, change in changes.items() if name.startswith("critic")) > 1e-4


def test_sampled_values_apply_from_step_0(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    starts = {}
    for rate in (1e-8, 1e-2):
        name = f"rate{rate}"
        (config,) = runs(plan, name, {"system.generator.learning_rate": rate})
        torch.manual_seed(config.seed)
        fresh = config.system.build((2,)).state_dict()
        with pytest.raises(KeyboardInterrupt):
            train(config, on_checkpoint=_interrupt_at(6))
        first = read_checkpoint(checkpoints(run_folder(config) / "checkpoints")[0])["loop"]["system"]
        moved = [(first[k] - v).abs().max().item() for k, v in fresh.items() if k.startswith("generators")]
        starts[rate] = max(moved)
    assert starts[1e-8] < 1e-6
    assert starts[1e-2] > 1e-2


def _interrupt_at(step: int) -> Callable[[int, Path], None]:
    def interrupt(at: int, _: Path) -> None:
        if at == step:
            raise KeyboardInterrupt

    return interrupt


def test_what_shapes_a_network_cannot_be_taken_over(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    (donor,) = runs(plan, "donor", {})
    train(donor)
    (other,) = runs(plan, "other", {"system.n_generators": 5})
    with pytest.raises(UserError, match=r"system\.n_generators: 4 -> 5"):
        branch(other, checkpoints(run_folder(donor) / "checkpoints")[-1])
    assert not run_folder(other).exists()


def test_population_based_training_takes_what_may_change_within_a_run(make_sweep: MakeSweep) -> None:
    space = {"system.topology_weight": "ready", "system.generator.learning_rate": "ready"}
    sweep = make_sweep(space=space, scheduler={"name": "pbt", "rounds": 3}, search={"name": "random"})
    assert sweep.every == 6
    assert sweep_plan(sweep).exchanges


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of a run of 60 steps, and of the same at its start: the first is better."""
    folder = tmp_path_factory.mktemp("models")
    found = []
    for name, steps in (("good", 400), ("bad", 1)):
        content = {**SMALL, "name": name, "output": str(folder)}
        content["training"] = {**SMALL["training"], "generator_steps": steps, "batch_size": 32}  # type: ignore[dict-item]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        result = train(load_config(folder / f"{name}.yaml"))
        assert result is not None
        found.append(Path(result["model"]))
    return found[0], found[1]


def test_only_a_model_that_beats_the_champion_by_the_same_protocol_takes_its_place(
    two_models: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = two_models
    dataset = LinesConfig(n=400).load()
    protocol = Protocol("energy_distance_root", "minimize", 500, 7, dataset.digest())
    assert measure(good, dataset, protocol) < measure(bad, dataset, protocol)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    ids = [client.create_run(experiment).info.run_id for _ in range(3)]
    registry = Registry(uri, "m")

    first = compete(registry, ids[0], bad, dataset, protocol, {"score": 1.0})
    assert (first.version, first.promoted, first.champion) == ("1", True, None)
    assert "as there was none" in first.told()
    better = compete(registry, ids[1], good, dataset, protocol, {"score": 0.5})
    assert (better.version, better.promoted, better.champion_version) == ("2", True, "1")
    worse = compete(registry, ids[2], bad, dataset, protocol, {"score": 1.0})
    assert (worse.version, worse.promoted, worse.champion_version) == ("3", False, "2")
    by = measure(bad, dataset, protocol) - measure(good, dataset, protocol)
    assert f"not promoted: it lost to the champion by {by:.4f}" in worse.told()
    assert (registry.find(CANDIDATE), registry.find(CHAMPION)) == ("3", "2")
    assert compete(registry, ids[2], bad, dataset, protocol, {"score": 1.0}).version == "3", "once for each file"
    tags = client.get_model_version("m", "3").tags
    assert tags["protocol.metric"] == "energy_distance_root"
    assert tags["protocol.samples"] == "500"
    assert load_model(registry.fetch("2", tmp_path / "fetched")).step == 400


def test_equal_is_no_better() -> None:
    assert beats(0.1, 0.2, "minimize")
    assert not beats(0.2, 0.2, "minimize")
    assert beats(0.3, 0.2, "maximize")
    assert not beats(0.2, 0.2, "maximize")
