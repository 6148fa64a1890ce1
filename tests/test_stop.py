"""Stopping a run with a checkpoint, and the events its user sees, without Ray."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RaySystemError

from toposampler.distributed import stop, worker
from toposampler.distributed.cluster import _OneLineEach
from toposampler.distributed.events import Events, events_file, log_events
from toposampler.distributed.lost import LostWorkers
from toposampler.distributed.stop import StoppedBySignalError, answer, is_asked, stoppable
from toposampler.errors import RunInterruptedError
from toposampler.training import RunConfig


@pytest.fixture(autouse=True)
def _interrupted_by_sigterm() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def stopped(folder: Path, *, signals: int = 1, has_begun: bool = True, seconds: float = 60.0) -> None:
    """Send this process SIGTERM while a run in `folder` trains for so many seconds."""
    with stoppable(folder, lambda: has_begun):
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)


def test_the_first_signal_ends_the_block_when_the_checkpoint_is_there(tmp_path: Path) -> None:
    threading.Timer(0.3, lambda: is_asked(tmp_path) and answer(tmp_path, "stopped after generator step 7")).start()
    with pytest.raises(StoppedBySignalError, match="step 7") as caught:
        stopped(tmp_path)
    assert caught.value.number == signal.SIGTERM
    assert is_asked(tmp_path), "its workers may still look"
    with pytest.raises(KeyboardInterrupt):  # the handler from before is back
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_ends_the_block_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path, signals=2)


def test_a_signal_before_training_has_begun_ends_the_block_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path, has_begun=False)


def test_no_answer_in_time_ends_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "GRACE_S", 0.2)
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path)


def test_files_of_a_killed_driver_do_not_stop_the_next(tmp_path: Path) -> None:
    for name in ("stop", "stopped"):
        (tmp_path / name).touch()
    with stoppable(tmp_path, lambda: True):
        assert not is_asked(tmp_path)


def test_an_interruption_that_comes_by_way_of_ray(tmp_path: Path) -> None:
    with pytest.raises(StoppedBySignalError, match="step 5"), stoppable(tmp_path, lambda: True):
        raise RunInterruptedError("stopped after generator step 5", "stop")


@pytest.mark.parametrize("kind", [SystemError, RaySystemError])
def test_ray_that_loses_the_exception_of_a_handler(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        try:
            threading.Event().wait(seconds)
        except StoppedBySignalError:
            raise kind("<built-in method> returned a result with an exception set") from None

    monkeypatch.setattr(time, "sleep", sleep)
    threading.Timer(0.2, answer, (tmp_path, "stopped after generator step 7")).start()
    with pytest.raises(StoppedBySignalError, match="step 7"):
        stopped(tmp_path)
    with pytest.raises(kind, match="another"), stoppable(tmp_path, lambda: True):
        raise kind("another")


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """A folder whose events this process logs."""
    logger = logging.getLogger("toposampler")
    level = logger.level
    log_events(tmp_path)
    yield tmp_path
    logger.setLevel(level)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def test_events_are_logged_with_their_time_and_printed_once(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("toposampler.training.run").info("of an earlier driver")
    events = Events(logged)
    events.refresh()
    assert not events.any()
    logging.getLogger("toposampler.training.checkpoint").warning("checkpoint x is damaged")
    LostWorkers(logged).after_exception(None, {1: RuntimeError("a page\nits process died. Worker exit type: X")})
    with events_file(logged).open("a") as file:
        file.write("a line that is not whole")
    events.refresh()
    events.refresh()
    assert events.any()
    first, second = capsys.readouterr().err.splitlines()
    assert first[:2] == "20"
    assert first[19:] == " checkpoint x is damaged"
    assert second[19:] == " worker 1 failed: its process died."


def test_lost_workers_are_told_even_where_nothing_can_be_written(tmp_path: Path) -> None:
    LostWorkers(tmp_path / "absent").after_exception(None, {0: RuntimeError("x")})  # raising would end the run


def test_ray_s_own_messages_are_cut_to_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    tell = _OneLineEach()
    for _ in range(2):
        tell(
            {
                "lines": [
                    "Raylet is terminated. Possible reasons include: (1) x\n    log\n",
                    "A worker died or was killed",
                ]
            }
        )
    assert capsys.readouterr().err == "ray: Raylet is terminated.\n"


def test_a_run_in_another_thread_than_the_main_one_leaves_signals_alone(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with ThreadPoolExecutor(1) as pool:

        def work() -> bool:
            with stoppable(tmp_path, has_begun=lambda: True):
                return (tmp_path / "stop").exists()

        assert pool.submit(work).result() is False


def test_the_error_of_a_stop_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StoppedBySignalError("step 5", signal.SIGINT)))
    assert (type(error), str(error), error.number, error.reason) == (StoppedBySignalError, "step 5", 2, "stop")


def test_an_announced_preemption_saves_once_and_training_goes_on(
    make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, saved = SimpleNamespace(preemption_info=None), []

    def train(
        config: RunConfig, on_checkpoint: object, should_stop: Callable[[], str | None], **_: object
    ) -> dict[str, int]:
        for step in range(6):
            context.preemption_info = "node 7" if step >= 2 else context.preemption_info
            if reason := should_stop():
                saved.append(step)
                raise RunInterruptedError(f"step {step}", reason)
        return {"generator_steps": 6}

    monkeypatch.setattr("ray.train.get_preemption_info", lambda: context.preemption_info)
    monkeypatch.setattr(worker, "ASK_EVERY", 1)
    monkeypatch.setattr(worker, "train", train)
    preempted = worker._train_through_preemptions
    assert preempted(make_config("wgan_gp"), tmp_path) == {"generator_steps": 6}
    assert saved[0] == 2
    (tmp_path / "stop").touch()
    with pytest.raises(RunInterruptedError):
        preempted(make_config("wgan_gp"), tmp_path)


def test_a_rank_that_does_not_see_the_request_yet_stops_for_the_reason_that_rank_0_gave(
    make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise RunInterruptedError("stopped after generator step 5", "stop")

    monkeypatch.setattr("ray.train.get_preemption_info", lambda: None)
    monkeypatch.setattr(worker, "train", train)
    with pytest.raises(RunInterruptedError) as caught:  # and not a second call, which would wait for the others
        worker._train_through_preemptions(make_config("wgan_gp"), tmp_path)
    assert pickle.loads(pickle.dumps(caught.value)).reason == "stop"


def test_a_rank_that_sees_a_request_which_rank_0_has_not_seen_goes_on_as_the_others_do(
    make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = ["preemption", "stop"]

    def train(*_: object, **__: object) -> None:
        raise RunInterruptedError("step 3", reasons.pop(0))

    (tmp_path / "stop").touch()
    monkeypatch.setattr("ray.train.get_preemption_info", lambda: None)
    monkeypatch.setattr(worker, "train", train)
    with pytest.raises(RunInterruptedError):
        worker._train_through_preemptions(make_config("wgan_gp"), tmp_path)
    assert reasons == []
