"""Files that are written in one step: two writers at once, and what is left when writing fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from toposampler.files import write_atomically


def test_a_second_writer_before_the_first_ones_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace = tmp_path / "result.json", Path.replace

    def late(draft: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        write_atomically(path, "second")
        assert path.read_text() == "second"
        return replace(draft, target)

    monkeypatch.setattr(Path, "replace", late)
    write_atomically(path, "first")
    assert path.read_text() == "first", "the last to end prevails"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_writer_in_the_middle_of_the_first_ones_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "result.json", Path.write_bytes

    def halting(draft: Path, content: bytes) -> int:
        monkeypatch.setattr(Path, "write_bytes", write)
        with draft.open("wb", buffering=0) as file:
            file.write(content[:3])
            write_atomically(path, "second")
            return 3 + file.write(content[3:])

    monkeypatch.setattr(Path, "write_bytes", halting)
    write_atomically(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_no_draft_is_left_when_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "result.json", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
