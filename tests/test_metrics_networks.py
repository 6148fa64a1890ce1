"""Metrics through networks whose weights a user brings: other packages on the same features, identities.

Stored numbers are those of torchmetrics 1.9.0 and torch-fidelity 0.4.0 on `clouds()`, and of the code of DINOv2's
authors on the weights of `transformer()`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.evaluation.job import NETWORKS, Weights
from toposampler.evaluation.suite import Suite
from toposampler.metrics import catalog
from toposampler.metrics.classes import inter_mode_jsd
from toposampler.metrics.dinov2 import DinoV2, load_dinov2
from toposampler.metrics.features import feature_metrics
from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.kernel import cmmd_form, kid
from toposampler.metrics.prdc import precision_recall_density_coverage


def clouds() -> tuple[Tensor, Tensor]:
    """Features of 280 samples, which lie on a plane, and of 300 real images."""
    rng = np.random.RandomState(0)
    real = rng.standard_normal((300, 8))
    fake = rng.standard_normal((280, 8)) * 1.2 + 0.3
    fake[:, 0] = fake[:, 1] * 0.5
    return torch.from_numpy(fake), torch.from_numpy(real)


def test_others_find_the_same_on_the_same_features() -> None:
    fake, real = clouds()
    assert frechet_distance(fake, real) == pytest.approx(2.329973062593268, abs=1e-6)  # both
    assert kid(fake, real[:280]) == pytest.approx(0.5352671925450889, abs=1e-9)  # both, one subset of all
    found = precision_recall_density_coverage(fake, real)
    assert found["precision_k3"] == pytest.approx(0.6642857, abs=1e-6)  # torch-fidelity
    assert found["recall_k3"] == 0.75


def test_the_kid_is_the_definition_and_of_no_bias() -> None:
    x, y = (torch.randn(k, 5, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (6, 7))
    kernel = [(a @ b / 5 + 1) ** 3 for a in (*x, *y) for b in (*x, *y)]
    k = torch.stack(kernel).view(13, 13)
    within = sum(
        (part.sum() - part.diagonal().sum()) / (len(part) * (len(part) - 1)) for part in (k[:6, :6], k[6:, 6:])
    )
    assert kid(x, y) == pytest.approx(float(within - 2 * k[:6, 6:].mean()), rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    draws = [kid(*torch.randn(2, 20, 5, generator=generator, dtype=torch.float64)) for _ in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20
    assert min(draws) < 0


def test_the_form_of_the_cmmd() -> None:
    """As google-research's cmmd computes it from embeddings of length 1."""
    x, y = clouds()
    a, b = (z / z.norm(dim=1, keepdim=True) for z in (x, y))
    square = {pair: torch.cdist(*pair).square() for pair in ((a, a), (b, b), (a, b))}
    own, other, cross = ((-s / 200).exp().mean() for s in square.values())
    assert cmmd_form(x, y) == pytest.approx(1000 * float(own + other - 2 * cross), rel=1e-6)
    assert cmmd_form(x, 3 * x) == pytest.approx(0, abs=1e-9)
    assert cmmd_form(3 * x, y) == pytest.approx(cmmd_form(x, y), rel=1e-9)


def test_every_metric_of_features_is_in_the_catalog() -> None:
    fake, real = clouds()
    for name in ("classifier", *NETWORKS):
        for metric in feature_metrics(name, fake, real):
            kind = catalog.kind_of(metric)
            assert kind is not None, metric
            assert kind.block is not None
    assert {catalog.direction(name) for name in ("kid_2000", "fd_dinov2_10000", "cmmd_form_inception_500")} == {"less"}
    assert catalog.direction("recall_k3_dinov2") == "more"
    assert catalog.direction("mass_tv_argmax") == "less"


def test_masses_of_classes_by_a_classifier() -> None:
    probabilities = torch.eye(3).repeat_interleave(torch.tensor([5, 3, 2]), dim=0) * 0.5 + 1 / 6
    found = inter_mode_jsd(probabilities, torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64))
    assert found["mass_tv_argmax"] == pytest.approx(0.3)
    assert inter_mode_jsd(probabilities, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))[
        "mass_tv_argmax"
    ] == pytest.approx(0)


def transformer(trained_side: int) -> dict[str, Tensor]:
    """The weights of a transformer of 2 blocks, 128 wide, in the order of DINOv2's authors, from seed 0."""
    width, patches = 128, (trained_side // 14) ** 2
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + patches, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    for i in range(2):
        own = {"norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width)}
        own |= {"attn.qkv.bias": (3 * width,), "attn.proj.weight": (width, width), "attn.proj.bias": (width,)}
        own |= {"ls1.gamma": (width,), "norm2.weight": (width,), "norm2.bias": (width,)}
        own |= {"mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,)}
        own |= {"mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,), "ls2.gamma": (width,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in own.items()}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("trained_side", "side", "expected"),
    [
        (56, 28, [-0.4930, -0.3204, -0.3469, 0.3614]),
        (518, 224, [0.0424, -0.1535, -0.0120, 0.0676]),
        (28, 28, [-0.1536, -0.2691, 0.1726, -0.1653]),
    ],
)
def test_dinov2_is_that_of_its_authors(trained_side: int, side: int, expected: list[float]) -> None:
    weights = transformer(trained_side)
    generator = torch.Generator().manual_seed(0)
    for x in weights.values():
        torch.randn(x.shape, generator=generator)
    images = torch.randn(3, 3, side, side, generator=generator)
    token = DinoV2(weights, side)._tokens(images)[0, 0]
    torch.testing.assert_close(token[:4], torch.tensor(expected), rtol=0, atol=1e-4)


def test_dinov2_sees_images_of_any_size_in_color() -> None:
    network = DinoV2(transformer(28), side=28)
    gray = torch.rand(3, 1, 16, 20) * 2 - 1
    features = network.features(gray, batch=2)
    assert features.shape == (3, 128)
    assert torch.allclose(features, network.features(gray.expand(-1, 3, -1, -1)), atol=1e-5)
    assert not torch.allclose(features[0], features[1], rtol=0.01)


def test_weights_are_taken_by_hash_and_must_be_the_networks(tmp_path: Path) -> None:
    weights = transformer(28)

    def saved(content: dict[str, Tensor]) -> tuple[Path, str]:
        save_file(content, tmp_path / "file.safetensors")
        return tmp_path / "file.safetensors", hashlib.sha256((tmp_path / "file.safetensors").read_bytes()).hexdigest()

    file, found = saved(weights)
    assert load_dinov2(file, found).depth == 2
    with pytest.raises(UserError, match=f"has SHA-256 {found}, not 0000"):
        Weights("dinov2", file, 64 * "0").load()
    for changed, message in (
        ({"norm.bias": torch.zeros(3)}, r"norm.bias is \(3,\), and must be \(128,\)"),
        ({"register_tokens": torch.zeros(1, 4, 128)}, r"register_tokens is \(1, 4, 128\), and must be absent"),
        ({"pos_embed": torch.zeros(1, 6, 128)}, "no square of patches"),
        ({"cls_token": torch.zeros(1, 1, 100)}, "100 is no multiple of 64"),
    ):
        with pytest.raises(UserError, match=message):
            load_dinov2(*saved(weights | changed))
    del weights["blocks.1.ls2.gamma"]
    with pytest.raises(UserError, match=r"blocks.1.ls2.gamma is absent"):
        load_dinov2(*saved(weights))
    with pytest.raises(UserError, match="not those of the FID's Inception"):
        Weights("inception", *saved(weights)).load()


def test_a_suite_measures_through_each_network() -> None:
    class Means:
        name = "dinov2"

        def features(self, x: Tensor) -> Tensor:
            return x.mean(dim=(2, 3))

    images = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real, others = Dataset(images[:30]), Dataset(images[30:])
    metrics = Suite(Dataset(images), None, [Means()]).of_data(others, real, seed=0).metrics
    expected = feature_metrics("dinov2", others.x.mean((2, 3)), real.x.mean((2, 3)))
    assert {name: metrics[name] for name in expected} == expected
    assert set(expected) >= {"fd_dinov2_30", "kid_dinov2_30", "cmmd_form_dinov2_30", "coverage_k5_dinov2"}
