"""Latents and generator ids are drawn from what they should be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.priors.latent import LatentConfig
from toposampler.priors.mixture import MixturePrior, draw_generators


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda p: sum(p) > 0.1), st.integers(1, 64))
def test_systematic_counts_are_within_one_of_their_mean(weights: list[float], n: int) -> None:
    p = torch.tensor(weights, dtype=torch.float64)
    p /= p.sum()
    for row in draw_generators(p, (3, n), "systematic", rng()):
        counts = torch.bincount(row, minlength=len(p))
        assert (counts - n * p).abs().max() < 1 + 1e-9


@pytest.mark.parametrize("draw", ["systematic", "random"])
def test_counts_are_right_in_the_mean(draw: str) -> None:
    p = torch.tensor([0.7, 0.05, 0.0, 0.25])
    ids = draw_generators(p, (4000, 8), draw, rng())  # type: ignore[arg-type]
    share = torch.bincount(ids.flatten(), minlength=4) / ids.numel()
    assert (share - p).abs().max() < 4 * (0.7 * 0.3 / ids.numel()) ** 0.5  # four standard deviations


def test_a_generator_without_mass_is_never_drawn_for_a_rounding_error() -> None:
    p = torch.tensor([0.5, 0.499, 0.0])  # sums are rounded, here by much
    ids = draw_generators(p, (1000, 64), "systematic", rng())
    assert ids.unique().tolist() == [0, 1]


def test_random_counts_vary_more_than_systematic_ones() -> None:
    p = torch.full((4,), 0.25)
    spread = {
        draw: torch.stack([torch.bincount(row, minlength=4) for row in draw_generators(p, (500, 32), draw, rng())])
        .double()
        .std(0)
        for draw in ("systematic", "random")
    }
    assert spread["systematic"].max() < 0.1
    assert (spread["random"] - (32 * 0.25 * 0.75) ** 0.5).abs().max() < 0.4


def test_uniform_and_normal_latents() -> None:
    uniform = LatentConfig(kind="uniform", dim=3).draw((20_000,), rng())
    assert uniform.shape == (20_000, 3)
    assert uniform.abs().max() <= 1
    assert uniform.std(0) == pytest.approx([3**-0.5] * 3, abs=0.01)
    normal = LatentConfig(kind="normal", dim=2).draw((5, 4000), rng())
    assert normal.shape == (5, 4000, 2)
    assert float(normal.std()) == pytest.approx(1, abs=0.02)


def test_latents_on_a_sphere() -> None:
    z = LatentConfig(kind="sphere", dim=5).draw((4, 5000), rng())
    assert z.shape == (4, 5000, 5)
    assert torch.allclose(z.norm(dim=-1), torch.tensor(5**0.5))
    assert z.mean((0, 1)) == pytest.approx([0] * 5, abs=0.03)
    assert z.flatten(0, 1).T.cov() == pytest.approx(torch.eye(5).numpy(), abs=0.03)


@pytest.mark.parametrize(("components", "dim"), [(2, 1), (2, 3), (3, 2), (5, 4)])
def test_a_mixture_of_normals(components: int, dim: int) -> None:
    config = LatentConfig(kind="mixture", components=components, separation=20, dim=dim)
    z = config.draw((4, 10_000), rng()).flatten(0, 1)
    assert z.shape == (40_000, dim)
    turns = torch.atan2(z[:, 1], z[:, 0]) / (2 * torch.pi) if dim > 1 else (z[:, 0] < 0) / 2
    nearest = (turns * components).round().long() % components
    assert torch.bincount(nearest) / 40_000 == pytest.approx([1 / components] * components, abs=0.01)
    means = torch.stack([z[nearest == k].mean(0) for k in range(components)])
    assert (means - means.roll(1, 0)).norm(dim=1) == pytest.approx([20] * components, abs=0.1)
    assert means.mean(0) == pytest.approx([0] * dim, abs=0.1)
    assert (z - means[nearest]).std(0) == pytest.approx([1] * dim, abs=0.02)


@pytest.mark.parametrize("kind", ["uniform", "normal", "sphere", "mixture"])
def test_latents_depend_on_their_generator_alone(kind: str) -> None:
    config = validate(LatentConfig, {"kind": kind, "dim": 3})
    before = torch.get_rng_state()
    first, again, other = (config.draw((7,), rng(seed), torch.float64) for seed in (1, 1, 2))
    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_ring_of_means_needs_two_dimensions() -> None:
    with pytest.raises(UserError, match="3 components lie on a ring: dim must be at least 2"):
        validate(LatentConfig, {"kind": "mixture", "components": 3, "dim": 1})


def test_the_learned_prior_starts_uniform() -> None:
    assert torch.allclose(MixturePrior(7).log_probabilities().exp(), torch.full((7,), 1 / 7))
