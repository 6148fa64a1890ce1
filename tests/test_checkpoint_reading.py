"""Every reason for which a checkpoint cannot be read, of the newest and of all: what a run does, and what survives."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from toposampler.errors import UserError
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import (
    CheckpointDamagedError,
    CheckpointUnreadableError,
    checkpoints,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from toposampler.training.config import run_folder

Spoil = Callable[[Path, pytest.MonkeyPatch], None]
STATE: dict[str, Any] = {"config": {}, "shape": [2], "data": "", "seconds": 0.0, "loop": {"x": torch.arange(1000.0)}}


def cut(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")


def zeroed(path: Path, _: pytest.MonkeyPatch) -> None:
    """As some file systems leave a file after a loss of power: its length without its content."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path, _: pytest.MonkeyPatch) -> None:
    """One bit of a tensor, which torch.load does not notice."""
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        weights = torch.load(file, weights_only=True)["loop"]
    tensor = next(v for v in _tensors(weights) if v.numel() > 8)
    content[content.index(tensor.contiguous().numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def newer_schema(path: Path, _: pytest.MonkeyPatch) -> None:
    torch.save({**torch.load(path, weights_only=True), "schema": 2}, path)


def incomplete(path: Path, _: pytest.MonkeyPatch) -> None:
    torch.save({"schema": 1, "loop": {}}, path)


def without_schema(path: Path, _: pytest.MonkeyPatch) -> None:
    torch.save({"loop": {}}, path)


def with_code(path: Path, _: pytest.MonkeyPatch) -> None:
    torch.save({"schema": 1, "loop": Path("x")}, path)


def a_folder(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link_to_nothing(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.symlink_to(path.parent / "away")


def failing(code: int, when: str) -> Spoil:
    """The operating system answers `code` to opening the file, or to reading it (root may open any file)."""

    def spoil(path: Path, patch: pytest.MonkeyPatch) -> None:
        opened = Path.open

        def open_(self: Path, *arguments: Any, **options: Any) -> IO[Any]:
            file = opened(self, *arguments, **options)
            if self != path or file.writable():
                return file
            if when == "open":
                raise OSError(code, os.strerror(code), str(path))
            return Failing(file)

        class Failing:
            def __init__(self, file: IO[Any]) -> None:
                self.file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def __enter__(self) -> Failing:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def read(self, *_: object) -> bytes:
                raise OSError(code, os.strerror(code), str(path))

        patch.setattr(Path, "open", open_)

    return spoil


DAMAGE = [cut, emptied, zeroed, flipped]
OTHERWISE = {
    "newer schema": newer_schema,
    "incomplete": incomplete,
    "without schema": without_schema,
    "with code": with_code,
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a link to nothing": a_link_to_nothing,
    "another user's": failing(errno.EACCES, "open"),
    "stale": failing(errno.ESTALE, "open"),
    "input/output error": failing(errno.EIO, "read"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint folder of a run of 20 steps: of its steps 15 and 20."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(trained: Path, make_config: Callable[..., RunConfig]) -> RunConfig:
    """A finished run, copied from one that was trained once."""
    config = make_config("wgan_gp")
    if not list(trained.iterdir()):
        train(config)
        shutil.copytree(run_folder(config), trained, dirs_exist_ok=True)
    else:
        shutil.copytree(trained, run_folder(config))
    (run_folder(config) / "result.json").unlink()
    return config


def contents(folder: Path) -> dict[str, Any]:
    """What lies in `folder`, by name: bytes of files (past a patched Path.open), and the kind of what is no file."""
    return {p.name: _bytes(p) if p.is_file() else p.lstat().st_mode for p in sorted(folder.iterdir())}


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_falls_back_and_the_run_ends_with_the_same_bits(
    damage: Spoil, run: RunConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    older, newest = checkpoints(run_folder(run) / "checkpoints")
    whole, kept = read_checkpoint(newest), older.read_bytes()
    damage(newest, monkeypatch)
    train(run)
    assert f"checkpoint {newest} is damaged" in caplog.text
    assert "falling back to the checkpoint before it" in caplog.text
    assert torch.equal(read_checkpoint(newest)["loop"]["average"], whole["loop"]["average"])
    assert older.read_bytes() == kept


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_a_whole_checkpoint_the_run_is_refused_and_all_stays(
    damage: Spoil, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(run) / "checkpoints"
    for path in checkpoints(folder):
        damage(path, monkeypatch)
    before = contents(folder)
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged \(step_00000015.pt, step_00000020.pt\)"):
        train(run)
    with pytest.raises(UserError, match="is damaged"):
        load_model(run_folder(run))
    assert contents(folder) == before


@pytest.mark.parametrize("position", ["newest", "all"])
@pytest.mark.parametrize("reason", OTHERWISE)
def test_any_other_reason_refuses_and_all_stays(
    reason: str, position: str, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(run) / "checkpoints"
    found = checkpoints(folder)
    for path in found if position == "all" else found[-1:]:
        OTHERWISE[reason](path, monkeypatch)
    before = contents(folder)
    with pytest.raises(CheckpointUnreadableError, match="step_00000020"):
        newest_checkpoint(folder)
    with pytest.raises(UserError, match="step_00000020"):
        train(run)
    assert contents(folder) == before


@pytest.mark.parametrize("reason", OTHERWISE)
def test_damage_of_the_newest_is_no_leave_to_go_past_another_that_cannot_be_read(
    reason: str, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(run) / "checkpoints"
    older, newest = checkpoints(folder)
    cut(newest, monkeypatch)
    OTHERWISE[reason](older, monkeypatch)
    with pytest.raises(UserError, match=older.name):
        train(run)
    assert checkpoints(folder) == [older, newest]


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(run) / "checkpoints"
    listed = os.listdir

    def refuse(place: Any) -> list[str]:
        if Path(place) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(place)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match=r"checkpoint folder .* cannot be read: Permission denied"):
        train(run)
    monkeypatch.undo()
    assert len(checkpoints(folder)) == 2


def test_nothing_goes_before_two_good_ones_are_there(tmp_path: Path) -> None:
    """Saved by a process that has read or written no checkpoint yet: what else lies there may be all there is."""
    paths = [tmp_path / f"step_{step:08d}.pt" for step in (10, 20, 30, 40)]
    for path in paths[:2]:
        path.write_bytes(b"unknown")
    save_checkpoint(paths[2], STATE)
    assert checkpoints(tmp_path) == paths[:3]
    save_checkpoint(paths[3], STATE, before=paths[2])
    assert checkpoints(tmp_path) == paths[2:]


def test_a_damaged_one_between_does_not_take_the_place_of_a_good_one(tmp_path: Path, caplog: Any) -> None:
    """20 is damaged, so the run continues from 10 and saves 25: 10 and 25 are the two good ones."""
    ten, twenty, between = (tmp_path / f"step_{step:08d}.pt" for step in (10, 20, 25))
    save_checkpoint(ten, STATE)
    twenty.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == ten
    save_checkpoint(between, STATE, before=found[0])
    assert checkpoints(tmp_path) == [ten, between]


def test_every_byte_altered_is_seen_or_of_no_consequence(tmp_path: Path) -> None:
    """Each byte of a small checkpoint with one bit flipped: damaged, or read with the very same content."""
    path = tmp_path / "step_00000001.pt"
    state = {**STATE, "loop": {"x": torch.arange(4.0)}}
    save_checkpoint(path, state)
    content = path.read_bytes()
    seen = 0
    for place in range(0, len(content), 3):
        altered = bytearray(content)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            assert torch.equal(read_checkpoint(path)["loop"]["x"], state["loop"]["x"])
        except CheckpointDamagedError:
            seen += 1
    assert seen > 100
