"""Maps whose answer is known: similarities, a fold, a tear."""

from __future__ import annotations

import pytest
import torch

from toposampler.metrics.homeomorphism import bi_lipschitz, continuity, trustworthiness

torch.set_num_threads(1)

Z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))


def test_a_similarity_is_a_homeomorphism() -> None:
    rotation = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(1))).Q
    x = 3 * Z @ rotation.T + 1
    assert trustworthiness(Z, x) == continuity(Z, x) == 1
    assert bi_lipschitz(Z, x) == pytest.approx((3, 3, 3), rel=1e-3)


def test_a_linear_map_stretches_between_its_singular_values() -> None:
    smallest, median, largest = bi_lipschitz(Z, Z * torch.tensor([0.5, 4.0]))
    assert smallest == pytest.approx(0.5, rel=0.01)
    assert largest == pytest.approx(4, rel=0.01)
    assert 1 < median < 4


def test_a_fold_brings_together_what_was_apart() -> None:
    x = torch.stack((Z[:, 0].abs(), Z[:, 1]), dim=1)
    assert trustworthiness(Z, x) < 0.9
    assert continuity(Z, x) > 0.95
    smallest, _, largest = bi_lipschitz(Z, x)
    assert smallest < 0.05
    assert largest == pytest.approx(1, abs=1e-5)


def test_a_tear_parts_what_was_together() -> None:
    x = Z + 5 * Z.sign() * torch.tensor([1.0, 0.0])
    assert continuity(Z, x) < trustworthiness(Z, x)
    assert trustworthiness(Z, x) > 0.99
    smallest, _, largest = bi_lipschitz(Z, x)
    assert smallest == pytest.approx(1, abs=1e-4)
    assert largest > 50


def test_equal_latents_say_nothing() -> None:
    z, x = (torch.cat((cloud, cloud[:1] + shift)) for cloud, shift in ((Z, 0), (2 * Z, 1e-3)))
    assert bi_lipschitz(z, x) == pytest.approx((2, 2, 2), rel=0.1)
