"""Samples written to files: the same for the same seed whoever writes them, whole or not there."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from processes import assert_nothing_left, processes, start, wait_until

from toposampler.data.images import from_bytes, to_bytes
from toposampler.errors import UserError
from toposampler.sampling.output import Npy, output
from toposampler.sampling.writing import SamplingJob, Writer
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder
from toposampler.training.sampling import BLOCK, block_seed, draw_block

N = 12_300
"""two parts, the last block cut short"""


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model of points."""
    return _trained(tmp_path_factory.mktemp("points"), {"name": "lines", "n": 100})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model of 8x8 images."""
    return _trained(tmp_path_factory.mktemp("images"), {"name": "digits"})


def _trained(folder: Path, data: dict[str, object]) -> Path:
    config = RunConfig.model_validate(
        {
            "name": "run",
            "output": str(folder),
            "data": data,
            "system": {"name": "dmgan_pl", "n_generators": 3, "latent": {"dim": 8}},
            "training": {"batch_size": 8, "generator_steps": 1, "evaluation_samples": 100},
        }
    )
    train(config)
    return run_folder(config)


@pytest.fixture
def sample(load_job: Callable[[str], ModuleType]) -> Callable[..., int]:
    """The command, in this process."""

    def run(*arguments: object) -> int:
        return load_job("sample").main([str(part) for part in arguments])

    return run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestBlocks:
    def test_a_block_depends_on_seed_and_number_alone(self, points: Path) -> None:
        system = load_model(points).system
        (x, ids), _ = draw_block(system, 7, seed=1), draw_block(system, 3, seed=2)
        again, same = draw_block(system, 7, seed=1)
        assert torch.equal(x, again)
        assert torch.equal(ids, same)
        assert x.shape == (BLOCK, 2)
        for index, seed in ((8, 1), (7, 2)):
            assert not torch.equal(x, draw_block(system, index, seed)[0])

    def test_no_two_blocks_of_a_run_share_their_low_32_bits(self) -> None:
        assert len({block_seed(5, index) % 2**32 for index in range(10**5)}) == 10**5

    def test_a_few_samples_are_of_all_generators(self, points: Path) -> None:
        """Though systematic draws, which keep a block's masses exact, are sorted by generator."""
        _, ids = load_model(points).sample(60, seed=1)
        assert set(ids.tolist()) == {0, 1, 2}

    def test_seeds_that_agree_in_32_bits_differ(self, points: Path) -> None:
        model = load_model(points)
        assert not torch.equal(model.sample(10, seed=1)[0], model.sample(10, seed=1 + 2**32)[0])

    @pytest.mark.parametrize("generator", [None, 1])
    def test_the_first_of_many_are_those_of_few(self, points: Path, generator: int | None) -> None:
        model = load_model(points)
        x, ids = model.sample(2500, 3, generator)
        for n in (1000, 1700):
            few, their_ids = model.sample(n, 3, generator)
            assert torch.equal(few[:1000], x[:1000])
            torch.testing.assert_close(few, x[:n], rtol=1e-5, atol=1e-6)  # a block cut short rounds otherwise
            assert torch.equal(their_ids, ids[:n])


class TestFormats:
    def test_npy_holds_what_the_model_samples(self, points: Path, tmp_path: Path, sample: Callable[..., int]) -> None:
        out = tmp_path / "x.npy"
        assert sample(points, "-n", N, "--out", out, "--seed", 4) == 0
        x, ids = load_model(points).sample(N, seed=4)
        np.testing.assert_array_equal(np.load(out), x.numpy())
        np.testing.assert_array_equal(np.load(tmp_path / "x_ids.npy"), ids.numpy())
        assert np.load(out).dtype == np.float32
        assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "x_ids.npy"}, "no draft is left"
        assert sample(points, "-n", 5, "--out", out) == 0, "an older file is replaced"
        assert np.load(out).shape == (5, 2)

    def test_parquet_is_a_data_set_of_parts(self, images: Path, tmp_path: Path, sample: Callable[..., int]) -> None:
        out = tmp_path / "x.parquet"
        assert sample(images, "-n", N, "--out", out, "--seed", 4) == 0
        assert sorted(path.name for path in out.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
        table = pq.read_table(out)
        x, ids = load_model(images).sample(N, seed=4)
        np.testing.assert_array_equal(table["sample"].combine_chunks().to_numpy_ndarray(), x.numpy())
        assert table["generator"].to_pylist() == ids.tolist()
        rows = pd.read_parquet(out)["sample"]
        assert rows[7].shape == (x[7].numel(),), "pandas has no shapes in its cells: --help says so"
        np.testing.assert_array_equal(rows[7].reshape(x[7].shape), x[7].numpy())

    def test_images_are_png_files_a_thousand_a_folder(
        self, images: Path, tmp_path: Path, sample: Callable[..., int]
    ) -> None:
        out = tmp_path / "x"
        assert sample(images, "-n", 1003, "--out", out, "--seed", 4) == 0
        x, ids = load_model(images).sample(1003, seed=4)
        with (out / "generators.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["file"] for row in rows[998:1001]] == [f"0000{i // 1000}/{i:08d}.png" for i in (998, 999, 1000)]
        assert [int(row["generator"]) for row in rows] == ids.tolist()
        assert len(list(out.rglob("*.png"))) == 1003
        for number in (0, 1002):
            with Image.open(out / rows[number]["file"]) as image:
                assert image.mode == "L"
                seen = from_bytes(torch.from_numpy(np.array(image)))
            torch.testing.assert_close(seen, x[number, 0], rtol=0.0, atol=0.5 / 127.5 + 1e-6)

    def test_bytes_are_the_inverse_of_numbers(self) -> None:
        every = torch.arange(256, dtype=torch.uint8)
        assert torch.equal(to_bytes(from_bytes(every)), every)
        assert to_bytes(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]

    def test_colors_keep_their_places(self, tmp_path: Path) -> None:
        x = torch.rand(4, 3, 8, 8) * 2 - 1
        place = output(tmp_path / "x", 4, (3, 8, 8))
        place.draft.mkdir()
        place.begin()
        place.write(0, [(0, x, torch.zeros(4, dtype=torch.long))])
        place.finish()
        with Image.open(tmp_path / "x" / "00000" / "00000002.png") as image:
            np.testing.assert_array_equal(np.array(image).transpose(2, 0, 1), to_bytes(x[2]).numpy())

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_picture_shows_all_images_row_by_row(self, tmp_path: Path, channels: int) -> None:
        x = torch.rand(5, channels, 8, 8) * 2 - 1
        place = output(tmp_path / "x.png", 5, (channels, 8, 8))
        place.check()
        place.draft.mkdir()
        place.write(0, [(0, x, torch.zeros(5, dtype=torch.long))])
        place.finish()
        with Image.open(tmp_path / "x.png") as image:
            seen = np.array(image).reshape(3, 34, 3, 34, channels)
        for number in range(5):
            square = seen[number // 3, 1:33:4, number % 3, 1:33:4].transpose(2, 0, 1)
            np.testing.assert_array_equal(square, to_bytes(x[number]).numpy())
        assert (seen[1, :, 2] == 255).all(), "a place without an image is white"
        with pytest.raises(UserError, match="a picture of 1,001 samples, and one shows 1,000 at most"):
            output(tmp_path / "x.png", 1001, (1, 8, 8)).check()

    @pytest.mark.usefixtures("drawn")
    def test_a_picture_of_points_shows_them_in_the_colors_of_their_generators(self, tmp_path: Path) -> None:
        x, ids = torch.randn(100, 2), torch.arange(100) % 2
        for name, shown in (("two", ids), ("one", torch.zeros_like(ids))):
            place = output(tmp_path / f"{name}.png", 100, (2,))
            place.check()
            place.draft.mkdir()
            place.write(0, [(0, x, shown)])
            place.finish()
        colors = {}
        for name in ("two", "one"):
            with Image.open(tmp_path / f"{name}.png") as image:
                pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
            colors[name] = np.bincount((pixels.max(1) - pixels.min(1) > 60) * (1 + pixels.argmax(1)), minlength=4)[1:]
        assert (colors["two"] > 100).sum() > (colors["one"] > 100).sum() >= 1

    @pytest.mark.parametrize("name", ["x.npy", "x.parquet", "x"])
    def test_parts_can_be_written_in_any_order_and_twice(self, images: Path, tmp_path: Path, name: str) -> None:
        contents = []
        for folder, parts in (("a", [0, 1]), ("b", [1, 0, 1])):
            (tmp_path / folder).mkdir()
            writer = Writer(SamplingJob(images, tmp_path / folder / name, 10_010, seed=0))
            writer.output.draft.mkdir()
            writer.output.begin()
            for part in parts:
                writer.write(part)
            writer.output.finish()
            shutil.rmtree(writer.output.draft)
            files = [path for path in sorted((tmp_path / folder).rglob("*")) if path.is_file()]
            contents.append([(path.relative_to(tmp_path / folder), sha256(path)) for path in files])
        assert contents[0] == contents[1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("-n", 0, "--out", "x.npy"), "the number of samples must be at least 1, got 0"),
            (("--seed", -1, "--out", "x.npy"), "the seed must be at least 0 and less than 2**63, got -1"),
            (("--seed", 2**63, "--out", "x.npy"), f"the seed must be at least 0 and less than 2**63, got {2**63}"),
            (("--workers", 0, "--out", "x.npy"), "--workers must be at least 1, got 0"),
            (
                ("--out", "x.csv"),
                "--out must end in .npy, .parquet or .png, or have no extension for a folder of images",
            ),
            (("--out", "s3://bucket/x.npy"), "--out s3:/bucket/x.npy: remote storage is not supported yet"),
            (("--out", "no/x.npy"), "there is no folder"),
            (("--out", "x.PNG", "-n", 1001), "would be a picture of 1,001 samples, and one shows 1,000 at most"),
            (("--out", "samples_v1.0"), "would be a folder of images, but this model's samples are of shape (2,)"),
            (("--out", "x"), "samples are of shape (2,): give a name that ends in .npy or .parquet"),
            (("--out", "there.parquet"), "exists already: remove it, or give another name"),
            (("--out", "folder.npy"), "is a folder"),
            (("-n", 10**15, "--out", "x.npy"), "samples take 1.6e+07 GB, and the disk has"),
        ],
    )
    def test_bad_input_is_told_before_any_work(
        self,
        points: Path,
        tmp_path: Path,
        sample: Callable[..., int],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[object, ...],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("there.parquet", "folder.npy"):
            (tmp_path / name).mkdir()
        assert sample(points, *arguments) == 2
        assert message in capsys.readouterr().err
        assert {path.name for path in tmp_path.iterdir()} == {"there.parquet", "folder.npy"}

    def test_a_disk_that_fills_up_leaves_nothing(
        self,
        points: Path,
        tmp_path: Path,
        sample: Callable[..., int],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        out = tmp_path / "x.npy"
        out.write_text("an older file")
        monkeypatch.setattr(Npy, "write", full)
        assert sample(points, "-n", 10, "--out", out) == 2
        assert f"--out {out} cannot be written: No space left on device" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
        assert out.read_text() == "an older file"

    def test_a_generator_that_is_not_there_is_refused_by_the_writer(self, points: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="there is no generator 3: this model has generators 0 to 2"):
            Writer(SamplingJob(points, tmp_path / "x.npy", 1, seed=0, generator=3))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "ray_jobs/sample.py", *map(str, arguments)]


def test_sigterm_leaves_nothing(points: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    run = start(command(points, "-n", 10**8, "--out", tmp_path / "x.npy"), environment)
    wait_until(lambda: list(tmp_path.glob(".x.npy.new/x.npy")), run)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate()
    assert run.returncode == 143, said
    assert "stopped; nothing is written to " in said
    assert not list(tmp_path.iterdir())


def test_two_at_once_are_refused_and_what_a_kill_leaves_is_cleared(
    points: Path,
    tmp_path: Path,
    environment: dict[str, str],
    sample: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "x.npy"
    run = start(command(points, "-n", 10**8, "--out", out), environment)
    wait_until(lambda: list(tmp_path.glob(".x.npy.new/x.npy")), run)
    assert sample(points, "-n", 10, "--out", out) == 2
    assert "another process is working on this run" in capsys.readouterr().err
    run.kill()
    run.communicate()
    assert (tmp_path / ".x.npy.new" / "x.npy").exists(), "the hidden draft; nothing has the name that was asked for"
    assert not out.exists()
    assert sample(points, "-n", 10, "--out", out) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "x_ids.npy"}


@pytest.mark.ray
def test_two_workers_one_of_them_killed_write_the_samples_of_one_process(
    images: Path, tmp_path: Path, environment: dict[str, str], sample: Callable[..., int]
) -> None:
    run = start(command(images, "-n", 40_500, "--workers", 2, "--out", tmp_path / "two.npy"), environment)
    wait_until(lambda: processes(environment, "ray::_Worker.do"), run)
    os.kill(processes(environment, "ray::_Worker.do")[0], signal.SIGKILL)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert "sample 40,500/40,500" in said
    assert_nothing_left(environment)
    assert sample(images, "-n", 40_500, "--out", tmp_path / "one.npy") == 0
    for ending in (".npy", "_ids.npy"):
        assert sha256(tmp_path / f"one{ending}") == sha256(tmp_path / f"two{ending}")


@pytest.mark.ray
def test_more_workers_than_there_is_room_for_are_refused(
    points: Path, tmp_path: Path, sample: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(points, "--workers", 4096, "--out", tmp_path / "x.npy") == 2
    assert "--workers 4096: this machine has room for " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
