"""Sweeps in rounds, without Ray: trials step together, are compared, exchanged and raced, and go on after a kill."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
import yaml
from drawing import WRITE_PAGE

from toposampler.config import flatten, merge_overrides
from toposampler.data import Dataset
from toposampler.errors import StorageError, UserError
from toposampler.records import read_records
from toposampler.training import conclusion
from toposampler.training.checkpoint import checkpoint_name, read_checkpoint
from toposampler.training.config import load_config
from toposampler.training.model import load_model
from toposampler.tuning import driver as driver_module
from toposampler.tuning import programs as programs_module
from toposampler.tuning import report as report_module
from toposampler.tuning import room
from toposampler.tuning.config import Sweep, load_sweep
from toposampler.tuning.driver import Driver, prepared, sweep_plan, written
from toposampler.tuning.ledger import Ledger
from toposampler.tuning.programs import Program, grouped, train_program
from toposampler.tuning.report import SweepReport, end_sweep, told
from toposampler.tuning.trial import Order, Plan, reports, runs, trial_name

STEPS = 9
BASE = {
    "name": "base",
    "data": {"name": "lines", "n": 200},
    "system": {"name": "wgan_gp", "generator_width": 8, "critic_width": 8},
    "training": {"batch_size": 4, "generator_steps": STEPS, "evaluation_samples": 100, "precision": "fp64"},
    "tracking": {"enabled": False},
}
METRIC = "energy_distance_root"
SPACE = {"system.penalty.weight": "ready", "system.critic.learning_rate": "ready"}
MakeSweep = Callable[..., Sweep]
RACE = {"scheduler": {"name": "racing"}, "repeats": 2, "confirm_seeds": 2}


class KilledError(Exception):
    """What a SIGKILL is in these tests: nothing that comes after it happens."""


@pytest.fixture
def make_sweep(tmp_path: Path) -> MakeSweep:
    def make(base: Mapping[str, Any] | None = None, **changes: Any) -> Sweep:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(merge_overrides(BASE, base or {})))
        content = {"name": "s", "base": "base.yaml", "output": str(tmp_path / "runs"), "space": SPACE, "trials": 6}
        content |= {"trials_per_worker": 2, "confirm_seeds": 0, "objectives": {METRIC: "minimize"}, **changes}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
        return load_sweep(tmp_path / "sweep.yaml")

    return make


class Local:
    """Trains the programs of sweeps in this process, where `workers.run_programs` has Ray's workers do so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: list[Program] = []
        self.train: Callable[..., dict[str, Any]] = train_program
        self.killed_after = 10**9
        self.steps = 0
        """that were trained, of all runs"""
        advance = programs_module.advance_together

        def counted(runs: Any, until: int, fails: Any) -> None:
            self.steps += sum(until - run.loop.step for run in runs)
            advance(runs, until, fails)

        monkeypatch.setattr(programs_module, "advance_together", counted)
        for module in (driver_module, report_module):
            monkeypatch.setattr(module, "run_programs", self.run)
        monkeypatch.setattr(report_module, "draw", lambda *_: [])

    def run(self, plan: Plan, cluster: Any, source: Any, workers: int, folder: Path) -> None:
        data: list[Dataset] = []

        def load() -> Dataset:
            data.extend([] if data else [runs(plan, "any", {})[0].data.load()])
            return data[0]

        while (program := source.take()) is not None:
            if len(self.programs) >= self.killed_after:
                raise KilledError
            self.programs.append(program)
            try:
                outcomes = self.train(plan, program, load)
            except StorageError as error:
                source.no_room(str(error))
            else:
                source.done(program, outcomes)
        assert source.finished()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Local:
    return Local(monkeypatch)


def test_the_trip_of_a_trial_enters_twelve_files_of_the_sweep_and_its_first_step_is_timed(
    make_sweep: MakeSweep, local: Local, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the order to the last word; on Ray `workers.py`, `post.py` and `trainable.py` carry it too."""
    sweep = prepared(make_sweep(scheduler={"name": "none"}, trials=1), resume=True)
    driver = Driver(sweep, sweep_plan(sweep), Ledger(sweep), None, 1, time.time() - 60)
    entered = set()
    folder = str(Path(driver_module.__file__).parent)

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            entered.add(Path(frame.f_code.co_filename).name)

    sys.setprofile(note)
    try:
        driver.search()
    finally:
        sys.setprofile(None)
    assert len(entered) + len({"workers.py", "post.py", "trainable.py"} - entered) <= 12, entered
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("first step")]
    assert 60 <= float(line.split()[2]) < 120


def play(sweep: Sweep) -> SweepReport:
    """The whole sweep, on two workers; it goes on with what its folder holds."""
    sweep = prepared(sweep, resume=True)
    for name, text in written(sweep).items():
        (sweep.folder / name).write_text(text)
    ledger = Ledger(sweep)
    Driver(sweep, sweep_plan(sweep), ledger, None, 2).search()
    return end_sweep(sweep, ledger, None, 2)


SEARCHES: dict[str, dict[str, Any]] = {
    "asha": {"scheduler": {"name": "asha", "rungs": 3, "reduction": 3}},
    "pbt": {"scheduler": {"name": "pbt", "rounds": 3, "quantile": 0.34}, "trials": 4},
    "racing": {**RACE, "trials": 4, "trials_per_worker": None},
    "generations": {**RACE, "trials": 6, "scheduler": {"name": "racing", "rungs": 1, "generations": 2}},
}


@pytest.mark.parametrize(
    "search", ["racing", *(pytest.param(name, marks=pytest.mark.slow) for name in ("asha", "pbt", "generations"))]
)
def test_a_sweep_that_is_killed_ends_as_one_that_is_not(search: str, make_sweep: MakeSweep, local: Local) -> None:
    expected = play(make_sweep(**SEARCHES[search]))
    n, steps = len(local.programs), local.steps
    assert {entry.outcome for entry in expected.entries} <= {"finished", "stopped"}
    killed = make_sweep(**SEARCHES[search], name="killed")
    local.programs, local.steps = [], 0
    for after in (1, n // 2 + 1):  # a driver goes again over the programs of its first round
        local.killed_after = len(local.programs) + after
        with pytest.raises(KilledError):
            play(killed)
    local.killed_after = 10**9
    found = play(killed)
    for mine, whole in zip(found.entries, expected.entries, strict=True):
        assert (mine.outcome, mine.steps, mine.values) == (whole.outcome, whole.steps, whole.values)
        assert mine.objectives == pytest.approx(whole.objectives, rel=1e-9)
    assert local.steps == steps, "nothing is trained twice"
    assert found.judgment == expected.judgment
    local.programs.clear()
    again = play(killed)
    assert [e.outcome for e in again.entries] == [e.outcome for e in found.entries]
    assert local.steps == steps, "a complete sweep trains nothing"


def test_a_sweep_whose_disk_is_full_stops_and_continues_when_there_is_room(make_sweep: MakeSweep, local: Local) -> None:
    """Nothing is wrong with its trials: none of them has failed."""
    expected = play(make_sweep(**SEARCHES["racing"]))
    stopped = make_sweep(**SEARCHES["racing"], name="stopped")
    for place in ("trials/trial-001/seed-1", "comparison/base/seed-1000"):
        full = stopped.folder / place / "checkpoints" / f"{checkpoint_name(STEPS)[:-3]}.tmp"
        full.parent.mkdir(parents=True)
        full.symlink_to("/dev/full")
        with pytest.raises(StorageError, match=r"the sweep has stopped: .*No space left.*; once there .* --resume"):
            play(stopped)
        assert not full.is_symlink(), "what was written in vain keeps no room"
        outcomes = [entry.outcome for entry in Ledger(stopped).entries()]
        assert len(outcomes) == 4
        assert "failed" not in outcomes
        assert ("running" in outcomes) == place.startswith("trials")
    found = play(stopped)
    assert [(e.outcome, e.objectives) for e in found.entries] == [(e.outcome, e.objectives) for e in expected.entries]
    assert found.judgment == expected.judgment


def test_trials_in_one_program_are_what_they_are_alone(make_sweep: MakeSweep, local: Local) -> None:
    sweep = make_sweep(scheduler={"name": "none"}, trials=4, repeats=2, overrides={"training.evaluate_every": 4})
    found = play(sweep)
    assert [len(program.members) for program in local.programs] == [2, 2]
    plan = replace(sweep_plan(prepared(sweep, resume=True)), folder=sweep.folder / "alone")
    for entry in found.entries:
        name = trial_name(entry.number)
        (plan.folder / name).mkdir(parents=True)
        *_, (step, objectives) = reports(plan.folder / name, plan, runs(plan, name, entry.values), {})
        assert (step, entry.steps) == (STEPS, STEPS)
        assert entry.objectives == pytest.approx(objectives, rel=1e-9)
        mine, alone = (read_records(f / name / "metrics.jsonl") for f in (sweep.folder / "trials", plan.folder))
        assert [record.step for record in mine] == [record.step for record in alone] == [4, 8, 9]
        for a, b in zip(mine, alone, strict=True):
            assert a.metrics == pytest.approx(b.metrics, rel=1e-7, abs=1e-9)
        results = [json.loads((f / name / "result.json").read_text()) for f in (sweep.folder / "trials", plan.folder)]
        assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], rel=1e-7, abs=1e-9)
        assert results[0]["seeds"].keys() == results[1]["seeds"].keys() == {"0", "1"}


def test_halving_compares_all_that_have_come_to_a_rung(
    make_sweep: MakeSweep, local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the sweep ends with its report."""
    monkeypatch.setattr(conclusion, "write_page", WRITE_PAGE)
    found = play(make_sweep(scheduler={"name": "asha", "rungs": 3, "reduction": 3}, trials_per_worker=3))
    assert [(p.until, len(p.members)) for p in local.programs] == [(1, 3), (1, 3), (3, 1), (3, 1), (9, 1)]
    at_rung = [e.number for e in found.entries if e.steps == 1]
    folder = found.sweep.folder / "trials"
    first = {n: read_records(folder / trial_name(n) / "metrics.jsonl")[0].metrics[f"eval/{METRIC}"] for n in range(6)}
    ranked = sorted(first, key=lambda n: first[n])
    assert sorted(at_rung) == sorted(ranked[2:])
    assert [e.outcome for e in found.entries].count("stopped") == 5
    *_, line = told(found)
    assert line == f"report    {(found.sweep.folder / 'figures' / 'report.html').as_uri()}"
    assert "The best 1 of 6 trials" in (found.sweep.folder / "figures" / "report.html").read_text()


@pytest.mark.slow
def test_a_batch_begins_when_the_one_before_has_ended(make_sweep: MakeSweep, local: Local) -> None:
    play(make_sweep(scheduler={"name": "none"}, trials=5, trials_per_worker=1))
    assert [[m.name for m in program.members] for program in local.programs] == [[f"trial-00{n}"] for n in range(5)]


def test_the_worst_of_a_population_go_on_from_the_best_of_another_program(make_sweep: MakeSweep, local: Local) -> None:
    found = play(make_sweep(**SEARCHES["pbt"]))
    assert [(p.until, len(p.members)) for p in local.programs] == [(3, 2), (3, 2), (6, 2), (6, 2), (9, 2), (9, 2)]
    exchange = json.loads((found.sweep.folder / "exchange.json").read_text())
    assert (exchange["step"], exchange["done"], len(exchange["moves"])) == (6, True, 2)
    for name, move in exchange["moves"].items():
        entry = found.entries[int(name[-1])]
        assert entry.values == move["values"]
        mine, donor = (found.sweep.folder / "trials" / n / "seed-0" for n in (name, move["donor"]))
        assert (
            flatten(load_config(mine / "config.yaml").model_dump())["system.penalty.weight"]
            == (move["values"]["system.penalty.weight"])
        )
        states = [read_checkpoint(f / "checkpoints" / checkpoint_name(6))["loop"] for f in (mine, donor)]
        assert torch.equal(states[0]["average"], states[1]["average"])
        values = [r.metrics["value/system.penalty.weight"] for r in read_records(mine.parent / "metrics.jsonl")]
        assert values[-1] == move["values"]["system.penalty.weight"]


def test_a_member_whose_loss_is_not_finite_fails_alone(make_sweep: MakeSweep, local: Local) -> None:
    space = {"system.critic.learning_rate": {"choice": [1e-3, 1e300]}}
    found = play(make_sweep(space=space, scheduler={"name": "none"}, search={"name": "random"}, trials_per_worker=3))
    wild = [entry.values["system.critic.learning_rate"] > 1 for entry in found.entries]
    assert {*wild} == {True, False}
    assert [entry.outcome == "failed" for entry in found.entries] == wild
    assert all(("is not finite" in entry.note) == bad for entry, bad in zip(found.entries, wild, strict=True))
    assert all(len(program.members) == 3 for program in local.programs)


def test_what_a_population_cannot_vary_makes_another_program(make_sweep: MakeSweep) -> None:
    space = {"system.critic.learning_rate": "ready", "system.penalty.sides": {"choice": ["one-sided", "two-sided"]}}
    plan = sweep_plan(make_sweep(space=space))
    sides = ["one-sided", "two-sided", "one-sided", "one-sided", "one-sided"]
    orders = [
        Order(f"t{i}", {"system.penalty.sides": side, "system.critic.learning_rate": 10 ** -(3 + i / 10)})
        for i, side in enumerate(sides)
    ]

    def names(most: int, workers: int) -> list[str]:
        return [" ".join(order.name for order in part) for part in grouped(plan, orders, most, workers)]

    assert names(9, 1) == ["t0 t2 t3 t4", "t1"]
    assert names(9, 3) == ["t0 t2", "t3 t4", "t1"]
    assert names(2, 1) == ["t0 t2", "t3 t4", "t1"]
    assert names(9, 9) == ["t0", "t2", "t3", "t4", "t1"]


def raced(
    make_sweep: MakeSweep, local: Local, gain: float, way: str, finalists: int = 1, turned: float = 0.0
) -> SweepReport:
    """A race on the penalty's weight, whose scores are made up: a trial of another weight than the base's is better by
    `gain`, seeds are better or worse alike. By `turned` times its weight it is worse, with fresh seeds better."""

    def made_up(config: Any, step: int) -> float:
        other = config.system.penalty.weight != 1.0
        value = 5.0 + 10 * (config.seed % 7) + (0.1 * (config.seed % 2) - gain) * other
        value += turned * config.system.penalty.weight * other * (-1 if config.seed >= report_module.FRESH else 1)
        return value if way == "minimize" else -value

    def evaluation(plan: Plan, program: Program, load: Any) -> dict[str, Any]:
        outcomes = train_program(plan, program, load)
        for order in program.members:
            path = plan.folder / order.name / "metrics.jsonl"
            configs = runs(plan, order.name, order.values)
            scores = {config.seed: made_up(config, program.until) for config in configs}
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                line["metrics"]["eval/score"] = sum(scores.values()) / len(scores)
                line["metrics"] |= {f"seed/{seed}/score": score for seed, score in scores.items()}
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            outcomes[order.name]["objectives"] = {"score": sum(scores.values()) / len(scores)}
            result = path.parent / "result.json"
            if result.exists():
                content = json.loads(result.read_text())
                for seed, of in content["seeds"].items():
                    of["metrics"]["score"] = scores[int(seed)]
                result.write_text(json.dumps(content))
        return outcomes

    local.train = evaluation
    space = {"system.penalty.weight": {"uniform": [0.5, 2.0]}}
    changes = {"space": space, "trials": 4, "objectives": {"score": way}, "confirm_seeds": 3}
    scheduler = {"name": "racing", "finalists": finalists, "rungs": 1 if turned else 3}
    return play(make_sweep(**{**RACE, **changes, "scheduler": scheduler}))


@pytest.mark.parametrize("way", ["minimize", pytest.param("maximize", marks=pytest.mark.slow)])
def test_a_race_ends_in_a_winner_that_is_better_beyond_doubt(way: str, make_sweep: MakeSweep, local: Local) -> None:
    found = raced(make_sweep, local, gain=2.0, way=way)
    assert found.best is not None
    assert found.best.number > 0
    assert found.entries[0].outcome == "finished", "the base comes to the end, last though it is"
    assert [(p.until, len(p.members)) for p in local.programs[:2]] == [(1, 2), (1, 2)]
    assert found.judgment is not None
    assert found.judgment.better
    # Fresh seeds 1000, 1001, 1002: 1000 % 2 = 0, so that the differences are -2, -1.9, -2.
    assert found.judgment.difference.mean == pytest.approx(-5.9 / 3)
    said = "\n".join(told(found))
    assert (
        "over fresh seeds the best is better than the base in score by 1.9667 (0.95 interval: 1.8232 to 2.1101)" in said
    )
    assert json.loads((found.sweep.folder / "result.json").read_text())["race"]["better"] is True
    assert load_config(found.sweep.folder / "best.yaml").system.model_dump()["penalty"]["weight"] != 1.0


def test_of_several_finalists_the_best_over_fresh_seeds_is_the_winner(make_sweep: MakeSweep, local: Local) -> None:
    found = raced(make_sweep, local, gain=2.0, way="minimize", finalists=2, turned=0.2)
    assert found.best is not None
    assert found.comparison is not None
    assert found.judgment is not None
    rivals = sorted(found.entries[1:], key=lambda entry: (entry.objectives or {})["score"])
    by_weight = sorted(entry.values["system.penalty.weight"] for entry in rivals)
    assert [entry.values["system.penalty.weight"] for entry in rivals] == by_weight, "in the race less is better"
    assert found.best.number == rivals[1].number, "the second of the race is the best over fresh seeds"
    assert list(found.comparison.others) == [trial_name(rivals[0].number)]
    assert found.judgment.confidence == pytest.approx(0.975), "one of two may be better by chance"
    assert found.judgment.difference.mean == pytest.approx(-5.9 / 3 - 0.2 * by_weight[1])
    assert not (found.sweep.folder / "comparison" / trial_name(rivals[2].number)).exists()
    written_down = json.loads((found.sweep.folder / "result.json").read_text())["comparison"]
    assert written_down["others"] == {key: list(of) for key, of in found.comparison.others.items()}


def test_a_race_that_shows_nothing_says_so_and_what_it_may_have_missed(make_sweep: MakeSweep, local: Local) -> None:
    found = raced(make_sweep, local, gain=0.1, way="minimize")
    assert found.best is not None
    assert found.best.number == 0, "the base is what is left"
    assert found.judgment is not None
    said = "\n".join(told(found))
    assert "nothing better found: over fresh seeds the best other setting is better in score by 0.0667" in said
    assert f"an improvement of up to {found.judgment.missed:.4f} could have been missed" in said
    assert found.judgment.missed == pytest.approx(0.0667 + 4.3027 * 0.03333, abs=1e-3)
    assert load_config(found.sweep.folder / "best.yaml").system.model_dump()["penalty"]["weight"] == 1.0


def test_a_later_generation_lies_between_the_best_before_and_competes_with_them(
    make_sweep: MakeSweep, local: Local
) -> None:
    found = play(make_sweep(**SEARCHES["generations"]))
    assert [(p.until, sorted(m.name for m in p.members)) for p in local.programs[:4]] == [
        (STEPS, ["trial-000"]),
        (STEPS, ["trial-001", "trial-002"]),
        (STEPS, ["trial-003"]),
        (STEPS, ["trial-004", "trial-005"]),
    ]
    first = sorted(found.entries[:3], key=lambda entry: (entry.objectives or {})[METRIC])
    for key in SPACE:
        low, high = sorted(entry.values[key] for entry in first[:2])
        later = [entry.values[key] for entry in found.entries[3:]]
        assert all(low < value < high for value in later)
        assert len(set(later)) == 3
    assert found.comparison is not None
    best = min(found.entries[1:], key=lambda entry: (entry.objectives or {})[METRIC])
    assert (found.sweep.folder / "comparison" / trial_name(best.number)).is_dir(), "the best of both is confirmed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials_per_worker": 0}, "trials_per_worker: how many trials, 1 to 10,000, or auto"),
        ({"trials_per_worker": "many"}, "trials_per_worker: how many trials"),
        ({"overrides": {"cluster.num_workers": 2}}, "trials_per_worker with cluster.num_workers 2: a worker that"),
        ({**RACE, "repeats": 1}, r"repeats: racing needs at least 2, as a setting is stopped .* \(got 1\)"),
        ({**RACE, "confirm_seeds": 1}, "confirm_seeds: racing needs at least 2"),
        ({**RACE, "trials": 1}, "trials: racing needs at least 2"),
        (
            {**RACE, "trials": 5, "scheduler": {"name": "racing", "generations": 3}},
            r"scheduler.generations 3: each has at least 2 settings, so trials must be at least 6 \(got 5\)",
        ),
        (
            {**RACE, "scheduler": {"name": "racing", "finalists": 6}},
            "scheduler.finalists 6: the base is one of the 6 trials, so at most 5 can be compared with it",
        ),
        ({**RACE, "aggregate": "worst"}, "aggregate worst: racing compares means"),
        ({**RACE, "search": {"name": "tpe"}}, "search.name tpe: a race begins as a whole"),
        ({**RACE, "search": {"name": "gp"}}, "search.name gp: a race of one generation begins as a whole"),
        ({**RACE, "total_steps": 100}, "total_steps: a race is begun as a whole"),
        ({**RACE, "start_with_base": False}, "start_with_base false: the base is always in a race"),
        (
            {**RACE, "space": {"system.penalty.weight": {"uniform": [2, 3]}}},
            r"space: the base is always in a race, and is outside the space \(system.penalty.weight 1.0\)",
        ),
        (
            {**RACE, "trials_per_worker": None, "overrides": {"cluster.num_workers": 2}},
            "scheduler.name racing with cluster.num_workers 2",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_refused(
    changes: dict[str, Any], message: str, make_sweep: MakeSweep
) -> None:
    with pytest.raises(UserError, match=message):
        make_sweep(**changes)


def test_more_trials_than_memory_has_room_for_are_refused_with_how_many_fit(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(trials=100, trials_per_worker=50, repeats=2)
    each = 2 * room._bytes_of_run(sweep, torch.device("cpu"))
    monkeypatch.setattr(room, "available", lambda _: 2 * 30 * each)
    with pytest.raises(UserError, match=r"trials_per_worker 50: a trial needs about .* seeds \(2\), .*: at most 30"):
        prepared(sweep, resume=False)
    assert not (sweep.folder / "ledger.db").exists()
    assert room.trials_at_once(make_sweep(trials=100, trials_per_worker="auto", repeats=2), 2) == 30
    assert room.trials_at_once(make_sweep(trials=20, trials_per_worker="auto", repeats=2), 2) == 10, "one round for all"
    assert room.trials_at_once(make_sweep(trials=20, trials_per_worker=3, repeats=2), 2) == 3


def test_trials_of_other_numbers_of_generators_are_one_program_and_keep_their_own(
    make_sweep: MakeSweep, local: Local
) -> None:
    """What a member leaves behind is what its trial alone leaves: configuration, checkpoint, result, samples."""
    sweep = make_sweep(
        {"system": {"name": "dmgan_pl"}},
        space={"system.n_generators": {"int": [2, 6]}},
        trials=3,
        scheduler={"name": "none"},
        trials_per_worker=3,
    )
    plan = sweep_plan(sweep)
    orders = [Order(trial_name(i), {"system.n_generators": K}) for i, K in enumerate((2, 5, 3))]
    assert [len(part) for part in grouped(plan, orders, 3, 1)] == [3]
    outcomes = train_program(plan, Program(0, STEPS, tuple(orders)), runs(plan, "any", {})[0].data.load)
    for order in orders:
        K, (config,) = order.values["system.n_generators"], runs(plan, order.name, order.values)
        lone = replace(plan, folder=plan.folder / "alone")
        (expected,) = runs(lone, order.name, order.values)
        (lone.folder / order.name).mkdir(parents=True)
        list(reports(lone.folder / order.name, lone, [expected], {}))
        found, alone = (Path(c.output) / c.name for c in (config, expected))
        assert load_config(found / "config.yaml").system.K == K
        model, other = (load_model(folder) for folder in (found, alone))
        assert model.system.K == K
        assert torch.allclose(model.sample(200, seed=1)[0], other.sample(200, seed=1)[0], rtol=0, atol=1e-6)
        result, own = (json.loads((folder / "result.json").read_text()) for folder in (found, alone))
        assert result["prior"] == pytest.approx(own["prior"], abs=1e-10)
        assert outcomes[order.name]["objectives"][METRIC] == pytest.approx(own["metrics"][METRIC], abs=1e-8)
        masses = [name for name in read_records(found / "metrics.jsonl")[-1].metrics if name.startswith("mass/")]
        assert len(masses) == K
