"""`metrics.jsonl`: whole lines only, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from toposampler.records import RecordWriter, read_records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with records at steps 10 and 20."""
    writer = RecordWriter(tmp_path / "metrics.jsonl")
    writer.write(10, {"a": 1.5})
    writer.write(20, {"a": 2.5, "b": -1e-9})
    writer.close()
    return tmp_path / "metrics.jsonl"


def test_what_is_written_is_read(path: Path) -> None:
    first, second = read_records(path)
    assert (first.step, first.metrics) == (10, {"a": 1.5})
    assert (second.step, second.metrics) == (20, {"a": 2.5, "b": -1e-9})
    assert second.time >= first.time > 1.7e9
    assert second.end == path.stat().st_size
    assert read_records(path, first.end) == [second]
    assert read_records(path, second.end) == []


def test_a_step_is_never_written_twice(path: Path) -> None:
    before = path.read_bytes()
    writer = RecordWriter(path)
    assert writer.last_step == 20
    writer.write(10, {"a": 7.0})
    writer.write(20, {"a": 7.0})
    assert path.read_bytes() == before
    writer.write(30, {"a": 7.0})
    writer.close()
    assert [record.step for record in read_records(path)] == [10, 20, 30]


def test_a_line_cut_short_by_a_kill_is_left_by_readers_and_removed_by_the_next_writer(path: Path) -> None:
    whole = path.read_bytes()
    for cut in (1, 15, 40):
        path.write_bytes(whole[:-cut])
        assert [record.step for record in read_records(path)] == [10]
        writer = RecordWriter(path)
        writer.write(20, {"a": 3.0})
        writer.close()
        assert [record.metrics for record in read_records(path)] == [{"a": 1.5}, {"a": 3.0}]


def test_an_absent_file_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "none.jsonl") == []


FOREIGN = [
    b"hello",
    b"",
    b"[1, 2]",
    b"null",
    b'{"step": 15}',
    b'{"step": "15", "time": 1.0, "metrics": {}}',
    b'{"step": true, "time": 1.0, "metrics": {}}',
    b'{"step": 15, "time": null, "metrics": {}}',
    b'{"step": 15, "time": 1.0, "metrics": {"a": "b"}}',
    b'{"step": 15, "time": 1.0, "metrics": {"a": null}}',
    b'{"step": 15, "time": 1.0, "metrics": {"a": 1' + b"0" * 400 + b"}}",
    b'{"step": 15, "time": 1.0, "metrics": [1]}',
    b'{"step": 15, "time": 1.0, "metrics": {}, "end": 3}',
    b"[" * 100_000,
    b"\xff\xfe",
    b"\x00" * 100,
]


@pytest.mark.parametrize("place", ["between", "last"])
@pytest.mark.parametrize("line", FOREIGN, ids=lambda line: str(line[:30]))
def test_a_foreign_line_is_skipped_with_one_warning_and_kept(
    line: bytes, place: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = path.read_bytes().splitlines(keepends=True)
    foreign = line + b"\n"
    content = first + foreign + second if place == "between" else first + second + foreign
    path.write_bytes(content)
    for _ in range(3):
        records = read_records(path)
        assert [record.step for record in records] == [10, 20]
        assert read_records(path, records[0].end) == records[1:]
    assert caplog.text.count("holds lines that are no records of toposampler") == 1
    writer = RecordWriter(path)
    assert writer.last_step == 20
    writer.write(30, {"a": 1.0})
    writer.close()
    assert path.read_bytes().startswith(content)
    assert [record.step for record in read_records(path)] == [10, 20, 30]
