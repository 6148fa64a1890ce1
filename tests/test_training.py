"""Whole runs in this process: what they write, exact resume, guards, and life without Ray and MLflow."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from processes import recorded_steps, wait_until

from toposampler.config import to_yaml
from toposampler.errors import RunInterruptedError, TrainingStoppedError, UserError
from toposampler.records import read_records
from toposampler.training import RunConfig, load_config, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint, save_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.lock import locked
from toposampler.training.process_group import ProcessGroup
from toposampler.training.profile import WARM_UP
from toposampler.training.run import Run, begin

MakeConfig = Callable[..., RunConfig]


def final_state(config: RunConfig) -> dict[str, object]:
    """The last checkpoint, without the seconds it took."""
    state = read_checkpoint(checkpoints(run_folder(config) / "checkpoints")[-1])
    del state["seconds"], state["config"]
    return state


def same(a: object, b: object) -> bool:
    """Equality to the last bit, through dicts, lists and tensors."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.usefixtures("drawn")
def test_a_run_leaves_what_the_house_promises(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl")
    result = train(config)
    folder = run_folder(config)
    assert json.loads(json.dumps(result)) == json.loads((folder / "result.json").read_text())
    assert result["generator_steps"] == 20
    assert result["verdict"].startswith("4 components in the data, 10 generators on them: {")
    assert result["prior"] == pytest.approx([0.1] * 10, abs=0.05)
    assert result["active_generators"] == 10
    assert {"off_manifold_0.05", "coverage_0.05_min", "jsd_nats", "prior_tv"} <= result["metrics"].keys()
    assert load_config(folder / "config.yaml") == config
    assert {p.name for p in (folder / "figures").iterdir()} == {
        "samples_by_generator.png",
        "samples_by_encoder.png",
        "barcodes.png",
        "losses.png",
        "evaluation.png",
        "prior.png",
        "report.html",
    }
    for path in (folder / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 400, path
    with np.load(folder / "samples.npz") as samples:
        assert samples["samples"].shape == (200, 2)
        assert samples["generators"].shape == (200,)
    records = read_records(folder / "metrics.jsonl")
    assert [record.step for record in records] == [5, 10, 15, 20]
    assert "eval/off_manifold_0.05" in records[1].metrics
    assert Path(result["model"]) == checkpoints(folder / "checkpoints")[-1]
    assert len(checkpoints(folder / "checkpoints")) == 2


@pytest.mark.parametrize("system", ["wgan_gp", "dmgan", "dmgan_pl"])
def test_a_stopped_run_ends_as_an_uninterrupted_one(system: str, make_config: MakeConfig, tmp_path: Path) -> None:
    whole, stopped = make_config(system, name="whole"), make_config(system, name="stopped")
    train(whole)

    class StopError(Exception):
        pass

    def stop(step: int, path: Path) -> None:
        if step == 10:
            raise StopError

    with pytest.raises(StopError):
        train(stopped, on_checkpoint=stop)
    train(stopped)
    assert same(final_state(whole), final_state(stopped))
    metrics = [[r.metrics for r in read_records(run_folder(c) / "metrics.jsonl")] for c in (whole, stopped)]
    assert metrics[0] == metrics[1]


@pytest.mark.usefixtures("whole_metrics")  # the killed run is another process, which evaluates in full
def test_sigkill_at_random_moments_changes_no_bit(make_config: MakeConfig) -> None:
    """Killed again and again, at moments nobody chose, the run ends with the same parameters and the same metrics.

    Moments are counted in records, as a machine's seconds hold more or fewer steps, and up to a twentieth of a second
    is added. Every attempt is a fork of a process that has imported torch.
    """
    steps = {"training__generator_steps": 100, "training__evaluate_every": 50}
    whole, killed = (make_config("dmgan_pl", name=name, **steps) for name in ("whole", "killed"))
    train(whole)
    config_file = run_folder(killed).with_suffix(".yaml")
    config_file.write_text(to_yaml(killed))
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import torch
        from toposampler.training import load_config, train
        torch.set_num_threads(1)
        for _ in sys.stdin:
            if (attempt := os.fork()) == 0:
                train(load_config(Path(sys.argv[1])))
                os._exit(0)
            print(attempt, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(attempt, 0)[1]), flush=True)
    """)
    command = [sys.executable, "-c", program, str(config_file)]
    kills = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def attempt() -> int:
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        for least in (1, 5, 9):
            pid, goal = attempt(), random.randrange(least, least + 5)
            wait_until(lambda goal=goal: len(recorded_steps(run_folder(killed))) >= goal, process)
            time.sleep(random.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            kills += int(process.stdout.readline()) == -signal.SIGKILL
        attempt()
        assert int(process.stdout.readline()) == 0
    assert kills == 3
    assert same(final_state(whole), final_state(killed))
    metrics = [[(r.step, r.metrics) for r in read_records(run_folder(c) / "metrics.jsonl")] for c in (whole, killed)]
    assert metrics[0] == metrics[1]


def test_a_damaged_newest_checkpoint_is_passed_by(make_config: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config("wgan_gp")
    train(config)
    whole = final_state(config)
    _, newest = checkpoints(run_folder(config) / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1000])
    train(config)
    assert f"checkpoint {newest} is damaged: it is not a whole zip file; falling back" in caplog.text
    assert same(whole, final_state(config))


def test_two_processes_do_not_train_one_run(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposampler.training.run.PATIENCE_S", 0.3)
    config = make_config("wgan_gp")
    refused = []

    def meanwhile(step: int, path: Path) -> None:
        if step == 10:
            before = (run_folder(config) / "metrics.jsonl").read_bytes()
            with pytest.raises(UserError, match=f"^another process is working on this run: {run_folder(config)}$"):
                train(config)
            assert (run_folder(config) / "metrics.jsonl").read_bytes() == before
            refused.append(step)

    train(config, on_checkpoint=meanwhile)
    assert refused == [10]
    with locked(run_folder(config)):  # as its driver does
        train(config)


def test_training_waits_for_a_process_that_is_about_to_end(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp")
    run_folder(config).mkdir()
    program = "import sys, time; from pathlib import Path; from toposampler.training.lock import TRAINING, locked\n"
    program += "with locked(Path(sys.argv[1]), TRAINING): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, run_folder(config)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        Timer(0.5, other.kill).start()
        train(config)


def test_resume_with_other_data_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    file = tmp_path / "data.npy"
    points = np.random.default_rng(0).normal(size=(50, 2))
    np.save(file, points)
    config = make_config("wgan_gp", data={"name": "npy", "path": str(file)})
    train(config)
    train(config)  # the same data: nothing to refuse
    np.save(file, points + 1e-3)
    with pytest.raises(UserError, match=r"the data has changed since .*step_00000020.pt was written"):
        train(config)


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_every_precision_trains_from_start_to_figures(precision: str, make_config: MakeConfig) -> None:
    result = train(make_config("dmgan_pl", training__precision=precision))
    assert result is not None
    assert result["generator_steps"] == 20


@pytest.mark.usefixtures("drawn")
def test_digits_without_labels_and_with_more_generators_than_samples_in_a_batch(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), dtype=np.uint8))
    data = {"name": "npy", "path": str(tmp_path / "images.npy")}
    config = make_config("dmgan_pl", data=data, system__n_generators=12, training__generator_steps=3)
    result = train(config)
    assert result is not None
    assert {"off_support_nn99", "coverage_k5", "active_generators"} <= result["metrics"].keys()
    with Image.open(run_folder(config) / "figures" / "samples_grid.png") as image:
        assert min(image.size) > 400


def test_resume_with_another_config_is_refused_and_says_what_differs(make_config: MakeConfig) -> None:
    train(make_config("wgan_gp"))
    with pytest.raises(UserError, match=r"seed: 0 -> 1\n  training.batch_size: 8 -> 16"):
        train(make_config("wgan_gp", seed=1, training__batch_size=16))
    train(make_config("wgan_gp", tracking__enabled=False, cluster__max_failures=1))  # these may change


def test_a_nan_stops_the_run_and_names_the_last_good_checkpoint(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl")
    run = Run(config, ProcessGroup(), on_checkpoint=None, should_stop=lambda: None)
    run.on_checkpoint = lambda step, path: run.loop.data.fill_(torch.nan)  # after the first checkpoint, at step 5
    good = run_folder(config) / "checkpoints" / "step_00000005.pt"
    with pytest.raises(TrainingStoppedError, match=rf"critic is not finite at generator step 5.*{good}"):
        run.train()
    assert checkpoints(good.parent) == [good]
    assert all(torch.isfinite(v).all() for v in read_checkpoint(good)["loop"]["system"].values())


def test_a_run_that_is_asked_to_stop_saves_first_and_goes_on_from_there(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposampler.training.stopping.POLL_S", 0.0)  # a look after every step
    keys = {"training__checkpoint_every": 1000, "training__generator_steps": 60, "training__evaluate_every": 1000}
    whole, stopped = make_config("dmgan_pl", name="whole", **keys), make_config("dmgan_pl", name="stopped", **keys)
    train(whole)
    looks = itertools.count()
    with pytest.raises(RunInterruptedError, match=r"stopped after generator step (\d+); checkpoint: .*step_0*\1\.pt"):
        train(stopped, should_stop=lambda: "stop" if next(looks) == 36 else None)
    assert next(looks) == 37, "it stops at once"
    (saved,) = checkpoints(run_folder(stopped) / "checkpoints")
    assert read_checkpoint(saved)["loop"]["step"] == 37
    train(stopped)
    assert same(final_state(whole), final_state(stopped))
    metrics = [[r.metrics for r in read_records(run_folder(c) / "metrics.jsonl")] for c in (whole, stopped)]
    assert metrics[0] == metrics[1]


def test_a_run_in_parts_counts_only_the_time_it_trained(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("toposampler.training.run.time", SimpleNamespace(monotonic=lambda: now[0]))

    def tick(step: int, path: Path) -> None:  # after each checkpoint, which is each 5 steps
        now[0] += 1

    with begin(make_config("wgan_gp"), on_checkpoint=tick) as run:
        for to in (5, 10, 20):
            now[0] += 100
            run.advance(to)
            assert run.loop.step == to
            assert run.seconds == to / 5
        result = run.train()
    assert result is not None
    assert result["seconds"] == 4


@pytest.mark.parametrize("name", ["checkpoints/step_00000010.tmp", "metrics.jsonl"])
def test_a_full_disk_stops_the_run_and_leaves_it_ready_to_go_on(name: str, make_config: MakeConfig) -> None:
    whole, stopped = make_config("dmgan_pl", name="whole"), make_config("dmgan_pl", name="stopped")
    train(whole)
    file = run_folder(stopped) / name

    def fill_the_disk(step: int, path: Path) -> None:  # after the first checkpoint, at step 5
        if name == "metrics.jsonl":
            run.records._file = Path("/dev/full").open("ab")  # noqa: SIM115
        else:
            file.symlink_to("/dev/full")

    run = Run(stopped, ProcessGroup(), fill_the_disk, should_stop=lambda: None)
    good = run_folder(stopped) / "checkpoints" / "step_00000005.pt"
    with run, pytest.raises(TrainingStoppedError, match=rf"at generator step 10: .*No space left .*checkpoint: {good}"):
        run.train()
    assert not file.is_symlink(), "what was written in vain keeps no room"
    train(stopped)
    assert same(final_state(whole), final_state(stopped))
    metrics = [[r.metrics for r in read_records(run_folder(c) / "metrics.jsonl")] for c in (whole, stopped)]
    assert metrics[0] == metrics[1]


def test_a_profile_is_a_trace_and_a_table(make_config: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = make_config("dmgan_pl", cluster__profile=True, training__generator_steps=40)
    train(config)
    assert "no profile" not in caplog.text
    folder = run_folder(config) / "profile"
    assert json.loads((folder / "worker_0.json").read_text())["traceEvents"]
    table = (folder / "worker_0.txt").read_text()
    times = {line[:36].strip(): int(line[36:42]) for line in table.splitlines()[1:-1]}
    assert times["draw"] == times["generator: loss"] == times["moving average"] == 1
    assert times["critic: backward"] == config.training.critic_steps
    assert table in caplog.text + "\n"


@pytest.mark.parametrize(("steps", "recorded"), [(10, 0), (20, 0), (22, 2)])
def test_a_profile_of_a_run_that_ends_too_soon(
    steps: int, recorded: int, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("dmgan_pl", cluster__profile=True, training__generator_steps=steps)
    train(config)
    assert (f"no profile: it begins after {WARM_UP} iterations" in caplog.text) == (recorded == 0)
    file = run_folder(config) / "profile" / "worker_0.txt"
    assert file.exists() == (recorded > 0)
    if recorded:
        assert [line.split()[1] for line in file.read_text().splitlines() if line.startswith("draw")] == ["1"]


def test_a_disk_that_is_full_at_the_end_leaves_a_run_whose_results_can_be_written_again(
    make_config: MakeConfig,
) -> None:
    config = make_config("dmgan_pl")
    run_folder(config).mkdir()
    file = run_folder(config) / "samples.npz"
    file.symlink_to("/dev/full")
    with pytest.raises(TrainingStoppedError, match=r"training is complete, but its results .* No space left"):
        train(config)
    file.unlink()
    result = train(config)
    assert result is not None
    assert result["generator_steps"] == 20


@pytest.mark.parametrize("draw", ["random", "systematic", "equal"])
def test_a_prior_that_is_not_a_number_is_reported_whatever_draws_from_it(draw: str, make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", system__draw=draw, system__prior__learning_rate=1e38, training__log_every=20)
    with pytest.raises(TrainingStoppedError, match="is not finite"):
        train(config)


def test_an_unwritable_output_folder_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output: the run's folder .* cannot be written to"):
        train(make_config("wgan_gp", output=str(tmp_path / "file")))


class TestCheckpoints:
    def test_loading_never_runs_code(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, ...]:
                return os.mkdir, (str(tmp_path / "evil"),)

        torch.save({"schema": 1, "system": Evil()}, tmp_path / "model.pt")
        with pytest.raises(UserError, match="is not a checkpoint of toposampler"):
            read_checkpoint(tmp_path / "model.pt")
        assert not (tmp_path / "evil").exists()

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        torch.save({"schema": 99}, tmp_path / "model.pt")
        with pytest.raises(UserError, match="has schema 99; this version reads schema 1"):
            read_checkpoint(tmp_path / "model.pt")

    def test_a_file_that_is_no_checkpoint_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_text("hello")
        with pytest.raises(UserError, match=r"model\.pt"):
            read_checkpoint(tmp_path / "model.pt")

    def test_a_file_without_a_model_is_refused(self, tmp_path: Path) -> None:
        torch.save({"schema": 1, "loop": {}}, tmp_path / "model.pt")
        with pytest.raises(UserError, match="it lacks config, data, seconds, shape"):
            read_checkpoint(tmp_path / "model.pt")

    def test_damaged_newer_files_do_not_push_out_the_one_just_written(self, tmp_path: Path) -> None:
        for step in (6, 15, 20):
            (tmp_path / f"step_{step:08d}.pt").write_bytes(b"damaged")
        good = tmp_path / "step_00000005.pt"
        save_checkpoint(good, {"x": 1})
        save_checkpoint(tmp_path / "step_00000010.pt", {"x": 1}, before=good)
        assert [path.name for path in checkpoints(tmp_path)] == ["step_00000005.pt", "step_00000010.pt"]

    def test_a_full_disk_leaves_the_last_good_checkpoint(self, tmp_path: Path) -> None:
        """/dev/full is a disk without space: the write fails, and what was there stays."""
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full, a device of Linux that is always full")
        save_checkpoint(tmp_path / "step_00000001.pt", {"x": torch.ones(3)})
        (tmp_path / "step_00000002.tmp").symlink_to("/dev/full")
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint(tmp_path / "step_00000002.pt", {"x": torch.ones(100_000)})
        assert checkpoints(tmp_path) == [tmp_path / "step_00000001.pt"]
        assert torch.equal(torch.load(tmp_path / "step_00000001.pt")["x"], torch.ones(3))


class TestModels:
    def test_run_folder_and_checkpoint_give_the_run_s_samples(self, make_config: MakeConfig) -> None:
        config = make_config("dmgan_pl")
        result = train(config)
        assert result is not None
        with np.load(run_folder(config) / "samples.npz") as written:
            expected = torch.from_numpy(written["samples"])
        for place in (run_folder(config), result["model"]):
            samples, ids = load_model(place).sample(200, seed=config.seed)
            assert torch.equal(samples, expected)
            assert ids.shape == (200,)
        assert not torch.equal(load_model(result["model"], ema=False).sample(200)[0], expected)

    def test_bad_requests(self, make_config: MakeConfig, tmp_path: Path) -> None:
        config = make_config("wgan_gp", training__generator_steps=1)
        train(config)
        model = load_model(run_folder(config))
        with pytest.raises(UserError, match="at least 1, got 0"):
            model.sample(0)
        with pytest.raises(UserError, match="no generator 1: this model has generators 0 to 0"):
            model.sample(5, generator=1)
        with pytest.raises(UserError, match="holds none"):
            load_model(tmp_path)
        with pytest.raises(UserError, match="does not exist"):
            load_model(tmp_path / "nothing.pt")


def test_training_needs_neither_ray_nor_mlflow(make_config: MakeConfig, tmp_path: Path) -> None:
    config_file = tmp_path / "config.yaml"
    config_file.write_text(to_yaml(make_config("dmgan_pl", training__generator_steps=3)))
    program = textwrap.dedent("""
        import sys
        sys.modules["ray"] = sys.modules["mlflow"] = None  # any import of them raises
        import toposampler
        from pathlib import Path
        from toposampler.training import load_config, train
        assert train(load_config(Path(sys.argv[1])))["generator_steps"] == 3
    """)
    subprocess.run([sys.executable, "-c", program, config_file], check=True, cwd=tmp_path)


def test_sample_command(
    make_config: MakeConfig,
    load_job: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_config("dmgan_pl")
    train(config)

    def sample(*arguments: str) -> int:
        return load_job("sample").main([str(run_folder(config)), *arguments])

    out = str(tmp_path / "x.npy")
    assert sample("-n", "300", "--out", out, "--seed", "4", "--generator", "2") == 0
    assert np.load(out).shape == (300, 2)
    assert set(np.load(tmp_path / "x_ids.npy")) == {2}
    for arguments, message in [
        (("--out", "x.txt"), "--out must end in .npy, .parquet or .png"),
        (("--out", out, "--generator", "10"), "no generator 10: this model has generators 0 to 9"),
        (("--out", str(tmp_path / "no" / "x.npy")), "cannot be written"),
    ]:
        assert sample(*arguments) == 2
        assert message in capsys.readouterr().err
