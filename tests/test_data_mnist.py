"""MNIST and stacked MNIST: files packed and unpacked, what is refused, and the thousand modes of real digits."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from toposampler.data.base import Dataset
from toposampler.data.mnist import MnistConfig
from toposampler.data.stacked_mnist import StackedMnistConfig
from toposampler.errors import UserError
from toposampler.metrics.classes import stacked_modes
from toposampler.metrics.classifier import classifier_of

torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared" / "data"
with_real_digits = pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason=f"{SHARED / 'MNIST'} is absent")
PLACES = torch.tensor([100, 10, 1])


def idx(array: np.ndarray) -> bytes:
    """`array` of bytes as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty training and twenty test images, each of one gray, 25 times its label; the training files are packed."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 20)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = np.broadcast_to(25 * labels[:, None, None], (n, 28, 28))
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            packed = part == "train"
            (raw / f"{part}-{kind}{'.gz' if packed else ''}").write_bytes(
                gzip.compress(idx(array)) if packed else idx(array)
            )
    return tmp_path


def digits_of(x: torch.Tensor) -> torch.Tensor:
    """The labels that the grays of images (n, C, 28, 28) stand for: (n, C)."""
    return ((x[:, :, 0, 0] + 1) * 127.5 / 25).round().long()


def test_mnist_reads_packed_and_unpacked_files_where_they_lie(root: Path) -> None:
    before = sorted(root.rglob("*"))
    for path in before:
        path.chmod(0o555)
    everything, test = MnistConfig(root=root, download=True).load(), MnistConfig(root=root, split="test").load()
    assert sorted(root.rglob("*")) == before
    assert everything.x.shape == (60, 1, 28, 28)
    assert torch.equal(everything.x[40:], test.x)
    assert everything.labels is not None
    assert torch.equal(digits_of(everything.x)[:, 0], everything.labels)


def test_mnist_says_what_is_absent_and_what_to_do(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    assert len(MnistConfig(root=root, split="train").load().x) == 40
    with pytest.raises(UserError) as caught:
        MnistConfig(root=root).load()
    assert str(caught.value) == (
        f"MNIST is not in {raw}: t10k-labels-idx1-ubyte is absent, unpacked and as .gz. Put its four files there, give "
        "another --data.root, or set --data.download true"
    )


def test_mnist_names_a_damaged_file(root: Path) -> None:
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    rng = np.random.default_rng(0)
    path.write_bytes(gzip.compress(idx(rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)))[:1000])
    message = r"MNIST's file .*train-images-idx3-ubyte\.gz cannot be read: Compressed file ended"
    with pytest.raises(UserError, match=message):
        MnistConfig(root=root).load()


def test_a_file_that_lacks_its_end_is_named(root: Path) -> None:
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte cannot be read: cannot reshape array of size 15679"):
        MnistConfig(root=root, split="test").load()


@pytest.mark.parametrize("config", [MnistConfig, StackedMnistConfig])
def test_files_that_do_not_belong_together_are_named(root: Path, config: type[MnistConfig]) -> None:
    raw = root / "MNIST" / "raw"
    labels = raw / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.zeros(30, dtype=np.uint8))))
    with pytest.raises(UserError) as caught:
        config(root=root).load()
    images = raw / "train-images-idx3-ubyte.gz"
    assert str(caught.value) == f"MNIST's files {images} and {labels} do not belong together: 40 images, 30 labels"
    assert len(MnistConfig(root=root, split="test").load().x) == 20


def test_images_of_another_size_are_refused(root: Path) -> None:
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(np.zeros((20, 128, 128), dtype=np.uint8)))
    for split in ("test", "all"):
        with pytest.raises(UserError) as caught:
            MnistConfig(root=root, split=split).load()
        assert str(caught.value) == f"MNIST's file {path} must hold images of (28, 28) pixels, found (20, 128, 128)"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "nothing"),
        (bytes([0, 0, 8]), "00 00 08"),
        (idx(np.zeros(20, dtype=np.uint8)), "00 00 08 01"),
        (bytes([0, 0, 13, 3]) + bytes(12), "00 00 0d 03"),
        (b"<html>", "3c 68 74 6d"),
    ],
    ids=["empty", "cut short", "labels", "floats", "a page"],
)
def test_a_file_of_another_kind_is_refused(root: Path, content: bytes, found: str) -> None:
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        MnistConfig(root=root).load()
    assert str(caught.value) == f"MNIST's file {path} must begin with the bytes 00 00 08 03, found {found}"


def test_stacked_mnist_stacks_digits_and_numbers_the_triples(root: Path) -> None:
    data = StackedMnistConfig(root=root, n=500).load()
    assert data.x.shape == (500, 3, 28, 28)
    assert data.labels is not None
    assert torch.equal(digits_of(data.x) @ PLACES, data.labels)
    assert data.weights is not None
    assert torch.equal(data.weights, torch.bincount(data.labels, minlength=1000).double() / 500)
    assert len(data.x.flatten(1).unique(dim=0)) > 300  # of 500 draws from 1,000 triples, 394 differ in the mean


def test_stacked_mnist_depends_on_its_seed_and_number(root: Path) -> None:
    first, again, other = (StackedMnistConfig(root=root, n=100, seed=seed).load() for seed in (3, 3, 4))
    assert first.digest() == again.digest() != other.digest()


@with_real_digits
def test_real_mnist() -> None:
    data = MnistConfig(root=SHARED).load()
    assert data.x.shape == (70_000, 1, 28, 28)
    assert (data.x.min(), data.x.max()) == (-1, 1)
    assert data.weights is not None
    assert data.weights[5] == pytest.approx((5421 + 892) / 70_000)  # fives among the published sets


@with_real_digits
def test_real_stacked_digits_have_a_thousand_modes() -> None:
    data, other = (StackedMnistConfig(root=SHARED, n=26_000, seed=seed).load().labels for seed in (0, 1))
    digits, real = (labels[:, None] // PLACES % 10 for labels in (other, data))
    found = stacked_modes(digits, real)
    assert found["modes_of_1000"] == 1000
    # Two draws of 26,000 from one distribution: 999 / 2 (1 / 26,000 + 1 / 26,000) nats in the mean, to first order.
    assert found["mode_kl_nats"] == pytest.approx(0.038, abs=0.006)


@pytest.mark.slow
@with_real_digits
def test_a_classifier_of_digits_finds_the_thousand_modes(tmp_path: Path) -> None:
    classifier = classifier_of(MnistConfig(root=SHARED, split="train").load(), tmp_path, steps=150)
    data: Dataset = StackedMnistConfig(root=SHARED, split="test", n=10_000).load()
    found = classifier.probabilities(data.x.flatten(0, 1).unsqueeze(1)).argmax(dim=1).view(-1, 3)
    assert data.labels is not None
    truth = data.labels[:, None] // PLACES % 10
    assert (found == truth).double().mean() > 0.95
    scores, least = stacked_modes(found, truth), stacked_modes(truth, truth)
    assert scores["modes_of_1000"] == least["modes_of_1000"] == 1000
    assert scores["mode_kl_nats"] < least["mode_kl_nats"] + 0.02
