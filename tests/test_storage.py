"""Runs at an address: validated, kept there while they train, gone on with from there, and read from there."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import free_port
from s3 import s3_server

import toposampler
from toposampler import api
from toposampler.commands import sample
from toposampler.commands.train import main
from toposampler.config import to_yaml, validate
from toposampler.distributed.driver import launch
from toposampler.errors import RunInterruptedError, TrainingStoppedError, UserError
from toposampler.storage import Store, WorkedOn, fetched, output_place
from toposampler.training import RunConfig, train
from toposampler.training.config import as_known
from toposampler.training.mirror import Mirror, mirrored, viewed

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine keeps temporary files: empty."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return disk


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A folder in a bucket on a server of S3."""
    with s3_server("toposampler-tests"):
        yield "s3://toposampler-tests/deep/runs"


@pytest.fixture
def at(make_config: MakeConfig, tmp_path: Path) -> Callable[..., RunConfig]:
    """A small run at a file:// address, or at `output`."""
    place = f"file://{tmp_path}/store"

    def make(output: str = place, **keys: Any) -> RunConfig:
        return make_config("dmgan_pl", **{"tracking__enabled": False, **keys}).model_copy(update={"output": output})

    return make


def names(config: RunConfig) -> list[str]:
    found = Store(f"{config.output}/{config.name}").stamps()
    return sorted(name for name in found if not name.startswith("figures/"))


def left_on(disk: Path) -> list[Path]:
    """What toposampler has left among the temporary files; torch keeps a cache there."""
    return [path for path in disk.iterdir() if not path.name.startswith("torchinductor")]


AT_THE_END = [
    "checkpoints/step_00000015.pt",
    "checkpoints/step_00000020.pt",
    "config.yaml",
    "metrics.jsonl",
    "result.json",
    "samples.npz",
    "snapshots/step_00000000.npz",
    "snapshots/step_00000020.npz",
]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("gs://my.bucket_1/a", "gs://my.bucket_1/a"),
        ("file:///mnt/runs/", "file:///mnt/runs"),
        ("runs", "runs"),
    ],
)
def test_an_address_is_taken(text: str, right: str, make_config: MakeConfig) -> None:
    assert make_config("wgan_gp", output=text).output == right


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hdfs://host/x", "hdfs:/ cannot be written to: give s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"),
        ("S3://bucket/x", "s3:/ cannot be written to: give s3://BUCKET"),
        ("s3://", "has to be s3://BUCKET/FOLDER; a bucket's name has small letters"),
        ("s3://key:secret@bucket/x", "has to be s3://BUCKET/FOLDER; .*AWS_ACCESS_KEY_ID"),
        ("gs://Bucket/x", "has to be gs://BUCKET/FOLDER; .*GOOGLE_APPLICATION_CREDENTIALS"),
        ("s3://bucket/x?region=eu", "'x.region=eu' cannot be the name of a folder there"),
        ("s3://bucket/../x", r"'\.\.' cannot be the name of a folder there"),
        ("s3://bucket//x", "two slashes, and no name between them"),
        ("file://runs", "has to be file:// and an absolute path, such as file:///mnt/runs"),
        ("file:///", "has to be file:// and an absolute path"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str, said: str, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=f"output: .*{said}"):
        make_config("wgan_gp", output=text)


def test_what_is_worked_on_is_written_down_as_its_address(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp").model_copy(update={"output": WorkedOn("/tmp/x", "s3://bucket/runs")})
    for copy in (config, pickle.loads(pickle.dumps(config))):
        assert copy.output == "/tmp/x"
        assert "output: s3://bucket/runs\n" in to_yaml(copy)
        assert validate(RunConfig, copy.model_dump(mode="json")).output == "s3://bucket/runs"
        assert as_known(copy, Path("/tmp/x/run/checkpoints/a.pt")) == "s3://bucket/runs/run/checkpoints/a.pt"
    assert output_place(config.output) is config.output


def test_several_workers_of_seeds_need_a_folder(make_config: MakeConfig) -> None:
    keys = {"output": "s3://bucket/runs", "seeds": 2}
    with pytest.raises(
        UserError, match=r"output s3://bucket/runs: with `seeds` several workers see .*cluster.num_workers 1"
    ):
        make_config("wgan_gp", **keys, cluster__num_workers=2)
    assert make_config("wgan_gp", **keys).seeds == 2


def test_a_fit_needs_a_folder(disk: Path) -> None:
    with pytest.raises(UserError, match=r"output file://.*: toposampler.fit keeps data and model in a folder of this"):
        api.fit(
            np.random.default_rng(0).normal(size=(50, 2)), output=f"file://{disk}/store", training__generator_steps=2
        )
    assert left_on(disk) == []


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_run_lies_at_its_address_and_nowhere_else(
    kind: str, at: MakeConfig, s3: str, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers as in a folder; a complete run is not trained again; a model is read from there."""
    folder = train(at(str(tmp_path / "folder")), progress=False) or {}
    config = at(s3) if kind == "s3" else at()
    result = launch(config, local=True)
    assert result["metrics"] == folder["metrics"]
    assert result["model"] == f"{config.output}/run/checkpoints/step_00000020.pt"
    assert [name for name in names(config) if name != "events.log"] == AT_THE_END
    store = Store(f"{config.output}/run")
    assert b"at step 0 of 20" in store.read("events.log")
    assert f"output: {config.output}\n".encode() in store.read("config.yaml")
    assert left_on(disk) == []

    stamps = store.stamps()
    capsys.readouterr()
    assert launch(config, local=True) == result
    assert "complete: nothing is left to train" in capsys.readouterr().out
    assert {k: v for k, v in store.stamps().items() if k != "events.log"} == {
        k: v for k, v in stamps.items() if k != "events.log"
    }
    x, _ = toposampler.load(f"{config.output}/run").sample(10, 0)
    assert torch.equal(x, toposampler.load(tmp_path / "folder" / "run").sample(10, 0)[0])
    out = tmp_path / "x.npy"
    assert sample.main([result["model"], "-n", "10", "--out", str(out)]) == 0
    assert np.array_equal(np.load(out), x.numpy())
    assert left_on(disk) == []


def test_a_run_goes_on_on_another_machine(at: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped on one machine, gone on with on a second, which has an empty disk: the bits of one that was not."""
    keys = {"training__generator_steps": 300, "training__evaluate_every": 300}
    config, seen = at(**keys), []
    looks = iter([None, None, "enough"])
    with pytest.raises(RunInterruptedError, match=f"checkpoint: {config.output}/run/checkpoints/step_"):
        train(config, lambda step, _: seen.append(step), lambda: next(looks), progress=False)
    assert seen[-1] < 300
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started: list[int] = []
    result = train(config, lambda step, _: started.append(step), progress=False) or {}
    assert started[0] > seen[-1]
    assert result["metrics"] == (train(at(str(tmp_path / "folder"), **keys), progress=False) or {})["metrics"]
    lines = [json.loads(line)["step"] for line in Store(f"{config.output}/run").read("metrics.jsonl").splitlines()]
    assert lines == list(range(5, 301, 5))


def test_other_ranks_read_the_checkpoint_at_the_address(at: MakeConfig) -> None:
    train(at(), progress=False)
    with mirrored(at(), rank=1) as here, fetched(f"{at().output}/run/checkpoints/step_00000020.pt") as copy:
        assert not Path(here.output).exists()
        assert copy.name == "step_00000020.pt"


def test_seeds_lie_below_the_address_of_all(at: MakeConfig, disk: Path) -> None:
    config = at(seeds=2, training__generator_steps=5)
    result = launch(config, local=True)
    for seed in (0, 1):
        assert f"seed-{seed}/result.json" in names(config)
    assert result["model"].startswith(f"{config.output}/run/seed-")
    assert launch(config, local=True) == result
    assert left_on(disk) == []


def test_resume_by_name_and_dry_run(
    at: MakeConfig, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = at()
    train(config, progress=False)
    where = ["--output", config.output]
    assert main(["--resume", "run", *where, "--local"]) == 0
    assert f"model    {config.output}/run/checkpoints/step_00000020.pt" in capsys.readouterr().out
    assert main(["--resume", "run", *where, "--dry-run"]) == 0
    assert f"results  {config.output}/run\n" in capsys.readouterr().out
    assert main(["--resume", "other", *where]) == 2
    assert (
        f"{config.output}/other holds no run; the runs in {config.output} (--output): run\n" in capsys.readouterr().err
    )
    assert left_on(disk) == []


class _Refusing(BaseHTTPRequestHandler):
    """Answers 403 to all, as S3 does to who has no credentials for a bucket."""

    def do_PUT(self) -> None:
        self.send_response(403)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("fault", ["no such bucket", "access is denied", "cannot be reached", "no pyarrow", "scheme"])
def test_storage_that_cannot_be_used_is_refused_before_anything_starts(
    fault: str, at: MakeConfig, s3: str, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    output = "s3://absent-bucket/runs"
    match fault:
        case "access is denied":
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        case "cannot be reached":
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
            monkeypatch.setattr("toposampler.storage.ATTEMPTS", 1)
        case "no such bucket":
            pass  # the server of `s3` has another
        case "no pyarrow":
            monkeypatch.setattr("toposampler.extras.find_spec", lambda package: None)
        case "scheme":
            output = "abfs://container/runs"
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(at()))
    assert main([str(file), "--output", output, "--local"]) == 2
    server.shutdown()
    said = capsys.readouterr().err
    assert "loading the data" not in said
    assert said.count("error: ") == 1
    right = {
        "no pyarrow": "needs pyarrow, which is not installed: pip install '.[tables]' in the checkout",
        "scheme": "output: abfs:/ cannot be written to: give s3://BUCKET",
    }
    assert right.get(fault, "output: s3://absent-bucket/runs/run cannot be written to: ") in said
    assert fault in said or fault in right
    assert left_on(disk) == []


def test_without_an_mlflow_a_run_at_an_address_says_that_it_is_not_recorded(
    at: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(at(tracking__enabled=True), local=True)
    assert "not recorded on MLflow: none is named, and no SQLite file can lie at file://" in capsys.readouterr().err


@pytest.mark.slow
def test_mlflow_is_told_how_far_from_any_machine(at: MakeConfig, disk: Path, tmp_path: Path) -> None:
    """The driver's own file, tracking.json, is at the address too: nothing is told twice from another machine."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = at(tracking__enabled=True, tracking__uri=uri)
    launch(config, local=True)
    noted = json.loads(Store(f"{config.output}/run").read("tracking.json"))
    assert (noted["status"], noted["model"]) == ("FINISHED", "step_00000020.pt")
    launch(config, local=True)
    assert json.loads(Store(f"{config.output}/run").read("tracking.json")) == noted


def test_the_end_that_cannot_be_copied_is_an_error_and_what_goes_before_a_warning(
    at: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Store, "put", refuse)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(TrainingStoppedError, match=r"the end of the run cannot be copied to file://.*/run: no space"),
    ):
        train(at(), progress=False)
    assert [m for m in caplog.messages if "no space. Nothing can be copied there now; training goes on." in m]
    assert len(caplog.messages) == 1


def test_older_checkpoints_go_once_newer_ones_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = tmp_path / "folder", Store(f"file://{tmp_path}/store")
    mirror = Mirror(store, folder)
    mirror.fetch()
    (folder / "checkpoints").mkdir()
    for name in ("checkpoints/step_1.pt", "result.json", ".training.lock", "checkpoints/step_2.tmp"):
        (folder / name).write_text(name)
    (folder / "metrics.jsonl").write_text('{"whole": 1}\n{"a par')
    done: list[str] = []
    put = Store.put
    monkeypatch.setattr(Store, "put", lambda self, file, name: (done.append(name), put(self, file, name)))
    mirror.copy()
    assert done == ["checkpoints/step_1.pt", "result.json"]
    assert store.read("metrics.jsonl") == b'{"whole": 1}\n'
    mirror.copy()
    assert len(done) == 2
    (folder / "checkpoints" / "step_1.pt").rename(folder / "checkpoints" / "step_2.pt")
    monkeypatch.setattr(Store, "put", lambda *_: (_ for _ in ()).throw(OSError("away")))
    with pytest.raises(OSError, match="away"):
        mirror.copy()
    assert "checkpoints/step_1.pt" in store.stamps()
    monkeypatch.setattr(Store, "put", put)
    mirror.copy()
    assert {"checkpoints/step_2.pt", "metrics.jsonl", "result.json"} == store.stamps().keys()


def test_the_driver_and_training_meet_at_the_address_alone(at: MakeConfig, tmp_path: Path) -> None:
    """Records, events, the request to stop and its answer go from one folder to the other."""
    config = at()
    with viewed(config) as (seen, view), mirrored(config) as worked:
        assert view is not None
        driver, training = Path(seen.output) / "run", Path(worked.output) / "run"
        mirror = Mirror(Store(f"{config.output}/run"), training)
        for text in ("one\n", "one\ntwo\n"):
            (training / "events.log").write_text(text)
            mirror.copy()
            view.follow()
            assert (driver / "events.log").read_text() == text
        (driver / "stop").touch()
        view.follow()
        mirror.copy()
        assert (training / "stop").exists()
        (training / "stopped").write_text("after step 3")
        mirror.copy()
        view.follow()
        assert (driver / "stopped").read_text() == "after step 3"
    with viewed(config) as (seen, _):
        assert not {"stop", "stopped"} & {path.name for path in (Path(seen.output) / "run").iterdir()}


def test_a_second_driver_on_this_machine_is_refused(at: MakeConfig) -> None:
    with viewed(at()), pytest.raises(UserError, match="another process is working on this run"), viewed(at()):
        pass
