"""Evaluation beside training: the records of an evaluation in the loop, after kills and losses too."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from processes import ROOT, marked_environment
from ranks import on_ranks
from torch import Tensor

from toposampler.errors import TrainingStoppedError, UserError
from toposampler.metrics.registered import METRICS
from toposampler.plugins import register
from toposampler.records import read_records
from toposampler.training import RunConfig, train
from toposampler.training.beside import LOSSES, UNFINISHED, Beside, Drawn, Entry, EvaluatorLostError, SampleMetrics
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.evaluator import SpawnedEvaluator
from toposampler.training.loop import Loop

MakeConfig = Callable[..., RunConfig]
Records = list[tuple[int, dict[str, float]]]
KEYS = {"data__n": 100, "system__n_generators": 2, "training__evaluation_samples": 150, "training__log_every": 2}
BESIDE = {**KEYS, "cluster__evaluate_beside": True}


class KilledError(Exception):
    """Stands for the end of the process."""


class Late:
    """An evaluator in this process, each of whose evaluations ends `seconds` after it has begun."""

    seconds = 0.1
    made: list[Late] = []  # noqa: RUF012  # emptied by each test

    def __init__(self, evaluate: SampleMetrics) -> None:
        self.score_noise, self.begun, self.closed = evaluate, 0, False
        Late.made.append(self)

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        self.begun += 1
        result: Future[dict[str, float]] = Future()
        Timer(self.seconds, lambda: result.set_result(self.score_noise.metrics(drawn))).start()
        return result

    def close(self) -> None:
        self.closed = True


class Lost(Late):
    """One whose process is always lost."""

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        self.begun += 1
        result: Future[dict[str, float]] = Future()
        result.set_exception(EvaluatorLostError("it ended with exit code -9"))
        return result


@pytest.fixture(autouse=True)
def _none_made_yet() -> None:
    Late.made = []


def records(config: RunConfig) -> Records:
    return [(record.step, record.metrics) for record in read_records(run_folder(config) / "metrics.jsonl")]


@pytest.fixture
def in_the_loop(make_config: MakeConfig) -> Records:
    """The records of a run that is evaluated in the loop."""
    config = make_config("dmgan_pl", name="loop", **KEYS, training__checkpoint_every=1000)
    train(config, progress=False)
    return records(config)


class KilledOnce(SpawnedEvaluator):
    """A process of which the first is killed when it is given something."""

    made = 0

    def __init__(self, evaluate: SampleMetrics) -> None:
        super().__init__(evaluate)
        KilledOnce.made += 1

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        if KilledOnce.made == 1:
            self._process.kill()
        return super().start(drawn)


@pytest.mark.usefixtures("whole_metrics")
def test_a_process_beside_training_records_the_same_also_if_one_is_killed(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"training__evaluate_every": 6}
    there = make_config("dmgan_pl", name="loop", **KEYS, **keys)
    train(there, progress=False)
    here = make_config("dmgan_pl", **BESIDE, **keys)
    result = train(here, progress=False, make_evaluator=KilledOnce)
    assert records(here) == records(there)
    assert [step for step, metrics in records(here) if "eval/score" in metrics] == [6, 12, 18]
    assert "is lost: it ended with exit code -9; this evaluation is done in the training process" in caplog.text
    assert KilledOnce.made == 2
    assert result is not None
    assert result["metrics"] == json.loads((run_folder(there) / "result.json").read_text())["metrics"]
    assert multiprocessing.active_children() == []


def test_training_goes_on_while_an_evaluation_is_in_flight(
    make_config: MakeConfig, in_the_loop: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without checkpoints between, nothing is written from the evaluation at step 10 on until it ends."""
    config = make_config("dmgan_pl", **BESIDE, training__checkpoint_every=1000)
    seen: dict[int, int] = {}
    drain = Loop.drain_terms

    def watched(loop: Loop) -> dict[str, float]:
        seen[loop.step] = max((step for step, _ in records(config)), default=0)
        return drain(loop)

    monkeypatch.setattr(Late, "seconds", 3.0)
    monkeypatch.setattr(Loop, "drain_terms", watched)
    train(config, progress=False, make_evaluator=Late)
    assert seen[10] == 8
    assert seen[18] == 8
    assert records(config) == in_the_loop
    assert [late.closed for late in Late.made] == [True]


def test_a_run_killed_at_a_checkpoint_evaluates_its_step_again(make_config: MakeConfig, in_the_loop: Records) -> None:
    config = make_config("dmgan_pl", **BESIDE, training__checkpoint_every=10)

    def kill(step: int, path: Path) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(config, kill, progress=False, make_evaluator=Late)
    assert [step for step, _ in records(config)] == [2, 4, 6, 8]
    (path,) = checkpoints(run_folder(config) / "checkpoints")
    assert "mass/0" in read_checkpoint(path)[UNFINISHED]
    train(config, progress=False, make_evaluator=Late)
    assert Late.made[-1].begun == 1
    assert records(config) == in_the_loop


def test_it_does_so_in_the_loop_if_it_is_resumed_without(make_config: MakeConfig, in_the_loop: Records) -> None:
    keys = {**KEYS, "training__checkpoint_every": 10}

    def kill(step: int, path: Path) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(make_config("dmgan_pl", **keys, cluster__evaluate_beside=True), kill, progress=False, make_evaluator=Late)
    train(make_config("dmgan_pl", **keys), progress=False)
    assert records(make_config("dmgan_pl", **keys)) == in_the_loop


def test_a_run_killed_after_a_checkpoint_comes_by_its_evaluation_again(
    make_config: MakeConfig, in_the_loop: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("dmgan_pl", **BESIDE, training__checkpoint_every=8)
    with monkeypatch.context() as patch:

        def start(self: Late, drawn: Drawn) -> Any:
            raise KilledError

        patch.setattr(Late, "start", start)
        with pytest.raises(KilledError):
            train(config, progress=False, make_evaluator=Late)
    assert [step for step, _ in records(config)] == [2, 4, 6, 8]
    train(config, progress=False, make_evaluator=Late)
    assert records(config) == in_the_loop


def test_a_checkpoint_waits_for_an_earlier_evaluation(make_config: MakeConfig) -> None:
    """So that no record of a step before it can be lost by a kill."""
    config = make_config("dmgan_pl", **BESIDE, training__checkpoint_every=12)

    def kill(step: int, path: Path) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(config, kill, progress=False, make_evaluator=Late)
    assert [step for step, _ in records(config)] == [2, 4, 6, 8, 10, 12]
    assert "eval/score" in dict(records(config))[10]
    assert UNFINISHED not in read_checkpoint(checkpoints(run_folder(config) / "checkpoints")[0])


def test_what_is_in_flight_is_recorded_when_training_fails(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Loop.drain_terms

    def fails(loop: Loop) -> dict[str, float]:
        if loop.step == 14:
            raise TrainingStoppedError("the loss of the critic is not finite")
        return drain(loop)

    monkeypatch.setattr(Loop, "drain_terms", fails)
    config = make_config("dmgan_pl", **BESIDE, training__checkpoint_every=1000)
    with pytest.raises(TrainingStoppedError, match="not finite"):
        train(config, progress=False, make_evaluator=Late)
    assert [step for step, metrics in records(config)] == [2, 4, 6, 8, 10, 12]
    assert "eval/score" in dict(records(config))[10]


def test_after_some_losses_evaluations_are_done_in_the_loop(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"training__evaluate_every": 4, "training__log_every": 4, "training__checkpoint_every": 1000}
    config, there = make_config("dmgan_pl", **BESIDE | keys), make_config("dmgan_pl", name="loop", **KEYS | keys)
    train(there, progress=False)
    train(config, progress=False, make_evaluator=Lost)
    assert records(config) == records(there)
    assert len(Late.made) == LOSSES
    assert "further ones have none either" in caplog.text


def train_to(config: RunConfig, until: int) -> None:
    """Train until the checkpoint of the step `until`, at which the process ends, or to the end."""

    def kill(step: int, path: Path) -> None:
        if step == until:
            raise KilledError

    with suppress(KilledError):
        train(config, kill, progress=False, make_evaluator=Late)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_two_ranks_evaluate_the_step_of_a_checkpoint_again(make_config: MakeConfig, placement: str) -> None:
    keys = {"training__checkpoint_every": 10, "cluster__num_workers": 2, "cluster__placement": placement}
    there = make_config("dmgan_pl", name="loop", **KEYS, **keys)
    on_ranks(2, train_to, there, 0)
    here = make_config("dmgan_pl", **BESIDE, **keys)
    on_ranks(2, train_to, here, 10)
    assert [step for step, _ in records(here)] == [2, 4, 6, 8]
    on_ranks(2, train_to, here, 0)
    assert records(here) == records(there)


class Raising(Late):
    """One whose evaluation fails."""

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        result: Future[dict[str, float]] = Future()
        result.set_exception(ValueError("3 of 30 samples are not finite"))
        return result


def test_an_evaluation_that_fails_ends_the_run_with_its_error(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="3 of 30 samples"):
        train(make_config("dmgan_pl", **BESIDE), progress=False, make_evaluator=Raising)


def test_a_record_goes_out_with_its_evaluation_and_those_after_it_follow() -> None:
    result: Future[dict[str, float]] = Future()

    class One(Late):
        def start(self, drawn: Drawn) -> Future[dict[str, float]]:
            return result

    beside = Beside(None, One)  # type: ignore[arg-type]  # nothing is measured here
    drawn = Drawn(None, None, None)  # type: ignore[arg-type]
    assert beside.add(Entry(1, {"a": 1.0}, 10.0)) == [Entry(1, {"a": 1.0}, 10.0)]
    assert beside.add(Entry(2, {"a": 2.0}, 20.0), drawn) == []
    assert beside.add(Entry(3, {"a": 3.0}, 30.0)) == []
    assert beside.waiting(2) == {"a": 2.0}
    assert beside.waiting(3) is None
    result.set_result({"score": 0.5})
    assert beside.add(Entry(4, {}, 40.0)) == [
        Entry(2, {"a": 2.0, "eval/score": 0.5}, 20.0),
        Entry(3, {"a": 3.0}, 30.0),
        Entry(4, {}, 40.0),
    ]


@pytest.fixture
def local_metric() -> Iterator[str]:
    name = "of_this_test"
    register(lambda real, samples, **_: 0.0, metric=name)
    yield name
    del METRICS._registered[name]


def test_what_no_other_process_can_be_given_is_refused(make_config: MakeConfig, local_metric: str) -> None:
    with pytest.raises(UserError, match=r"cluster\.evaluate_beside: the data or a registered metric cannot be given"):
        train(make_config("dmgan_pl", **BESIDE), progress=False)


def test_a_daemon_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="this process may start no other"):
        SpawnedEvaluator(SampleMetrics.__new__(SampleMetrics))


class OddError(Exception):
    """An error that cannot be unpickled: it is made of two things, and holds one."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_errors_come_back_as_they_are_or_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [UserError("no"), OddError(1, 2)]

    def fails(self: SampleMetrics, drawn: Drawn) -> dict[str, Tensor]:
        raise errors.pop(0)

    monkeypatch.setattr(SampleMetrics, "metrics", fails)
    evaluate = SampleMetrics.__new__(SampleMetrics)
    drawn = Drawn(None, None, None)  # type: ignore[arg-type]
    assert repr(evaluate.outcome(drawn)) == "UserError('no')"
    assert repr(evaluate.outcome(drawn)) == "RuntimeError('OddError: 1 and 2')"


def test_seeds_have_no_process_beside_them(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"cluster\.evaluate_beside is of one run"):
        make_config("dmgan_pl", **BESIDE, seeds=2)


@pytest.mark.slow
def test_the_benchmark_of_both_ways_runs(tmp_path: Path) -> None:
    out = tmp_path / "beside.json"
    command = [sys.executable, "benchmarks/beside.py", "--config", "configs/lines_dmgan_pl.yaml", "--rounds", "1"]
    command += ["--clock", "--out", str(out), "--training.batch_size", "8", "--training.evaluation_samples", "500"]
    subprocess.run(command, cwd=ROOT, env=marked_environment(), check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert 0 < found["ratios"]["in the loop"] < found["ratios"]["beside"] <= 1
    assert found["clock_seconds"].keys() == {"without", "in the loop", "beside"}
