"""Where generators of images start: mixtures, the continuous map to them, and the intensities of pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from toposampler.data.digits import DigitsConfig
from toposampler.priors.image_frames import ImageFrames, axes_that_hold
from toposampler.priors.rearrangement import mixture_quantile, rearranged
from toposampler.systems.component_gan import ComponentGANConfig

K, M, R = 2, 4, 3
Mixture = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    """Weights, means and factors of two mixtures; the second has three normals."""
    rng = torch.Generator().manual_seed(0)
    shares = torch.rand(K, M, generator=rng, dtype=torch.float64) + 0.1
    shares[1, 3] = 0
    shares /= shares.sum(dim=1, keepdim=True)
    means = 2 * torch.randn(K, M, R, generator=rng, dtype=torch.float64)
    root = torch.randn(K, M, R, R, generator=rng, dtype=torch.float64)
    factors = torch.linalg.cholesky(0.2 * root @ root.mT + 0.1 * torch.eye(R, dtype=torch.float64))
    means[1, 3], factors[1, 3] = means[1, 0], factors[1, 0]
    return shares, means, factors


def latents(n: int) -> Tensor:
    return torch.randn(n, R, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("k", range(K))
def test_latents_become_the_mixture(k: int, mixture: Mixture) -> None:
    """The density of what they become is the mixture's, sample by sample."""
    z = latents(40)
    shares, means, factors = (of[k : k + 1] for of in mixture)

    def one(z: Tensor) -> Tensor:
        return rearranged(z[None], torch.zeros(1, dtype=torch.long), shares, means, factors)[0]

    x = torch.stack([one(row) for row in z])
    jacobian = torch.func.vmap(torch.func.jacrev(one))(z)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(one))(z), jacobian)
    stretch = torch.linalg.slogdet(jacobian)
    assert (stretch.sign == 1).all(), "it keeps the order along each coordinate"
    normal = -(z.square().sum(dim=1) + R * math.log(2 * math.pi)) / 2
    there = shares[0] > 0
    density = MixtureSameFamily(
        Categorical(shares[0, there]), MultivariateNormal(means[0, there], scale_tril=factors[0, there])
    )
    torch.testing.assert_close(normal - stretch.logabsdet, density.log_prob(x), atol=1e-4, rtol=0)


def test_each_row_has_its_own_mixture_and_float32_is_exact_enough(mixture: Mixture) -> None:
    z, c = latents(200), torch.arange(200) % K
    x = rearranged(z, c, *mixture)
    for k in range(K):
        torch.testing.assert_close(rearranged(z[c == k], c[c == k], *mixture), x[c == k])
    single = rearranged(z.float(), c, *(of.float() for of in mixture))
    assert float((single - x).abs().median()) < 1e-5
    assert float((single - x).abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles_are_exact_in_both_tails_and_in_gaps(dtype: torch.dtype) -> None:
    level = torch.tensor([-4.5, -2, -0.3, 0, 0.3, 2, 4.5], dtype=dtype)
    shares, mean, sd = (torch.tensor(of, dtype=dtype).expand(7, 2) for of in ([0.5, 0.5], [-20.0, 20.0], [1.0, 0.1]))
    x = mixture_quantile(level, shares, mean, sd)
    assert (x.diff() > 0).all()
    assert float(x[0]) == pytest.approx(float(-20 + torch.special.ndtri(2 * torch.special.ndtr(level[0]))), abs=1e-3)
    assert float(x[-1]) == pytest.approx(
        float(20 - 0.1 * torch.special.ndtri(2 * torch.special.ndtr(level[0]))), abs=1e-3
    )
    assert -17 < float(x[3]) < 20, "the median is anywhere in the gap"
    one = mixture_quantile(level, shares[:, :1] * 2, mean[:, :1], sd[:, :1])
    torch.testing.assert_close(one, level - 20, atol=1e-5, rtol=0)


def test_one_normal_is_an_affine_map(mixture: Mixture) -> None:
    z, c = latents(10), torch.ones(10, dtype=torch.long)
    _, means, factors = mixture
    x = rearranged(z, c, torch.ones(K, 1, dtype=z.dtype), means[:, :1], factors[:, :1])
    torch.testing.assert_close(x, means[1, 0] + z @ factors[1, 0].T)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Images of eight digits and, as their part, whether they are below 5."""
    data = DigitsConfig().load()
    assert data.labels is not None
    return data.x, (data.labels < 5).long()


def test_samples_have_the_moments_and_the_intensities_of_the_images(digits: tuple[Tensor, Tensor]) -> None:
    x, labels = digits
    frames = ImageFrames.of_images(x, labels, 16, 0.1, 24)
    assert 2 <= frames.normals <= 24
    rng = torch.Generator().manual_seed(3)
    for k in range(2):
        c = torch.full((4000,), k)
        y = frames.fill(torch.randn(4000, 16, generator=rng, dtype=torch.float64), c)
        real = frames.whiten(x[labels == k].flatten(1).double(), torch.full((int((labels == k).sum()),), k))
        assert (y.mean(dim=0) - real.mean(dim=0)).abs().max() < 0.1
        torch.testing.assert_close(y.T.cov(), real.T.cov(), atol=0.2, rtol=0)
        made, theirs = frames.color(y, c), x[labels == k].double().flatten(1)
        assert made.min() >= theirs.min()
        assert made.max() <= theirs.max()
        for level in (0.1, 0.5, 0.6, 0.7, 0.9):
            assert float(made.quantile(level)) == pytest.approx(float(theirs.quantile(level)), abs=0.05)
    assert frames.in_words().endswith("normals in 16 principal coordinates of each component")


def test_a_mixture_describes_images_it_has_not_seen_better_than_one_normal(digits: tuple[Tensor, Tensor]) -> None:
    """So more than one is chosen; of few images one alone."""
    x, labels = digits
    assert int((ImageFrames.of_images(x, labels, 16, 0.1, 24).shares > 0).sum(dim=1).min()) > 1
    assert ImageFrames.of_images(x[:40], labels[:40] * 0, 16, 0.1, 24).normals == 1
    assert ImageFrames.of_images(x, labels, 16, 0.1, 1).normals == 1


def test_axes_that_hold_a_share_of_the_variance() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 4, generator=rng) * torch.tensor([2.0, 1, 1, 0.1])  # variances 4, 1, 1, .01
    x, labels = torch.cat([x, x + 100]), torch.arange(2).repeat_interleave(4000)
    assert [axes_that_hold(share, x, labels) for share in (0.5, 0.8, 0.95, 0.9999)] == [1, 2, 3, 4]


def test_a_system_of_images_starts_as_it_was_fitted(digits: tuple[Tensor, Tensor]) -> None:
    data = DigitsConfig().load()
    config = ComponentGANConfig(n_generators=2, game="never")
    prepared = config.prepare(data)
    assert prepared.config.latent.dim > 8, "as many as hold 90 % of the variance"
    told = prepared.report["in_words"]
    assert any("normals in" in line and line.endswith("kept as it is, as game is never") for line in told)
    system = prepared.build(data.shape)
    assert isinstance(system.frames, ImageFrames)
    z = torch.randn(50, system.latent.dim, generator=torch.Generator().manual_seed(0))
    c = torch.arange(50) % 2
    x = system.generate({"z": z, "c": c})
    assert x.shape == (50, *data.shape)
    torch.testing.assert_close(x, system.frames.color(system.frames.fill(z, c), c).view_as(x))
    plain = ComponentGANConfig(n_generators=2, game="never", start_normals=0).prepare(data)
    assert plain.config.latent.dim == 8
    assert "frames.shares" not in plain.start
