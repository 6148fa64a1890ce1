"""Samples of some steps of a training, for the slider of its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toposampler.training import RunConfig, train
from toposampler.training.config import run_folder
from toposampler.training.snapshots import APART, NUMBERS, POINTS, read_snapshots, snapshot_steps

MakeConfig = Callable[..., RunConfig]


def files(config: RunConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_folder(config) / "snapshots").iterdir()}


@pytest.mark.parametrize("total", [1, 20, 149, 1500, 13_333, 10**6])
@pytest.mark.parametrize("most", [1, 2, 3, 36, 100])
def test_steps_are_few_and_reach_from_the_first_to_the_last(total: int, most: int) -> None:
    steps = snapshot_steps(total, most)
    assert len(steps) <= min(most, 2 + total // APART)
    assert max(steps) == total
    assert (min(steps) == 0) == (most > 1)
    assert snapshot_steps(total, 0) == frozenset()


def test_early_steps_are_closer_together() -> None:
    gaps = np.diff(sorted(snapshot_steps(13_333, 36)))
    assert len(gaps) >= 30
    assert gaps[:8].max() < gaps[-8:].min()


def test_a_run_keeps_samples_of_the_same_latents(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", training__generator_steps=120, training__evaluate_every=120)
    train(config, progress=False)
    first, *_, last = found = read_snapshots(run_folder(config), 36)
    assert [one.step for one in found] == sorted(snapshot_steps(120, 36)) == [0, 1, 60, 120]
    assert first.samples is not None
    assert last.samples is not None
    assert first.samples.shape == last.samples.shape == (POINTS, 2)
    assert not np.array_equal(first.samples, last.samples)
    assert last.prior is not None
    assert last.prior.sum() == pytest.approx(1)
    with np.load(run_folder(config) / "samples.npz") as end:  # of the same seed: its first samples
        assert np.allclose(last.samples[:100], end["samples"][:100], atol=1e-5)
        assert np.array_equal(last.generators[:100], end["generators"][:100])
    assert [one.step for one in read_snapshots(run_folder(config), 2)] == [0, 120]


def test_a_stopped_run_has_the_snapshots_of_one_that_was_not(make_config: MakeConfig) -> None:
    length = {"training__generator_steps": 200, "training__evaluate_every": 200, "training__checkpoint_every": 30}
    whole, stopped = (make_config("dmgan_pl", name=name, **length) for name in ("whole", "stopped"))
    train(whole, progress=False)

    class StopError(Exception):
        pass

    def stop(step: int, path: Path) -> None:
        if step == 120:
            raise StopError

    with pytest.raises(StopError):
        train(stopped, stop, progress=False)
    later = run_folder(stopped) / "snapshots" / "step_00000130.npz"  # of a run killed after its checkpoint
    later.write_bytes(b"of steps that are done again")
    train(stopped, progress=False)
    assert files(stopped) == files(whole)
    assert len(files(whole)) == len(snapshot_steps(200, 36))


def test_none_are_kept_where_none_are_wanted_nor_of_several_seeds(make_config: MakeConfig) -> None:
    without = make_config("wgan_gp", training__snapshots=0)
    train(without, progress=False)
    assert not (run_folder(without) / "snapshots").exists()
    several = make_config("wgan_gp", name="several", seeds=2)
    train(several, progress=False)
    assert not list(run_folder(several).rglob("snapshots"))


def test_images_are_grids_with_a_row_for_each_generator(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", data={"name": "digits"}, system__n_generators=3)
    train(config, progress=False)
    last = read_snapshots(run_folder(config), 36)[-1]
    assert last.grid is not None
    assert last.grid.shape == (3, 8, 1, 8, 8)
    assert last.grid.dtype == np.uint8
    assert last.generators.tolist() == [0, 1, 2]


def test_points_of_many_dimensions_are_fewer(make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 400)).astype(np.float32))
    config = make_config("wgan_gp", data={"name": "npy", "path": str(tmp_path / "x.npy")})
    train(config, progress=False)
    (run_folder(config) / "snapshots" / "step_00000030.npz").write_bytes(b"damaged")
    *_, last = read_snapshots(run_folder(config), 36)
    assert last.step == 20
    assert last.samples is not None
    assert last.samples.shape == (NUMBERS // 400, 400)
