"""`toposampler.fit`: any data in, samples in their units out, and a run like any other on the disk."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import own_nets
import pandas as pd
import pyarrow as pa
import pytest
import torch

import toposampler
from toposampler.data.array import ArrayConfig
from toposampler.errors import UserError
from toposampler.fitted import Fitted
from toposampler.nn.custom import Networks
from toposampler.systems.dmgan_pl import FADE, SPENT
from toposampler.training import load_config, load_model
from toposampler.training.model import data_of

SCALES, OFFSETS = np.logspace(-3, 4, 5), np.array([0.0, -2.0, 50.0, 1e3, 1e6])
CENTERS = np.array([[4.0, 0, 0, 2, 0], [0, 4, 0, -2, 2], [-3, 0, 4, 0, -3]])
MASSES = (0.6, 0.3, 0.1)
RADIUS = 4.5
"""in standard deviations of a blob: 1 of 1,000 points of a normal distribution in five dimensions lies beyond"""
TINY = {"training__generator_steps": 4, "training__batch_size": 8, "training__evaluation_samples": 100}
TINY |= {"system__n_generators": 3}


def blobs(seed: int, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Three blobs in five columns of units from 1e-3 to 1e4, (n, 5), and which each point is of."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=MASSES)
    return (CENTERS[labels] + rng.normal(size=(n, 5))) * SCALES + OFFSETS, labels


Fit = Callable[..., Fitted]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`toposampler.fit` of four steps, into a folder of the test's own, without figures, most of its time."""
    monkeypatch.setattr("toposampler.training.run.draw_figures", lambda *_: None)
    return lambda data, **keys: toposampler.fit(data, output=tmp_path, **{**TINY, **keys})


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_every_blob_is_covered_with_its_mass_in_its_units(seed: int, tmp_path: Path) -> None:
    x, labels = blobs(seed)
    fitted = toposampler.fit(x, output=tmp_path, seed=seed)
    samples = (fitted.sample(20_000, seed=1) - OFFSETS) / SCALES
    distance = np.linalg.norm(samples[:, None] - CENTERS, axis=2)
    nearest = distance.argmin(axis=1)
    masses = np.bincount(nearest, minlength=3) / len(samples)
    assert np.abs(masses - np.bincount(labels) / len(labels)).max() < 0.02
    assert (distance.min(axis=1) > RADIUS).mean() < 0.03
    for k in range(3):
        spread = samples[nearest == k].std(axis=0)
        assert ((spread > 0.7) & (spread < 1.4)).all(), f"blob {k} has deviation 1 in each column, samples {spread}"


def test_a_fit_is_a_run_and_its_result_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, labels = blobs(0, 200)
    fitted = toposampler.fit(x, output=tmp_path, data__labels=labels, **TINY)
    assert (fitted.path / "figures" / "samples_by_generator.png").exists()
    assert fitted.path == tmp_path / "fit"
    samples = fitted.sample(50, seed=3)
    assert isinstance(samples, np.ndarray)
    assert samples.shape == (50, 5)
    assert (np.abs((samples - OFFSETS) / SCALES) < 100).all(), "in the units of the data"
    assert np.array_equal(samples, fitted.sample(50, seed=3))
    assert np.array_equal(samples, load_model(fitted.path).sample(50, seed=3)[0].numpy())
    assert np.array_equal(toposampler.load(fitted.path).sample(5)[0].numpy(), fitted.sample(5))
    assert fitted.prior is not None
    assert fitted.prior.sum() == pytest.approx(1)
    assert {"mass_tv_nn1", "coverage_k5_min"} <= fitted.metrics.keys()
    text = repr(fitted)
    assert re.match(r"component_gan fitted to 200 points in 5 dimensions: 4 generator steps, \d+ s\n", text)
    assert re.search(r"generators  3 of 3 active, with masses \d: \d+\.\d%, ", text)
    assert re.search(r"coverage    \d+\.\d% of the data", text)
    assert text.endswith(f"folder      {fitted.path}")
    shown = capsys.readouterr().err
    assert "column 4: " in shown
    assert "step 4/4" in shown
    config = load_config(fitted.path / "config.yaml")
    dataset = data_of(config, fitted.model.data)  # evaluation and resuming read what was kept
    assert dataset.labels is not None
    assert dataset.labels.tolist() == labels.tolist()


def test_nothing_is_overwritten_and_a_name_resumes(fit: Fit) -> None:
    x, _ = blobs(0, 60)
    assert [fit(x).path.name, fit(x).path.name] == ["fit", "fit-2"]
    named = fit(x, name="mine")
    again = fit(x, name="mine")
    assert again.result["generator_steps"] == named.result["generator_steps"]
    assert np.array_equal(again.sample(5), named.sample(5))
    with pytest.raises(UserError, match=r"mine holds a run on other data: give another name"):
        fit(x + 1, name="mine")
    with pytest.raises(UserError, match=r"seed: 0 -> 1"):
        fit(x, name="mine", seed=1)
    assert np.array_equal(load_model(named.path).sample(5)[0].numpy(), named.sample(5))


def test_tables_come_back_as_tables(fit: Fit) -> None:
    frame = pd.DataFrame(blobs(0, 60)[0], columns=list("abcde"))
    samples = fit(frame).sample(7)
    assert isinstance(samples, pd.DataFrame)
    assert list(samples.columns) == list("abcde")
    labeled = frame.assign(kind=np.where(frame["a"] > 0, "high", "low"))
    fitted = fit(pa.Table.from_pandas(labeled), data__labels="kind")
    assert isinstance(fitted.sample(7), pa.Table)
    assert fitted.sample(7).column_names == list("abcde")
    assert "mass_tv_nn1" in fitted.metrics


def test_paths_are_read_where_they_lie(fit: Fit, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(0, 60)[0])
    fitted = fit(tmp_path / "x.npy")
    assert load_config(fitted.path / "config.yaml").data.model_dump()["path"] == tmp_path / "x.npy"
    assert not (fitted.path / "data.npz").exists()
    assert fitted.sample(3).shape == (3, 5)


@pytest.mark.parametrize("system", ["wgan_gp", "dmgan"])
def test_other_systems_and_images(fit: Fit, system: str) -> None:
    images = torch.randint(0, 256, (20, 8, 8), dtype=torch.uint8)
    keys = {"system__n_generators": 3} if system == "dmgan" else {}
    fitted = toposampler.fit(
        images, system, output=fit(images).path.parent, **{k: v for k, v in TINY.items() if "system" not in k}, **keys
    )
    assert fitted.sample(2).shape == (2, 1, 8, 8)
    assert (fitted.prior is None) == (system == "wgan_gp")
    assert repr(fitted).startswith(f"{system} fitted to 20 images of 8 x 8 pixels, gray")


def test_a_schedule_fits_the_length_of_the_run(fit: Fit) -> None:
    def decay(**keys: Any) -> float:
        prior: Any = fit(blobs(0, 60)[0], system="dmgan_pl", **keys).model.config.system
        return prior.prior.entropy_decay

    assert decay(training__generator_steps=5) == pytest.approx((SPENT / 1000) ** (1 / (FADE * 5)))
    assert decay(training__generator_steps=5, system__prior__entropy_decay=0.9) == 0.9
    assert decay(**{"system.prior": {"entropy_decay": 0.8}}) == 0.8


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"training__generator_stepz": 3}, "training.generator_stepz: unknown key. Did you mean 'generator_steps'"),
        ({"system": "gmgan"}, "system.name: 'gmgan' is not known"),
        (
            {"data__labels": "kind"},
            r"data\.labels 'kind' is the name of a column, and data of type ndarray has no names",
        ),
        ({"data__labels": [1, 2]}, r"labels must hold 60 integers, one per sample, found shape \(2,\)"),
        ({"seed": -1}, "seed: "),
        ({"seeds": 2}, "seeds: fit returns one model; call it for each seed"),
    ],
)
def test_bad_keys_are_refused_before_anything_is_made(fit: Fit, tmp_path: Path, keys: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(blobs(0, 60)[0], **keys)
    assert not list(tmp_path.iterdir())


def test_bad_data_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for data, message in (
        ([["a"]], "must hold integers or floats"),
        (np.zeros((1, 2)), "data of type ndarray holds 1 samples; at least 2"),
        (tmp_path / "absent.csv", r"absent\.csv does not exist"),
        (7, "data of type int is not understood"),
    ):
        with pytest.raises(UserError, match=message):
            toposampler.fit(data, output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_data_that_were_not_kept_are_named_in_one_sentence(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposampler.data.array.KEPT", 10)
    fitted = fit(blobs(0, 60)[0])
    assert fitted.sample(3).shape == (3, 5)
    with pytest.raises(UserError, match=r"were given to toposampler\.fit as a Python object, and objects of more than"):
        ArrayConfig(path=fitted.path / "data.npz").load()


def test_a_fit_needs_neither_ray_nor_mlflow_nor_pandas(tmp_path: Path) -> None:
    code = """
        import sys
        for name in ("ray", "mlflow", "pandas", "pyarrow", "optuna"):
            sys.modules[name] = None
        import numpy, toposampler
        x = numpy.random.default_rng(0).normal(size=(50, 2))
        fitted = toposampler.fit(x, output=sys.argv[1], training__generator_steps=2, training__evaluation_samples=100)
        assert fitted.sample(5).shape == (5, 2)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=170)


@pytest.mark.parametrize("named", [True, False])
def test_networks_of_one_s_own(named: bool, fit: Fit) -> None:
    """By name or as objects; the result samples without being given them again, the run's folder does not."""
    own = ("own_nets:generator", "own_nets:trunk") if named else (own_nets.generator, own_nets.trunk)
    points = np.random.default_rng(0).normal(size=(60, 3))
    fitted = fit(points, system="dmgan_pl", generator=own[0], critic=own[1])
    assert fitted.sample(20).shape == (20, 3)
    with pytest.raises(UserError, match="needs networks of its own"):
        toposampler.load(fitted.path)
    again = toposampler.load(fitted.path, networks=Networks(own_nets.generator, own_nets.trunk))
    assert np.array_equal(again.sample(20)[0].numpy(), fitted.sample(20))
