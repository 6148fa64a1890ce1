"""The classifier behind the image metrics: what it learns, what is kept of it, and what is refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from toposampler.data import Dataset
from toposampler.data.digits import DigitsConfig
from toposampler.data.split import train_test_split
from toposampler.errors import UserError
from toposampler.metrics.classifier import Classifier, classifier_of

torch.set_num_threads(1)

DIGITS = DigitsConfig().load()
STEPS = 150


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A briefly trained classifier of digits, and the folder it is kept in."""
    folder = tmp_path_factory.mktemp("cache") / "made for it"
    return classifier_of(DIGITS, folder, steps=STEPS), folder


def stripes(side: int, channels: int, n: int = 60) -> Dataset:
    """Noisy images, dark above or dark on the left."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(n, channels, side, side, generator=generator)
    labels = torch.arange(n) % 2
    x[labels == 0, :, : side // 2] -= 0.5
    x[labels == 1, :, :, : side // 2] -= 0.5
    return Dataset(x.clamp(-1, 1), labels)


def test_digits_are_learned_and_held_out_ones_recognized(trained: tuple[Classifier, Path]) -> None:
    classifier, _ = trained
    assert classifier.n_test == 179
    _, test = train_test_split(DIGITS.labels, 0.1, seed=0)
    right = classifier.probabilities(DIGITS.x[test]).argmax(dim=1) == DIGITS.labels[test]
    assert classifier.accuracy == float(right.double().mean()) > 0.95


def test_probabilities_follow_from_features_whatever_the_batch(trained: tuple[Classifier, Path]) -> None:
    classifier, _ = trained
    features, probabilities = classifier.features(DIGITS.x[:50]), classifier.probabilities(DIGITS.x[:50])
    assert features.shape == (50, 256)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(50))
    assert torch.allclose(classifier.network[-1](features).softmax(dim=1), probabilities)
    assert torch.allclose(classifier.probabilities(DIGITS.x[:50], batch=7), probabilities, atol=1e-6)
    assert not probabilities.requires_grad


def test_it_is_read_back_and_not_trained_again(
    trained: tuple[Classifier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, folder = trained
    monkeypatch.setattr(torch.optim, "Adam", None)
    again = classifier_of(DIGITS, folder, steps=STEPS)
    assert (again.accuracy, again.n_test) == (classifier.accuracy, classifier.n_test)
    assert torch.equal(again.probabilities(DIGITS.x), classifier.probabilities(DIGITS.x))
    assert [path.suffix for path in folder.iterdir()] == [".pt"]


def test_a_damaged_file_is_named_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = stripes(8, 1)
    first = classifier_of(data, tmp_path, steps=20)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    again = classifier_of(data, tmp_path, steps=20)
    assert f"classifier {path} cannot be read" in caplog.text
    assert torch.equal(again.probabilities(data.x), first.probabilities(data.x))
    assert len(path.read_bytes()) == len(whole)


def test_other_data_labels_or_steps_have_another_classifier(tmp_path: Path) -> None:
    data = stripes(8, 1)
    for other in (data, Dataset(data.x.flip(3), data.labels), Dataset(data.x, 1 - data.labels)):
        classifier_of(other, tmp_path, steps=5, minimum_accuracy=0)
    classifier_of(data, tmp_path, steps=6, minimum_accuracy=0)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(("side", "channels", "n_features"), [(28, 1, 4096), (32, 3, 4096), (64, 3, 16384)])
def test_images_of_every_size(tmp_path: Path, side: int, channels: int, n_features: int) -> None:
    data = stripes(side, channels)
    classifier = classifier_of(data, tmp_path, steps=8)
    assert classifier.accuracy == 1
    assert classifier.features(data.x[:3]).shape == (3, n_features)


def test_labels_that_cannot_be_learned_are_refused_each_time(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = Dataset(torch.rand(200, 1, 8, 8, generator=generator), torch.arange(200) % 10)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"of 20 held-out images, and metrics by class need 90.0%: check the labels"
        ):
            classifier_of(noise, tmp_path, steps=5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Dataset(torch.zeros(9, 2), torch.arange(9) % 2), r"data of shape \(2,\) has no images"),
        (Dataset(torch.zeros(9, 1, 8, 8)), r"data of shape \(1, 8, 8\) has no labels"),
        (Dataset(torch.zeros(9, 1, 8, 8), torch.zeros(9).long()), "at least 2 labels"),
        (Dataset(torch.zeros(3, 1, 8, 8), torch.tensor([0, 0, 1])), "label 1 has 1 sample"),
    ],
)
def test_data_without_classes_is_refused(tmp_path: Path, data: Dataset, message: str) -> None:
    with pytest.raises(UserError, match=message):
        classifier_of(data, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the folder .*file for classifiers cannot be made: .*exists"):
        classifier_of(stripes(8, 1), tmp_path / "file", steps=1)


def test_a_classifier_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"the classifier .*\.pt cannot be written: .*No space left on device.*--cache"):
        classifier_of(stripes(8, 1), tmp_path, steps=2, minimum_accuracy=0)


def test_random_numbers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    classifier_of(stripes(8, 1), tmp_path, steps=2, minimum_accuracy=0)
    assert torch.equal(before, torch.get_rng_state())


def test_the_split_holds_out_a_share_of_every_label() -> None:
    labels = torch.tensor([0] * 100 + [1] * 30 + [2] * 2)[
        torch.randperm(132, generator=torch.Generator().manual_seed(0))
    ]
    train, test = train_test_split(labels, 0.1, seed=3)
    assert torch.equal(torch.cat((train, test)).sort().values, torch.arange(132))
    assert torch.bincount(labels[test]).tolist() == [10, 3, 1]
    assert torch.equal(train_test_split(labels, 0.1, seed=3)[1], test)
    assert not torch.equal(train_test_split(labels, 0.1, seed=4)[1], test)
