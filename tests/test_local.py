"""Training in this process, without Ray: the same bits, stopped and gone on with like any run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from toposampler.commands.train import main
from toposampler.config import to_yaml
from toposampler.distributed.driver import launch
from toposampler.distributed.stop import StoppedBySignalError
from toposampler.errors import UserError
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder

MakeConfig = Callable[..., RunConfig]
LONG = {"tracking__enabled": False, "training__generator_steps": 300, "training__evaluate_every": 300}
"""a run that a signal comes in time for"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few seconds of evaluation; signals and threads as they were."""
    monkeypatch.setattr(sys.modules["toposampler.metrics.evaluate"], "MTOP_BATCH", 10)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    torch.set_num_threads(1)


def weights(config: RunConfig) -> list[torch.Tensor]:
    return list(load_model(run_folder(config)).system.state_dict().values())


def test_it_gives_the_bits_of_a_worker(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    local = make_config("dmgan_pl", name="local", tracking__enabled=False)
    result = launch(local, local=True)
    alone = make_config("dmgan_pl", name="alone", tracking__enabled=False)
    assert result["metrics"] == (train(alone, progress=False) or {})["metrics"]
    assert all(map(torch.equal, weights(local), weights(alone)))
    said = capsys.readouterr().err
    assert "loading the data lines\n" in said
    assert "at step 0 of 20, workers: 1" in said
    assert said.splitlines()[-1].startswith("done after 0:0")
    assert "Ray" not in said


def test_a_signal_saves_a_checkpoint_and_the_same_command_goes_on(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp", **LONG)
    other = make_config("wgan_gp", name="other", **LONG)

    def stop_when_it_trains() -> None:
        events = run_folder(config) / "events.log"
        while not (events.exists() and "at step" in events.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal came before training"))
    killer = threading.Thread(target=stop_when_it_trains)
    killer.start()
    with pytest.raises(StoppedBySignalError, match="stopped after generator step") as stopped:
        launch(config, local=True)
    killer.join()
    assert stopped.value.number == signal.SIGTERM
    assert not (run_folder(config) / "result.json").exists()
    launch(config, local=True)
    train(other)
    assert all(map(torch.equal, weights(config), weights(other)))


def test_it_is_one_worker(make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config("dmgan_pl", tracking__enabled=False)
    with pytest.raises(UserError, match=r"--local trains in this process alone: cluster\.num_workers 2"):
        launch(config.model_copy(update={"cluster": config.cluster.model_copy(update={"num_workers": 2})}), local=True)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert main([str(tmp_path / "c.yaml"), "--local", "--cluster.cpus_per_worker", "9999"]) == 2
    assert "this machine has room for 0 of 1 workers" in capsys.readouterr().err


def test_the_command_says_where_it_trains(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config("wgan_gp", tracking__enabled=False, training__generator_steps=2)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert main([str(tmp_path / "c.yaml"), "--local"]) == 0
    out = capsys.readouterr().out
    assert "where    this process, workers: 1" in out
    assert "off_manifold_0.05" in out
