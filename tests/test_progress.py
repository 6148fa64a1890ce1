"""What is read of a growing metrics.jsonl, and what is shown of it."""

import io
import json
from pathlib import Path

import pytest

from toposampler.background import Periodic
from toposampler.records import Record, read_records
from toposampler.training.progress import Lines, Progress, active_of_all, main_metric, of_runs


def append(path: Path, step: int, time: float = 1.5, **metrics: float) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"step": step, "time": time, "metrics": metrics}) + "\n")


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_an_absent_file_has_no_records(metrics: Path) -> None:
    assert read_records(metrics) == []


def test_a_line_is_read_once_it_is_complete(metrics: Path) -> None:
    append(metrics, 1, loss=2.0)
    whole = metrics.stat().st_size
    with metrics.open("a") as file:
        file.write('{"step": 2, "time": 2.5,')
    assert read_records(metrics) == [Record(1, 1.5, {"loss": 2.0}, whole)]
    assert read_records(metrics, whole) == []
    with metrics.open("a") as file:
        file.write(' "metrics": {"loss": 3.0}}\n')
    assert read_records(metrics, whole) == [Record(2, 2.5, {"loss": 3.0}, metrics.stat().st_size)]


def test_offsets_are_bytes(metrics: Path) -> None:
    metrics.write_text('{"step": 1, "time": 0.0, "metrics": {"größe": 1.0}}\n')
    append(metrics, 2)
    first, second = read_records(metrics)
    assert read_records(metrics, first.end) == [second]


def test_lines_tell_step_speed_time_left_and_metric(metrics: Path) -> None:
    stream = io.StringIO()
    with Progress(metrics, 13_333, stream) as progress:
        append(metrics, 2000, time=1000.0)
        progress.refresh()
        append(metrics, 4000, time=1009.0, **{"eval/off_manifold_0.05": 0.012})
        progress.refresh()
    assert stream.getvalue().splitlines() == [
        "step 2,000/13,333",
        "step 4,000/13,333  222 steps/s  0:00:42 left  off_manifold_0.05 0.012",
    ]


def test_a_metric_of_an_earlier_step_says_so(metrics: Path) -> None:
    stream = io.StringIO()
    with Progress(metrics, 30, stream) as progress:
        append(metrics, 20, time=1.0, **{"eval/off_manifold_0.05": 0.12})
        append(metrics, 30, time=2.0)
        progress.refresh()
    assert stream.getvalue().splitlines()[-1].endswith("left  off_manifold_0.05 0.12 at step 20")


def test_lines_keep_their_pace_and_end_with_the_newest(metrics: Path) -> None:
    stream = io.StringIO()
    with Progress(metrics, 100, stream) as progress:
        for step in range(1, 101):
            append(metrics, step)
            progress.refresh()
    assert stream.getvalue() == "step 1/100\nstep 100/100\n"


def test_lines_come_again_after_their_pause() -> None:
    stream = io.StringIO()
    lines = Lines(stream, total_steps=3, seconds=0.0)
    for step in (1, 2, 3):
        lines.show(step, None, "")
    assert stream.getvalue().splitlines() == ["step 1/3", "step 2/3", "step 3/3"]


def test_a_resumed_run_tells_nothing_twice(metrics: Path) -> None:
    append(metrics, 50)
    stream = io.StringIO()
    with Progress(metrics, 100, stream) as progress:
        progress.refresh()
        assert stream.getvalue() == ""
        append(metrics, 60)
        progress.refresh()
    assert stream.getvalue() == "step 60/100\n"


def test_a_terminal_gets_one_bar(metrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    append(metrics, 50)
    with Progress(metrics, 100, stream) as progress:
        append(metrics, 100, **{"eval/energy_distance": 0.25})
        progress.refresh()
    *_, last = stream.getvalue().split("\r")
    assert "100/100" in last
    assert "energy_distance 0.25" in last
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        ({}, ""),
        ({"critic/wasserstein": 1.0}, ""),
        ({"eval/coverage": 0.5, "eval/off_manifold_0.05": 0.25}, "off_manifold_0.05 0.25"),
        ({"eval/coverage": 0.5, "eval/jsd": 0.25}, "coverage 0.5"),
    ],
)
def test_the_main_metric_is_the_off_manifold_rate_where_there_is_one(measured: dict[str, float], shown: str) -> None:
    assert main_metric(Record(1, 0.0, measured, 0)) == shown


def test_periodic_acts_while_the_block_runs_and_once_more_at_its_end() -> None:
    calls: list[int] = []
    with Periodic(lambda: calls.append(1), seconds=60):
        assert calls == []
    assert calls == [1]


def test_speed_is_that_of_the_newest_records_whatever_lay_between_earlier_ones(metrics: Path) -> None:
    stream = io.StringIO()
    with Progress(metrics, 10_000, stream) as progress:
        append(metrics, 100, time=0.0)
        for i in range(30):
            append(metrics, 200 + 10 * i, time=1000.0 + i)  # after a restart
        progress.refresh()
    assert stream.getvalue().splitlines()[-1].startswith("step 490/10,000  10 steps/s")


def test_active_generators_are_shown_and_remembered(metrics: Path) -> None:
    stream = io.StringIO()
    with Progress(metrics, 30, stream) as progress:
        append(metrics, 10, time=1.0, **{"mass/0": 0.7, "mass/1": 0.295, "mass/2": 0.005})
        append(metrics, 20, time=2.0, **{"eval/off_manifold_0.05": 0.12})
        progress.refresh()
    assert stream.getvalue().splitlines()[-1].endswith("left  2 of 3 generators active  off_manifold_0.05 0.12")


def test_of_many_generators_those_that_hold_less_than_a_hundredth_count_too() -> None:
    assert active_of_all(Record(1, 0.0, {f"mass/{c}": 0.01 for c in range(100)}, 0)) == (100, 100)


def test_of_several_runs_the_mean_of_the_active_generators_is_told(metrics: Path) -> None:
    """The c-th generators of two runs have nothing in common: the means of their masses are .5 and .5."""
    runs = [{"mass/0": 1.0, "mass/1": 0.0, "a": 1.0}, {"mass/0": 0.5, "mass/1": 0.5, "a": 2.0}]
    assert of_runs(runs) == {"a": 1.5, "active_generators": 1.5, "generators": 2.0}
    assert of_runs([{"a": 1.0}]) == {"a": 1.0}
    stream = io.StringIO()
    with Progress(metrics, 30, stream) as progress:
        append(metrics, 10, time=1.0, **of_runs(runs))
        progress.refresh()
    assert stream.getvalue().splitlines()[-1].endswith("1.5 of 2 generators active in the mean")


def test_a_job_s_log_has_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("toposampler.training.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = Lines(stream, total_steps=100)
    for second in range(31):
        now[0] = float(second)
        lines.show(second, None)
    assert stream.getvalue().splitlines() == [f"step {second}/100" for second in (0, 10, 20, 30)]
