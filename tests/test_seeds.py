"""One configuration with several seeds at once: a run of its own for each, and one result of all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import processes
from ranks import on_ranks

from toposampler.commands.ending import ending
from toposampler.config import to_yaml
from toposampler.errors import RunInterruptedError, TrainingStoppedError, UserError
from toposampler.records import read_records
from toposampler.training import RunConfig, load_model, train
from toposampler.training import seeds as seeds_module
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.memory import bytes_of_member
from toposampler.training.run import begin

MakeConfig = Callable[..., RunConfig]


def states(folder: Path) -> list[torch.Tensor]:
    """All tensors of the newest checkpoint of a run."""
    loop = read_checkpoint(checkpoints(folder / "checkpoints")[-1])["loop"]
    assert loop["step"] == 20
    return [x for _, x in sorted(loop["system"].items())] + [loop["average"]]


def quiet(config: RunConfig, **more: Any) -> dict[str, Any]:
    result = train(config, progress=False, **more)
    assert result is not None
    return result


def test_each_seed_is_a_run_of_its_own(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("dmgan_pl", seeds=[3, 1], training__precision="fp64")
    result = quiet(config)
    assert list(result["members"]) == ["3", "1"]
    for seed in (3, 1):
        folder = run_folder(config) / f"seed-{seed}"
        alone = make_config("dmgan_pl", seed=seed, training__precision="fp64", output=str(tmp_path / "alone"))
        lone = quiet(alone)
        for a, b in zip(states(run_folder(alone)), states(folder), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-10)
        assert result["members"][str(seed)]["metrics"] == pytest.approx(lone["metrics"], abs=1e-6)
        assert load_model(folder).sample(5)[0].shape == (5, 2)
        steps = [record.step for record in read_records(folder / "metrics.jsonl")]
        assert steps == [record.step for record in read_records(run_folder(alone) / "metrics.jsonl")] == [5, 10, 15, 20]
        shutil.rmtree(tmp_path / "alone")
    with pytest.raises(UserError, match=r"holds a run for each of 2 seeds: name one, such as \S+/run/seed-1"):
        load_model(run_folder(config))


def test_the_result_tells_mean_and_spread(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", seed=2, seeds=3)
    result = quiet(config)
    rows = [json.loads((run_folder(config) / f"seed-{seed}/result.json").read_text()) for seed in (2, 3, 4)]
    values = [row["metrics"]["energy_distance_root"] for row in rows]
    spread = result["spread"]["energy_distance_root"]
    assert result["metrics"]["energy_distance_root"] == spread["mean"] == pytest.approx(statistics.fmean(values))
    assert spread["sd"] == pytest.approx(statistics.stdev(values))
    assert spread["sd"] > 0
    assert (spread["min"], spread["max"]) == (min(values), max(values))
    assert result["active_generators"] == pytest.approx(statistics.fmean(row["active_generators"] for row in rows))
    last = read_records(run_folder(config) / "metrics.jsonl")[-1].metrics
    assert last["active_generators"] == result["active_generators"]
    assert not any(name.startswith("mass/") for name in last), "the c-th generators of runs have nothing in common"
    assert result["model"] == rows[result["typical"] - 2]["model"]
    assert Path(result["model"]).exists()
    assert json.loads((run_folder(config) / "result.json").read_text()) == result
    printed = "\n".join(ending(config, result))
    assert "3 seeds" in printed
    assert f"seed-{result['typical']}, the most typical" in printed
    recorded = read_records(run_folder(config) / "metrics.jsonl")
    assert [(record.step, record.metrics["members"]) for record in recorded] == [(step, 3) for step in (5, 10, 15, 20)]


def test_a_stopped_training_goes_on_to_the_same_bits(make_config: MakeConfig) -> None:
    whole, parts = make_config("dmgan_pl", name="whole", seeds=2), make_config("dmgan_pl", name="parts", seeds=2)
    quiet(whole)
    with pytest.raises(RunInterruptedError, match="a checkpoint of each member"):
        train(parts, should_stop=iter([None, "stop"]).__next__, progress=False)
    assert not (run_folder(parts) / "seed-0" / "result.json").exists()
    quiet(parts)
    for seed in (0, 1):
        pairs = zip(*(states(run_folder(c) / f"seed-{seed}") for c in (whole, parts)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_member_that_is_behind_catches_up(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", seeds=2, training__precision="fp64", name="whole")
    quiet(config)
    behind = make_config("dmgan_pl", seeds=2, training__precision="fp64", name="behind")
    for seed in (0, 1):  # seed 0 was killed after step 15, seed 1 after step 10
        copy = run_folder(behind) / f"seed-{seed}"
        one = config.model_copy(
            update={"seeds": None, "seed": seed, "name": f"seed-{seed}", "output": str(copy.parent)}
        )
        with begin(one) as run:
            run.advance(15 - 5 * seed)
    assert quiet(behind)["failed"] == {}
    for seed in (0, 1):
        pairs = zip(*(states(run_folder(c) / f"seed-{seed}") for c in (config, behind)), strict=True)
        assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in pairs)


def test_a_member_that_is_not_finite_ends_alone(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = seeds_module.begin

    def poisoned(config: RunConfig, *arguments: Any) -> Any:
        run = begin(config, *arguments)
        if config.seed == 1:
            with torch.no_grad():
                run.loop.players["critic"].values.fill_(torch.nan)
        return run

    monkeypatch.setattr(seeds_module, "begin", poisoned)
    config = make_config("dmgan_pl", seeds=3)
    result = quiet(config)
    assert list(result["members"]) == ["0", "2"]
    assert "the loss of the critic is not finite at generator step 0" in result["failed"]["1"]
    assert (run_folder(config) / "seed-1" / "failed").read_text() == result["failed"]["1"]
    with pytest.raises(TrainingStoppedError, match="no seed has come to a result; seed 1: the loss of the critic"):
        train(make_config("dmgan_pl", seeds=[1], name="all"), progress=False)


@pytest.mark.slow
def test_two_processes_share_the_seeds_out(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", seeds=3, cluster__num_workers=2, name="two", training__precision="fp64")
    on_ranks(2, quietly, config)
    result = json.loads((run_folder(config) / "result.json").read_text())
    one = quiet(make_config("dmgan_pl", seeds=3, name="one", training__precision="fp64"))
    assert list(result["members"]) == ["0", "1", "2"]
    metric = "energy_distance_root"
    assert result["spread"][metric] == pytest.approx(one["spread"][metric], rel=1e-6)


def quietly(config: RunConfig) -> None:
    train(config, progress=False)


def test_more_seeds_are_added_to_those_there_are(make_config: MakeConfig) -> None:
    quiet(make_config("wgan_gp", seeds=1))
    folder = run_folder(make_config("wgan_gp")) / "seed-0"
    before = (folder / "result.json").stat().st_mtime_ns
    result = quiet(make_config("wgan_gp", seeds=2))
    assert list(result["members"]) == ["0", "1"]
    assert before == (folder / "result.json").stat().st_mtime_ns or result["typical"] == 0


def test_one_seed_and_several_do_not_mix(make_config: MakeConfig) -> None:
    quiet(make_config("wgan_gp", training__generator_steps=5))
    with pytest.raises(UserError, match="holds a run with one seed, and runs with several seeds"):
        train(make_config("wgan_gp", training__generator_steps=5, seeds=2), progress=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seeds": 0}, "seeds: how many seeds, 1 to 10,000, or a list of them, such as .0, 1, 2. .got 0."),
        ({"seeds": [1, 2, 1]}, "seeds: 1 is given twice"),
        ({"seeds": []}, "seeds: how many seeds"),
        ({"seeds": [-1]}, "seeds: input should be greater than or equal to 0"),
        ({"seeds": 3, "seed": 2**32 - 2}, "the last must be less than 4294967296"),
        ({"seeds": 2, "cluster__num_workers": 3}, "is more than the 2 seeds"),
        ({"seeds": 2, "cluster__placement": "sharded"}, "cluster.placement sharded is for the workers of one run"),
    ],
)
def test_seeds_that_cannot_be(keys: dict[str, Any], message: str, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=message):
        make_config("dmgan_pl", **keys)


def test_more_than_fits_into_memory_is_refused_before_the_first_step(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("dmgan_pl", seeds=4)
    with begin(make_config("dmgan_pl", name="one")) as run:
        each = bytes_of_member(run.loop)
        assert each > 5 * sum(player.values.nbytes for player in run.loop.players.values())
    monkeypatch.setattr("toposampler.training.memory.available", lambda device: 2 * each + 1)
    with pytest.raises(UserError, match=r"4 runs at once need about .* at most 2 fit in this worker"):
        train(config, progress=False)
    assert not list(run_folder(config).glob("seed-*/checkpoints/*"))


def test_looking_at_the_memory_changes_nothing(make_config: MakeConfig) -> None:
    with begin(make_config("dmgan_pl", name="one")) as looked, begin(make_config("dmgan_pl", name="two")) as other:
        for run in (looked, other):
            run.advance(3)
        bytes_of_member(looked.loop)
        for run in (looked, other):
            run.advance(7)
        ours, theirs = looked.loop.state_dict(), other.loop.state_dict()
    assert torch.equal(ours["average"], theirs["average"])
    assert all(torch.equal(x, theirs["system"][name]) for name, x in ours["system"].items())
    assert len(ours["history"]) == len(theirs["history"])


@pytest.mark.slow
def test_two_processes_that_are_stopped_save_all_their_members(make_config: MakeConfig) -> None:
    keys = {"training__generator_steps": 400, "training__checkpoint_every": 400, "training__evaluate_every": 400}
    config = make_config("wgan_gp", seeds=3, cluster__num_workers=2, **keys)
    on_ranks(2, _stopped_early, config)
    for seed in range(3):
        folder = run_folder(config) / f"seed-{seed}"
        step = read_checkpoint(checkpoints(folder / "checkpoints")[-1])["loop"]["step"]
        assert 0 < step < 400
    quiet(make_config("wgan_gp", seeds=3, **keys))


def _stopped_early(config: RunConfig) -> None:
    with pytest.raises(RunInterruptedError, match="a checkpoint of each member"):
        train(config, should_stop=iter([None, *["stop"] * 100]).__next__, progress=False)


@pytest.mark.slow
@pytest.mark.ray
def test_a_lost_worker_is_started_again_and_its_members_go_on(
    make_config: MakeConfig, environment: dict[str, str], tmp_path: Path
) -> None:
    config = make_config("wgan_gp", seeds=4, cluster__num_workers=2, training__generator_steps=3000, name="lost")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    command = [sys.executable, "-m", "toposampler", "train", str(tmp_path / "config.yaml")]
    with subprocess.Popen([*command, "--tracking.enabled", "false"], env=environment, text=True) as process:
        while not checkpoints(run_folder(config) / "seed-3" / "checkpoints"):
            time.sleep(0.1)
            assert process.poll() is None
        os.kill(processes(environment, "RayTrainWorker")[-1], signal.SIGKILL)
        assert process.wait(timeout=600) == 0
    result = json.loads((run_folder(config) / "result.json").read_text())
    assert list(result["members"]) == ["0", "1", "2", "3"]
    assert "worker" in (run_folder(config) / "events.log").read_text()
