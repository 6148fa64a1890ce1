"""`training.minutes`: a run that stops itself with a checkpoint, and ends as if it had not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from toposampler.config import to_yaml
from toposampler.errors import TimeUsedError
from toposampler.records import read_records
from toposampler.training import RunConfig, train
from toposampler.training import stopping as stopping_module
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.stopping import MINUTES, limited

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def a_second_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second whenever a run looks at it."""
    seconds = itertools.count()
    clock = type("Clock", (), {"monotonic": staticmethod(lambda: float(next(seconds)))})
    monkeypatch.setattr(stopping_module, "time", clock)


def test_the_limit_is_a_reason_once_it_is_reached(a_second_a_look: None) -> None:
    should_stop = limited(lambda: None, 3 / 60)  # begins at 0, and is asked at 1, 2, 3
    assert [should_stop() for _ in range(4)] == [None, None, MINUTES, MINUTES]
    assert limited(lambda: "signal", 1)() == "signal"
    no = lambda: None  # noqa: E731
    assert limited(no, None) is no


def leg(config: RunConfig) -> TimeUsedError | None:
    """Train until the run stops itself, or ends."""
    try:
        train(config, progress=False)
    except TimeUsedError as error:
        return error
    return None


@pytest.mark.parametrize("seeds", [None, 2])
def test_legs_end_as_an_uninterrupted_run(
    seeds: int | None, make_config: MakeConfig, tmp_path: Path, a_second_a_look: None
) -> None:
    whole = make_config("dmgan_pl", seeds=seeds, output=str(tmp_path / "whole"))
    train(whole, progress=False)
    config = make_config("dmgan_pl", seeds=seeds, training__minutes=15 / 60)
    errors = list(itertools.takewhile(lambda error: error is not None, (leg(config) for _ in range(20))))
    assert 1 <= len(errors) < 20
    assert all(error.reason == MINUTES for error in errors)
    assert "training.minutes 0.25 are used: stopped after generator step" in str(errors[0])
    folder, other = run_folder(config), run_folder(whole)
    for part in ["."] if seeds is None else ["seed-0", "seed-1"]:
        a, b = (read_checkpoint(checkpoints(place / part / "checkpoints")[-1])["loop"] for place in (folder, other))
        assert a["step"] == b["step"] == 20
        assert all(torch.equal(a["system"][key], b["system"][key]) for key in b["system"])
        a, b = (
            [(r.step, r.metrics) for r in read_records(place / part / "metrics.jsonl")] for place in (folder, other)
        )
        assert a == b


def test_the_command_says_that_there_is_more_to_do(
    make_config: MakeConfig,
    load_job: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    a_second_a_look: None,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(make_config("wgan_gp", tracking__enabled=False)))
    command = [str(path), "--local", "--training.minutes", "0.2"]
    assert load_job("train").main(command) == 75
    said = capsys.readouterr().err
    assert "training.minutes 0.2 are used: stopped after generator step" in said
    assert "the same command resumes from there" in said
    assert load_job("train").main([str(path), "--local", "--training.minutes", "60"]) == 0  # it may change
    assert load_job("train").main([str(path), "--local", "--training.minutes", "0"]) == 2
