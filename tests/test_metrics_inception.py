"""Inception's features: the pools that differ from torchvision's, files that are refused, and the FID of a suite."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.data import Dataset
from toposampler.data.digits import DigitsConfig
from toposampler.errors import UserError
from toposampler.evaluation.halves import halves
from toposampler.evaluation.suite import Suite
from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.inception import Inception, load_inception


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random weights with the names and shapes of the published ones."""
    torch.manual_seed(0)
    from torchvision.models import inception_v3  # here: its import warns, which `Inception` keeps from the user

    state = inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    return {k: torch.nn.init.kaiming_normal_(x) if x.dim() == 4 else x for k, x in state.items()}


@pytest.fixture(scope="module")
def inception(weights: dict[str, Tensor]) -> Inception:
    return Inception(weights)


def test_averages_leave_the_padding_out(inception: Inception) -> None:
    """A constant image stays constant in the branch behind an average pool; torchvision's darkens at the edges."""
    block = inception.network.Mixed_5b
    with torch.no_grad():
        pooled = block(torch.ones(1, 192, 5, 5))[:, -32:]
    assert pooled.std(dim=(2, 3)).max() < 1e-6
    assert pooled.std() > 0


def test_the_last_block_takes_a_maximum(inception: Inception) -> None:
    block, x = inception.network.Mixed_7c, torch.rand(1, 2048, 8, 8)
    with torch.no_grad():
        expected = block.branch_pool(F.max_pool2d(x, 3, 1, 1))
        assert torch.equal(block(x)[:, -192:], expected)


def test_features_are_of_single_images_in_color(inception: Inception) -> None:
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    features = inception.features(x, batch=2)
    assert features.shape == (3, 2048)
    assert torch.allclose(features[2:], inception.features(x[2:].expand(-1, 3, -1, -1)), atol=1e-5)
    resized = F.interpolate(x[:1], (299, 299), mode="bilinear", align_corners=False)
    assert torch.allclose(features[:1], inception.features(resized), atol=1e-5)
    assert not torch.allclose(features[0], features[1], rtol=0.01)


def test_a_file_is_taken_by_its_hash_and_runs_no_code(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    class Command:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    def saved(content: object) -> tuple[Path, str]:
        torch.save(content, tmp_path / "file.pth")
        return tmp_path / "file.pth", hashlib.sha256((tmp_path / "file.pth").read_bytes()).hexdigest()

    assert load_inception(*saved(weights)).network.fc(torch.ones(1)) == 1
    file, found = saved({"fc.bias": torch.zeros(3)})
    with pytest.raises(UserError, match=f"has SHA-256 {found}, not 0000"):
        load_inception(file, 64 * "0")
    with pytest.raises(UserError, match="not those of the FID's Inception: Missing key"):
        load_inception(file, found.upper())
    with pytest.raises(UserError, match="holds a list, not a dictionary of weights"):
        load_inception(*saved([1]))
    with pytest.raises(UserError, match="holds no weights that torch reads"):
        load_inception(*saved(Command()))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match=r"none\.pth cannot be read: No such file"):
        load_inception(tmp_path / "none.pth", found)


def test_a_suite_has_the_fid_of_images_without_labels() -> None:
    class Pixels(Inception):
        def __init__(self) -> None:
            pass

        def features(self, x: Tensor, batch: int = 32) -> Tensor:
            return x.flatten(1)

    images = Dataset(DigitsConfig().load().x)
    real, others = halves(images, 300, seed=0)
    metrics = Suite(images, None, [Pixels()]).of_data(others, real, seed=0).metrics
    assert metrics["fid_300"] == pytest.approx(frechet_distance(others.x.flatten(1), real.x.flatten(1)))
    assert not any(name.startswith("fid") for name in Suite(images, None).of_data(others, real, seed=0).metrics)
