"""Synthetic data: points lie where the pages say, the geometry is exact, bad keys are named."""

from __future__ import annotations

import math
from functools import reduce
from operator import or_
from typing import Annotated, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, create_model

from toposampler.config import Section, validate
from toposampler.data import DATA
from toposampler.data.base import DataConfig
from toposampler.data.circles import CirclesConfig
from toposampler.data.components import draw_components
from toposampler.data.digits import DigitsConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.geometry import Discs, Segments, Spheres
from toposampler.data.lines import LinesConfig
from toposampler.data.spheres import SpheresConfig
from toposampler.data.swiss_roll import FROM, HEIGHT, SCALE, TO, SwissRollConfig, spiral
from toposampler.errors import UserError

torch.set_num_threads(1)

Run = create_model("Run", __base__=Section, data=(Annotated[reduce(or_, DATA), Field(discriminator="name")], ...))
UNBALANCED = (0.7, 0.1, 0.1, 0.1)
SYNTHETIC = [
    LinesConfig(n=5000),
    LinesConfig(n=5000, weights=UNBALANCED),
    CirclesConfig(n=5000),
    SpheresConfig(n=5000, dimension=1, number=3, weights=(0.2, 0.3, 0.5)),
    SpheresConfig(n=5000),
    SpheresConfig(n=5000, dimension=4, radius=0.5, distance=1.5),
    GaussiansConfig(n=5000),
    GaussiansConfig(n=5000, layout="grid"),
    SwissRollConfig(n=5000),
]


@pytest.mark.parametrize("config", SYNTHETIC, ids=repr)
def test_points_reach_every_bin_of_their_own_component(config: DataConfig) -> None:
    data = config.load()
    assert data.manifold is not None
    assert data.labels is not None
    assert data.weights is not None
    own_bins = data.manifold.bins(data.x).gather(1, data.labels[:, None])
    assert own_bins.min() == 0
    assert own_bins.max() == data.manifold.n_bins - 1
    pairs = torch.cat((data.labels[:, None], own_bins), dim=1)
    assert len(pairs.unique(dim=0)) == len(data.weights) * data.manifold.n_bins


@pytest.mark.parametrize("config", SYNTHETIC[:6], ids=repr)
def test_points_lie_on_their_own_component_and_off_the_others(config: DataConfig) -> None:
    data = config.load()
    assert data.manifold is not None
    assert data.labels is not None
    near = data.manifold.distance(data.x) < 1e-6
    assert torch.equal(near, torch.nn.functional.one_hot(data.labels, near.shape[1]).bool())


@pytest.mark.parametrize(("layout", "n_modes", "sd"), [("ring", 8, 0.02), ("grid", 25, 0.05)])
def test_gaussians_have_their_layout_and_spread(layout: str, n_modes: int, sd: float) -> None:
    data = GaussiansConfig(layout=layout).load()
    assert isinstance(data.manifold, Discs)
    assert data.labels is not None
    offset = data.x - data.manifold.centers[data.labels]
    assert len(data.manifold.centers) == n_modes
    assert offset.std() == pytest.approx(sd, rel=0.02)
    assert data.manifold.radius == pytest.approx(3 * sd)
    inside = (data.manifold.distance(data.x).min(dim=1).values == 0).double().mean()
    assert inside == pytest.approx(1 - math.exp(-4.5), abs=0.002)


def test_gaussian_centers() -> None:
    ring = GaussiansConfig().centers()
    assert torch.allclose(ring.norm(dim=1), torch.tensor(2.0))
    assert torch.allclose(ring[2], torch.tensor([0.0, 2.0]), atol=1e-6)
    grid = GaussiansConfig(layout="grid").centers()
    assert sorted(map(tuple, grid.tolist())) == [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]


def test_lines_are_the_papers() -> None:
    data = LinesConfig(n=1000).load()
    assert data.labels is not None
    signs = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])[data.labels]
    assert torch.equal(data.x.sign(), signs)
    assert torch.allclose(data.x.abs().sum(dim=1), torch.tensor(1.0))
    assert data.x.abs().min() >= 0.25
    assert data.x.abs().max() <= 0.75


def test_distance_to_a_segment_includes_its_ends() -> None:
    segment = Segments(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), n_bins=4)
    x = torch.tensor([[1.0, 0.5], [-3.0, 4.0], [5.0, -4.0], [2.0, 0.0], [0.7, 0.0]])
    assert segment.distance(x)[:, 0].tolist() == [0.5, 5.0, 5.0, 0.0, 0.0]
    assert segment.bins(x)[:, 0].tolist() == [2, 0, 3, 3, 1]


def test_distance_to_a_circle_and_a_disc() -> None:
    x = torch.tensor([[3.0, 0.0], [0.0, 0.5], [-1.0, 0.0], [0.0, -3.0]])
    circle = Spheres(torch.zeros(1, 2), torch.ones(1), n_bins=4)
    disc = Discs(torch.zeros(1, 2), radius=1.0, n_bins=4)
    assert circle.distance(x)[:, 0].tolist() == [2.0, 0.5, 0.0, 2.0]
    assert disc.distance(x)[:, 0].tolist() == [2.0, 0.0, 0.0, 2.0]
    assert circle.bins(x)[:, 0].tolist() == disc.bins(x)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dimension", [1, 2, 3, 10, 100])
def test_the_bins_of_a_sphere_hold_equal_mass(dimension: int) -> None:
    data = SpheresConfig(dimension=dimension, number=1).load()
    assert data.manifold is not None
    counts = torch.bincount(data.manifold.bins(data.x)[:, 0], minlength=50).double()
    chi_square = ((counts - 1000).square() / 1000).sum()
    assert chi_square == pytest.approx(49, abs=4 * math.sqrt(2 * 49))  # its mean and four standard deviations
    assert len(counts) == data.manifold.n_bins == 50


def test_distance_to_spheres_in_space() -> None:
    spheres = Spheres(torch.tensor([[0.0, 0, 0], [10.0, 0, 0]]), torch.tensor([1.0, 2.0]))
    x = torch.tensor([[0.0, 3, 4], [0.0, 0, 0], [10.0, 0, 0], [8.0, 0, 0]])
    assert spheres.distance(x).T.tolist() == [[4.0, 1.0, 9.0, 7.0], [pytest.approx(125**0.5 - 2), 8.0, 2.0, 0.0]]
    assert spheres.bins(x).min() >= 0  # a center projects to no point, yet must have a bin
    assert spheres.bins(x).max() < 50


def test_a_line_of_spheres() -> None:
    data = SpheresConfig(number=3, distance=5, radius=2).load()
    assert isinstance(data.manifold, Spheres)
    assert data.manifold.centers.tolist() == [[-5, 0, 0], [0, 0, 0], [5, 0, 0]]
    assert data.manifold.radii.tolist() == [2, 2, 2]
    assert data.shape == (3,)


def test_moors_spheres() -> None:
    data = SpheresConfig(layout="moor", dimension=100, n=10_000).load()
    assert isinstance(data.manifold, Spheres)
    assert data.labels is not None
    assert data.shape == (101,)
    assert data.labels.bincount().tolist() == [500] * 10 + [5000]
    assert data.manifold.distance(data.x).gather(1, data.labels[:, None]).max() < 1e-4
    assert (data.manifold.distance(data.x) > 0.5).sum() == 10 * 10_000  # all the others are far
    inner = data.manifold.centers[:-1]
    assert inner.std() == pytest.approx(1, abs=0.1)
    assert data.manifold.centers[-1].abs().max() == 0
    assert data.manifold.radii.tolist() == [5] * 10 + [25]


def test_an_angle_just_below_zero_is_in_the_last_bin() -> None:
    assert Spheres(torch.zeros(1, 2), torch.ones(1)).bins(torch.tensor([[1.0, -1e-9]])).item() == 49


@settings(deadline=None)
@given(n=st.integers(2, 500), raw=st.lists(st.integers(0, 20), min_size=1, max_size=9).filter(sum), seed=st.integers(0))
def test_components_have_the_masses_asked_for(n: int, raw: list[int], seed: int) -> None:
    weights = tuple(value / sum(raw) for value in raw)
    generator = torch.Generator().manual_seed(seed % 2**32)
    labels, masses = draw_components(n, weights, len(weights), generator)
    counts = torch.bincount(labels, minlength=len(weights))
    assert len(labels) == n
    assert torch.equal(counts.double() / n, masses)
    assert (counts - n * torch.tensor(weights)).abs().max() < 1


def test_unbalanced_masses_are_exact_and_shuffled() -> None:
    data = LinesConfig(weights=UNBALANCED).load()
    assert data.weights is not None
    assert data.labels is not None
    assert data.weights.tolist() == list(UNBALANCED)
    assert data.labels[:5000].bincount()[0] == pytest.approx(3500, abs=200)


def test_data_depend_on_their_seed_alone() -> None:
    first, again, other = (LinesConfig(n=100, seed=seed).load().x for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_digits() -> None:
    data = DigitsConfig().load()
    assert data.x.shape == (1797, 1, 8, 8)
    assert data.x.dtype == torch.float32
    assert (data.x.min(), data.x.max()) == (-1, 1)
    assert data.weights is not None
    assert data.weights.tolist()[0] == pytest.approx(178 / 1797)
    assert data.manifold is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "lines", "weights": [0.5, 0.5, 0.5, 0.5]}, r"data\.weights: .*sum to 1.*with sum 2"),
        ({"name": "lines", "weights": [1.5, -0.5, 0, 0]}, r"data\.weights: .*non-negative"),
        ({"name": "lines", "weights": [0.5, 0.5]}, r"data\.weights: needs 4 weights.*got 2"),
        ({"name": "circles", "weights": [1.0]}, r"data\.weights: needs 2 weights.*got 1"),
        ({"name": "gaussians", "weights": [0.5, 0.5]}, r"data\.weights: needs 8 weights.*got 2"),
        ({"name": "gaussians", "layout": "grid", "side": 2, "weights": [1]}, r"data\.weights: needs 4 weights"),
        ({"name": "gaussians", "layout": "star", "weights": [1]}, r"data\.layout: .*'ring' or 'grid'.*'star'"),
        ({"name": "gaussians", "n_modes": 0, "weights": [1]}, r"data\.n_modes: .*greater than or equal to 1"),
        ({"name": "lines", "n": -1}, r"data\.n: .*greater than or equal to 2 \(got -1\)"),
        ({"name": "spheres", "weights": [1.0]}, r"data\.weights: needs 2 weights.*got 1"),
        ({"name": "spheres", "number": 3, "weights": [0.5, 0.5]}, r"data\.weights: needs 3 weights.*got 2"),
        ({"name": "spheres", "layout": "moor", "weights": [0.5, 0.5]}, r"data\.weights: needs 11 weights.*got 2"),
        ({"name": "spheres", "dimension": 0}, r"data\.dimension: .*greater than or equal to 1"),
        ({"name": "spheres", "distance": 2}, r"data: spheres 0 and 1 touch: .* 2 apart .* 1 and 1; raise distance"),
        ({"name": "spheres", "layout": "moor"}, r"data: spheres .* touch: .* 5 and .*; raise dimension"),
        ({"name": "gaussians", "sd": 0}, r"data\.sd: .*greater than 0"),
        ({"name": "folder", "path": "x", "size": 513}, r"data\.size: sides must be of 8 to 512 pixels \(got 513\)"),
        ({"name": "folder", "path": "x", "channels": 2}, r"data\.channels: .*1 or 3"),
        ({"name": "npy"}, r"data\.path: a value is required"),
        ({"name": "moons"}, r"data\.name: 'moons' is not known"),
    ],
)
def test_a_bad_key_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(Run, {"data": section})


def test_every_data_set_is_chosen_by_its_name() -> None:
    for config in DATA:
        name = config.model_fields["name"].default
        assert (
            type(
                validate(Run, {"data": {"name": name, **({"path": "x"} if "path" in config.model_fields else {})}}).data
            )
            is config
        )


def test_a_swiss_roll_s_distance_is_that_to_its_surface() -> None:
    roll = SwissRollConfig(n=500).load()
    assert roll.manifold is not None
    assert roll.manifold.distance(roll.x).max() < 2e-5
    angle = torch.linspace(FROM + 0.1, TO - 0.1, 50)
    flat = spiral(angle)
    tangent = spiral(angle + 1e-3) - spiral(angle - 1e-3)
    normal = torch.nn.functional.normalize(torch.stack((tangent[:, 1], -tangent[:, 0]), dim=1))
    off = flat + 0.25 * normal
    x = torch.stack((off[:, 0], torch.zeros(50), off[:, 1]), dim=1)
    torch.testing.assert_close(roll.manifold.distance(x), torch.full((50, 1), 0.25), rtol=0, atol=1e-3)
    above = torch.stack((flat[:, 0], torch.full((50,), HEIGHT / SCALE / 2 + 0.5), flat[:, 1]), dim=1)
    torch.testing.assert_close(roll.manifold.distance(above), torch.full((50, 1), 0.5), rtol=0, atol=1e-5)
    counts = torch.bincount(roll.manifold.bins(SwissRollConfig(n=50_000).load().x)[:, 0], minlength=50)
    assert (counts - 1000).abs().max() < 5 * math.sqrt(1000)
