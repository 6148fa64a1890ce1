"""Points in units of any size: trained on as standardized, and back in their own units wherever they leave a model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from toposampler.data import Dataset
from toposampler.data.arrays import dataset_of
from toposampler.data.lines import LinesConfig
from toposampler.data.npy import NpyConfig
from toposampler.data.transform import standardization_from, standardization_of
from toposampler.errors import UserError
from toposampler.evaluation.job import EvaluationJob, Evaluator, Subject, Task
from toposampler.metrics.evaluate import evaluate
from toposampler.rejection import rejection
from toposampler.sampling.output import output
from toposampler.sampling.writing import SamplingJob, Writer
from toposampler.training import RunConfig, load_config, load_model, train
from toposampler.training.checkpoint import checkpoints
from toposampler.training.config import run_folder
from toposampler.training.model import save_model

MakeConfig = Callable[..., RunConfig]
SCALES, OFFSETS = np.array([1e-3, 1.0, 1e4]), np.array([5.0, 0.0, -2e4])
X = np.random.default_rng(0).normal(size=(300, 3)) * SCALES + OFFSETS


@given(st.integers(-290, 290), st.integers(-290, 290), st.integers(0, 2**32 - 1))
def test_columns_of_any_scale_and_offset_get_mean_0_and_deviation_1(scale: int, offset: int, seed: int) -> None:
    offset = min(offset, scale + 11)  # beyond, float64 itself cannot tell the values apart
    x = np.random.default_rng(seed).normal(size=(200, 2)) * 10.0**scale + 10.0**offset
    transform = standardization_of(x)
    z = transform.from_units(torch.from_numpy(x))
    assert z.dtype == torch.float32
    assert torch.allclose(z.mean(dim=0), torch.zeros(2), atol=1e-3)
    assert torch.allclose(z.std(dim=0, correction=0), torch.ones(2), atol=1e-3)
    back = transform.to_units(z).double().numpy()
    assert np.abs(back - x).max() <= 2e-5 * 10.0**scale, "a millionth of a standard deviation, more or less"


def test_a_constant_column_comes_back_exactly() -> None:
    x = np.stack((np.full(50, 0.1), np.arange(50.0), np.full(50, 0.1) + 1e-17, np.zeros(50)), axis=1)
    transform = standardization_of(x)
    assert (transform.scale == 0).tolist() == [True, False, True, True]
    z = transform.from_units(torch.from_numpy(x))
    assert (z[:, [0, 2, 3]] == 0).all()
    generated = transform.to_units(torch.randn(9, 4)).double()
    assert torch.equal(generated[:, [0, 3]], torch.tensor([0.1, 0.0]).to(transform.dtype).double().expand(9, 2))


def test_float64_that_float32_merges_is_told_apart_and_comes_back_as_float64() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=(500, 2))
    assert len(np.unique(x.astype(np.float32)[:, 0])) < 10
    data = dataset_of("it", x, standardize=True)
    assert len(data.x[:, 0].unique()) == 500
    units = data.to_units(data.x)
    assert units.dtype == torch.float64
    assert np.abs(units.numpy() - x).max() < 1e-6
    with pytest.raises(UserError, match=r"float32.* cannot tell the values of column 0 apart.*data\.standardize true"):
        dataset_of("it", x)


@pytest.mark.parametrize(
    ("x", "warning"),
    [
        (1e6 * X[:, 1:2], r"column 0 has mean .* and standard deviation 9\.\d+e\+05.*data\.standardize true"),
        (1e-6 * X[:, 1:2], r"column 0 has mean .* and standard deviation 9\.\d+e-07"),
        (1e4 + X[:, 1:2], r"column 0 has mean 1e\+04 and standard deviation 0\.9"),
        (np.stack((X[:, 1], np.ones(300)), axis=1), "column 1 has mean 1 and standard deviation 0"),
        (np.ones((300, 2)), "all points are equal"),
    ],
)
def test_points_far_from_unit_scale_are_warned_of_where_they_are_not_standardized(x: np.ndarray, warning: str) -> None:
    (note,) = dataset_of("it", x).notes
    assert note.startswith("warning: it")
    assert re.search(warning, note)


def test_points_of_unit_scale_and_images_are_not_warned_of() -> None:
    assert dataset_of("it", X[:, 1:2]).notes == ()
    images = dataset_of("it", np.full((3, 8, 8), 200, dtype=np.uint8), standardize=True)
    assert images.notes == ()
    assert images.transform is None, "images are never standardized"


def test_standardizing_changes_no_digest(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.arange(300) % 3)
    for labels in (None, tmp_path / "y.npy"):
        plain, standard = (
            NpyConfig(path=tmp_path / "x.npy", labels=labels, standardize=s).load() for s in (False, True)
        )
        assert plain.digest() == standard.digest() == Dataset(plain.x, plain.labels).digest()
    assert LinesConfig(n=50).load().digest() == LinesConfig(n=50, standardize=True).load().digest()
    big = 1e9 + np.arange(20.0).reshape(10, 2) / 64
    first, second = (dataset_of("it", x, standardize=True).digest() for x in (big, big + 1 / 64))
    assert first != second, "where float32 merges the points, the digest is that of float64"


def test_distances_are_in_the_users_units_and_shares_are_not_changed() -> None:
    rng = np.random.default_rng(1)
    blobs = rng.normal(size=(400, 2)) + 8 * (np.arange(400) % 2)[:, None]
    near = torch.from_numpy(blobs + 0.3 * rng.normal(size=blobs.shape))
    labels = np.arange(400) % 2
    of = {
        k: evaluate(dataset_of("it", k * blobs, labels, standardize=True), k * near, None, None, 0) for k in (1, 1000)
    }
    plain = evaluate(dataset_of("it", blobs, labels), near, None, None, 0)
    for name, value in plain.items():
        power = 0.5 if name.startswith("energy") else float(name.startswith(("sliced", "diagram", "mtop")))
        assert of[1000][name] == pytest.approx(of[1][name] * 1000**power, rel=1e-3, abs=1e-6), name
        if power:
            assert of[1][name] == pytest.approx(value, rel=1e-3)


def test_a_column_of_small_numbers_counts_beside_one_of_large() -> None:
    blobs = np.random.default_rng(0).normal(size=(400, 2)) * [1e-3, 1e3]
    data = dataset_of("it", blobs, standardize=True)
    wrong = torch.from_numpy(blobs.copy())
    wrong[:, 0] += 0.1  # a hundred standard deviations
    assert evaluate(data, torch.from_numpy(blobs), None, None, 0)["off_support_nn99"] == 0
    assert evaluate(data, wrong, None, None, 0)["off_support_nn99"] == 1


def test_synthetic_points_that_are_standardized_are_judged_in_their_own_units() -> None:
    data = LinesConfig(n=400, standardize=True).load()
    scores = evaluate(data, data.to_units(data.x), None, None, 0)
    assert scores["off_manifold_0.05"] == 0
    assert scores["jsd_nats"] == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of DMGAN-PL on points of three units, and beside it the data."""
    folder = tmp_path_factory.mktemp("units")
    np.save(folder / "x.npy", X)
    content = {
        "name": "run",
        "output": str(folder),
        "data": {"name": "npy", "path": str(folder / "x.npy")},
        "system": {"name": "dmgan_pl", "n_generators": 3},
        "training": {"batch_size": 16, "generator_steps": 40, "evaluate_every": 20, "evaluation_samples": 200},
    }
    content["training"] |= {"log_every": 20, "checkpoint_every": 20}
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    train(load_config(folder / "run.yaml"))
    return folder / "run"


def in_units(samples: Any) -> bool:
    """Whether samples of the run lie about where the data do, in every column."""
    z = (np.asarray(samples, dtype=np.float64) - OFFSETS) / SCALES
    return bool(np.abs(z).max() < 30 and (z.std(axis=0) > 1e-3).all())


def test_samples_of_a_run_and_of_its_model_are_in_the_users_units(run: Path, tmp_path: Path) -> None:
    with np.load(run / "samples.npz") as saved:
        assert in_units(saved["samples"])
    model = load_model(run)
    samples, _ = model.sample(300)
    assert in_units(samples)
    assert model.dtype == samples.dtype == torch.float64, "a mean of 5,000 standard deviations is too much for float32"
    save_model(run, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(again.sample(300)[0], samples)
    assert torch.equal(again.transform.scale, model.transform.scale)  # type: ignore[union-attr]


@pytest.mark.parametrize(("method", "keep"), [("jacobian", 0.8), ("density", 0.8), ("critic", None)])
def test_samples_of_rejection_are_in_the_users_units(run: Path, method: str, keep: float | None) -> None:
    sampler = rejection(method, load_model(run), keep, None)
    assert sampler is not None
    assert in_units(sampler.sample(100)[0])
    assert in_units(sampler.draw(100).samples)


@pytest.mark.parametrize("name", ["x.npy", "x.parquet"])
def test_files_of_samples_are_in_the_users_units(run: Path, tmp_path: Path, name: str) -> None:
    writer = Writer(SamplingJob(run, tmp_path / name, 200, 0))
    writer.output.draft.mkdir()
    writer.output.begin()
    writer.write(0)
    writer.output.finish()
    if name == "x.npy":
        found = np.load(tmp_path / name)
    else:
        import pyarrow.parquet as pq

        found = pq.read_table(tmp_path / name)["sample"].combine_chunks().to_numpy_ndarray()
    assert np.array_equal(found, load_model(run).sample(200)[0].numpy())
    assert found.dtype == np.float64
    assert output(tmp_path / "y.npy", 10, (3,)).bytes_per_sample() == 20


def test_an_evaluation_of_the_run_is_in_the_users_units(run: Path) -> None:
    model = load_model(run)
    subjects = (Subject("real"), Subject("run", run), Subject("run", run, "jacobian", 0.9))
    job = EvaluationJob(model.config, model.data, subjects, 100, 1, 0, run / "cache", 0.9)
    evaluator = Evaluator(job)
    real, fake, kept = (evaluator.evaluate(Task(i, 0))[1].metrics for i in range(3))
    assert real["wasserstein_2_100"] < fake["wasserstein_2_100"] < 1e5
    assert real["wasserstein_2_100"] > 100, "in the units of the third column"
    assert real["off_support_nn99"] < 0.1
    assert kept["energy_distance_root"] < 1e3


def test_mlflow_serves_the_users_units(run: Path, tmp_path: Path) -> None:
    from toposampler.tracking.pyfunc import Sampler

    save_model(run, tmp_path / "model")
    served = Sampler(tmp_path / "model").predict(None, {"n": 50, "seed": 3})
    assert np.array_equal(served, load_model(run).sample(50, seed=3)[0].numpy())


def test_a_run_is_resumed_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    config = load_config(run.parent / "run.yaml", ["--output", str(tmp_path)])

    class Halted(Exception):  # noqa: N818
        pass

    def halt(step: int, _: Path) -> None:
        if step == 20:
            raise Halted

    with pytest.raises(Halted):
        train(config, on_checkpoint=halt)
    train(config)
    assert torch.equal(load_model(tmp_path / "run").sample(50)[0], load_model(run).sample(50)[0])


def as_stored_before(folder: Path) -> None:
    """Take out of the run in `folder` what was not stored before points were standardized."""
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    del content["data"]["standardize"], content["data"]["key"]
    path.write_text(yaml.safe_dump(content))
    for file in checkpoints(folder / "checkpoints"):
        state = torch.load(file, weights_only=True)
        del state["transform"], state["config"]["data"]["standardize"], state["config"]["data"]["key"]
        torch.save(state, file)


def test_a_run_begun_before_the_key_goes_on_as_it_was(run: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    path = run.parent / "run.yaml"
    arguments = ["--output", str(tmp_path)]
    train(load_config(path, [*arguments, "--data.standardize", "false"]))
    before = load_model(tmp_path / "run").sample(50)[0]
    assert not in_units(before), "a short run that does not standardize is far from such data"
    as_stored_before(tmp_path / "run")
    assert torch.equal(load_model(tmp_path / "run").sample(50)[0], before)
    newest = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    newest.unlink()
    config = load_config(path, arguments)  # the command that it was begun with
    assert config.data.model_dump()["standardize"] is False
    train(config)
    assert torch.equal(load_model(tmp_path / "run").sample(50)[0], before)
    assert "standardize: false" in (run_folder(config) / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"data\.standardize: False -> True"):
        train(load_config(path, [*arguments, "--data.standardize", "true"]))


def test_a_stored_transform_that_is_none_is_refused() -> None:
    good = {"mean": torch.zeros(2, dtype=torch.float64), "scale": torch.ones(2, dtype=torch.float64)}
    assert standardization_from(good) is not None
    for bad in (
        {"mean": torch.zeros(2)},
        {"scale": -good["scale"]},
        {"mean": good["mean"] / 0},
        {"scale": good["mean"][:1]},
    ):
        with pytest.raises(ValueError, match="transform: mean and scale"):
            standardization_from({**good, **bad})
