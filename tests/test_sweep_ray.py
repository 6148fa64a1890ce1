"""Sweeps on a real Ray: finished, killed and gone on with, with failing trials, populations and groups of workers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from processes import (
    assert_nothing_left,
    kill_all,
    mlflow_status,
    processes,
    recorded_steps,
    start,
    wait_until,
)

from toposampler.commands.sweep import main
from toposampler.tracking.tracker import PARENT
from toposampler.training import load_config, train
from toposampler.training.checkpoint import checkpoint_name

BASE = {
    "name": "base",
    "data": {"name": "lines", "n": 400},
    "system": {"name": "topo_dmgan", "n_generators": 4},
    "training": {"batch_size": 8, "generator_steps": 27, "log_every": 1, "evaluation_samples": 500},
}
SPACE = {"system.n_generators": {"int": [2, 6]}, "system.topology_weight": {"loguniform": [0.1, 10]}}
WriteSweep = Callable[..., list[str]]


@pytest.fixture
def write_sweep(tmp_path: Path) -> WriteSweep:
    """The command that runs a small sweep with changed keys; `steps` are those of a trial."""

    def write(steps: int = 27, **changes: Any) -> list[str]:
        base = {**BASE, "training": {**BASE["training"], "generator_steps": steps}}  # type: ignore[dict-item]
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
        content = {"name": "s", "base": "base.yaml", "output": str(tmp_path), "space": SPACE, "trials": 4}
        content |= {"confirm_seeds": 0, **changes}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
        return [sys.executable, "tuning/sweep.py", str(tmp_path / "sweep.yaml")]

    return write


def run(command: list[str], environment: Mapping[str, str]) -> str:
    """What a sweep says, which must end well and leave no process behind."""
    process = start(command, environment)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert_nothing_left(environment)
    return said


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def outcomes(folder: Path) -> list[str]:
    return [trial["outcome"] for trial in result(folder)["trials"]]


@pytest.mark.ray
def test_a_sweep_killed_on_the_way_ends_in_figures_a_config_and_a_registered_model(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = write_sweep(confirm_seeds=1, trials=5)
    folder = tmp_path / "s"
    process = start(command, environment)
    wait_until(lambda: list(folder.glob("trials/*/result.json")), process)
    process.kill()
    kill_all(environment)
    before, _ = process.communicate()
    complete = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/seed-0/result.json")}
    assert complete
    assert not (folder / "result.json").exists()

    said = run([*command, "--resume"], environment)
    assert {path: path.stat().st_mtime_ns for path in complete} == complete, "what was complete is not trained again"
    assert "trial-000  " in before + said, "the driver that lived when the trial ended says so"
    assert "[5 of 5 ended]" in said
    assert "over 1 fresh seeds the best " in said
    assert "is the candidate, and the champion, as there was none" in said
    assert set(outcomes(folder)) <= {"finished", "stopped"}
    assert len(outcomes(folder)) == 5
    for name in ("parallel_coordinates", "objective_by_key", "prior_of_the_best"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 10_000

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("toposampler")
    found = client.search_runs([experiment.experiment_id], max_results=100)
    (parent,) = [run for run in found if PARENT not in run.data.tags]
    children = [run for run in found if run.data.tags.get(PARENT) == parent.info.run_id]
    assert len(children) == 5 == len(found) - 1
    assert all(child.info.status == parent.info.status == "FINISHED" for child in children)
    winner = result(folder)["best"]["trial"]
    assert [c.data.tags["trial"] for c in children if c.data.tags["best"] == "true"] == [str(winner)]
    (whole,) = [c for c in children if c.data.tags["trial"] == str(winner)]
    history = client.get_metric_history(whole.info.run_id, "eval/score")
    assert [metric.step for metric in history] == list(range(3, 28, 3))
    assert {"config.yaml", "best.yaml", "result.json", "figures"} <= {
        artifact.path for artifact in client.list_artifacts(parent.info.run_id)
    }
    assert client.get_model_version_by_alias("s", "candidate").run_id == whole.info.run_id

    best = load_config(folder / "best.yaml", ["--name", "again", "--tracking.enabled", "false"])
    trained = train(best)
    assert trained is not None
    assert trained["metrics"]["score"] == pytest.approx(result(folder)["metrics"]["score"]), "the same bits"

    sweep = command[-1]
    capsys.readouterr()
    assert main([sweep]) == 2
    assert "holds this sweep already; --resume continues it" in capsys.readouterr().err
    assert main([sweep, "--seed", "6", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "holds another sweep" in error
    assert "seed: 0 -> 6" in error


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_what_is_left_and_repeats_nothing(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    command = write_sweep(steps=243, trials=6, register_model=False)
    folder = tmp_path / "s"
    process = start(command, environment)
    wait_until(lambda: list(folder.glob("trials/*/result.json")) and len(list(folder.glob("trials/*"))) > 2, process)
    process.kill()
    kill_all(environment)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/seed-0/result.json")}
    begun = {path.parent.name: recorded_steps(path.parent) for path in folder.glob("trials/*/metrics.jsonl")}
    assert before

    said = run([*command, "--resume"], environment)
    assert "[6 of 6 ended]" in said
    assert len(outcomes(folder)) == 6
    assert "running" not in outcomes(folder)
    assert "failed" not in outcomes(folder)
    assert sorted(path.name for path in folder.glob("trials/*")) == [f"trial-00{n}" for n in range(6)]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was complete is not trained again"
    for path in folder.glob("trials/*/metrics.jsonl"):
        steps = recorded_steps(path.parent)
        assert steps == sorted(set(steps)), "no report is there twice"
        assert steps[: len(begun.get(path.parent.name, []))] == begun.get(path.parent.name, [])

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("toposampler")
    found = client.search_runs([experiment.experiment_id], max_results=100)
    assert sorted(run.data.tags.get("trial", "parent") for run in found) == [*"012345", "parent"]
    assert {run.info.status for run in found} == {"FINISHED"}
    for child in found:
        if PARENT in child.data.tags:
            history = client.get_metric_history(child.info.run_id, "eval/score")
            here = recorded_steps(folder / "trials" / f"trial-00{child.data.tags['trial']}")
            assert [metric.step for metric in history] == here, "nothing lost and nothing doubled"

    assert "[6 of 6 ended]" not in run([*command, "--resume"], environment), "a complete sweep trains nothing"


@pytest.mark.ray
@pytest.mark.slow
def test_trials_that_fail_are_recorded_and_the_sweep_goes_on(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    rates = {"system.critic.learning_rate": {"choice": [1e-3, 1e38]}}
    command = write_sweep(
        steps=243, space=rates, trials=6, search={"name": "random"}, overrides={"cluster.max_failures": 0}
    )
    process = start(command, environment)
    trial = tmp_path / "s" / "trials" / "trial-000"
    wait_until((trial / "metrics.jsonl").exists, process)
    victims = processes(environment, "ImplicitFunc")
    locked = [pid for pid in victims if f"{trial}/.lock" in _open_files(pid)]
    os.kill(locked[0], signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    trials = result(tmp_path / "s")["trials"]
    assert trials[0]["outcome"] == "failed", said
    for one in trials[1:]:
        wild = one["values"]["system.critic.learning_rate"] == 1e38
        assert (one["outcome"] == "failed") == wild
        assert ("is not finite" in one["note"]) == wild
    assert {one["outcome"] for one in trials[1:]} >= {"failed", "finished"}, "the seed draws both rates"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id])
    failed = {run.data.tags["trial"] for run in found if run.info.status == "FAILED"}
    assert failed == {str(one["number"]) for one in trials if one["outcome"] == "failed"}


def _open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.add(os.readlink(link))
        except OSError:
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_population_exploits_its_best_and_moves_their_constants(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    space = {"system.topology_weight": "ready", "system.generator.learning_rate": "ready"}
    command = write_sweep(
        steps=60,
        space=space,
        trials=3,
        search={"name": "random"},
        scheduler={"name": "pbt", "rounds": 3, "quantile": 0.34},
        start_with_base=False,
        overrides={"training.learning_rate_decay_from": 1.0},
    )
    run(command, environment)
    folder = tmp_path / "s"
    assert outcomes(folder) == ["finished"] * 3
    exploited = 0
    for number, entry in enumerate(result(folder)["trials"]):
        trial = folder / "trials" / f"trial-00{number}"
        lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [20, 40, 60]
        rates = [line["metrics"]["value/system.generator.learning_rate"] for line in lines]
        run_config = load_config(trial / "seed-0" / "config.yaml")
        # What is in force at the end is what the run was trained with, and what the ledger says.
        assert run_config.system.model_dump()["generator"]["learning_rate"] == rates[-1]
        assert entry["values"]["system.generator.learning_rate"] == rates[-1]
        exploited += len(set(rates)) > 1
    assert 1 <= exploited < 3, "some have moved, the best have not"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_trials_of_two_workers_do_not_hang_on_two_cpus(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path, placement: str
) -> None:
    workers = {"cluster.num_workers": 2, "cluster.placement": placement, "tracking.enabled": False}
    said = run(write_sweep(trials=2, overrides=workers), environment)
    assert "trials at a time: 1 (max_concurrent_trials), 2 workers each" in said
    assert len(outcomes(tmp_path / "s")) == 2
    assert set(outcomes(tmp_path / "s")) <= {"finished", "stopped"}


@pytest.mark.ray
@pytest.mark.slow
def test_two_objectives_give_a_front(write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path) -> None:
    wanted = {"off_manifold_0.05": "minimize", "coverage_0.05_mean": "maximize"}
    said = run(write_sweep(objectives=wanted, scheduler={"name": "none"}, register_model=False), environment)
    assert "no other beats them in all objectives" in said
    assert (tmp_path / "s" / "figures" / "pareto_front.png").stat().st_size > 10_000
    assert result(tmp_path / "s")["best"]["trial"] in result(tmp_path / "s")["front"]


@pytest.mark.ray
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_stopped_sweep_is_killed_in_mlflow_and_leaves_nothing_behind(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path, number: int, code: int
) -> None:
    process = start(write_sweep(steps=2430), environment)
    wait_until(lambda: list(tmp_path.glob("s/trials/*/metrics.jsonl")), process)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == code, said
    assert "stopped; the same command with --resume continues" in said
    assert mlflow_status(tmp_path, "s") == "KILLED"
    assert_nothing_left(environment)


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_as_a_job_on_a_cluster(
    dashboard: str, write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    _, script, sweep = write_sweep(trials=3, register_model=False)
    job = ["ray", "job", "submit", "--address", dashboard, "--working-dir", ".", "--", "python", script, sweep]
    process = start(job, environment)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "where      the Ray cluster at " in said
    assert len(outcomes(tmp_path / "s")) == 3


@pytest.mark.ray
@pytest.mark.slow
def test_a_race_in_workers_that_last_goes_on_after_a_kill_and_tells_mlflow_of_every_trial(
    write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    """One worker's process is killed in the race, then the driver and all of Ray."""
    space = {"system.penalty.weight": "ready", "system.critic.learning_rate": {"choice": [1e-3, 1e38]}}
    command = write_sweep(
        steps=81,
        space=space,
        trials=6,
        repeats=2,
        scheduler={"name": "racing"},
        confirm_seeds=2,
        model="m",
        overrides={"system": {"name": "wgan_gp"}},
    )
    folder = tmp_path / "s"
    process = start(command, environment)
    wait_until((folder / "trials" / "trial-000" / "seed-0" / "checkpoints").exists, process)
    victims = [p for p in processes(environment, "ImplicitFunc") if str(folder) in " ".join(_open_files(p))]
    os.kill(victims[0], signal.SIGKILL)
    wait_until(lambda: list(folder.glob("trials/*/metrics.jsonl")), process)
    process.kill()
    kill_all(environment)
    process.communicate()
    said = run([*command, "--resume"], environment)
    trials = result(folder)["trials"]
    assert len(trials) == 6
    wild = {one["number"] for one in trials if one["values"]["system.critic.learning_rate"] == 1e38}
    assert {one["number"] for one in trials if one["outcome"] == "failed"} == wild != set()
    assert trials[0]["outcome"] == "finished", "the base comes to the end"
    race = result(folder)["race"]
    assert ("is better than the base" in said) == race["better"]
    assert ("nothing better found" in said) != race["better"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id], max_results=100)
    assert sorted(one.data.tags.get("trial", "parent") for one in found) == [*"012345", "parent"]
    assert {one.data.tags["trial"] for one in found if one.info.status == "FAILED"} == {str(n) for n in wild}
    for child in found:
        if child.data.tags.get("trial") == "0":
            history = client.get_metric_history(child.info.run_id, "eval/score")
            assert [metric.step for metric in history] == list(range(9, 82, 9))
    versions = client.search_model_versions("name='m'")
    assert len(versions) == race["better"], "what is not shown to be better is not registered"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True], ids=["one trial in a worker", "programs"])
def test_a_full_disk_stops_the_sweep_and_resume_tries_its_trials_again(
    together: bool, write_sweep: WriteSweep, environment: dict[str, str], tmp_path: Path
) -> None:
    scheduler: dict[str, Any] = {"trials_per_worker": 4} if together else {}
    command = write_sweep(scheduler={"name": "none"}, register_model=False, **scheduler)
    full = tmp_path / "s" / "trials" / "trial-001" / "seed-0" / "checkpoints" / f"{checkpoint_name(27)[:-3]}.tmp"
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    process = start(command, environment)
    said, _ = process.communicate()
    assert process.returncode == 3, said
    assert "error: the sweep has stopped: " in said
    assert "No space left" in said
    assert "once there is room, the same command with --resume continues" in said
    assert "Traceback" not in said
    assert "failed" not in said
    assert_nothing_left(environment)
    assert mlflow_status(tmp_path, "s") == "FAILED"

    run([*command, "--resume"], environment)
    assert outcomes(tmp_path / "s") == ["finished"] * 4
    assert mlflow_status(tmp_path, "s") == "FINISHED"
