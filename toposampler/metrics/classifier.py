"""The classifier that image metrics look through: trained once per data set on its own labels, and kept."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.data.base import Dataset
from toposampler.data.split import train_test_split
from toposampler.errors import UserError
from toposampler.files import write_atomically
from toposampler.nn.networks import classifier as classifier_network

STEPS = 500
BATCH = 64
LEARNING_RATE = 1e-3
"""Adam's, falling to 0 along half a cosine"""
SMOOTHING = 0.1
"""the true class has .9 and all classes share .1, the "label smoothing .9" of DMGAN's authors"""
TEST_SHARE = 0.1
"""of every class, held out to measure the accuracy"""
MINIMUM_ACCURACY = 0.9

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier of images."""

    network: nn.Sequential
    accuracy: float
    """share of the `n_test` held-out images it is right about"""
    n_test: int

    def features(self, x: Tensor, batch: int = 500) -> Tensor:
        """What the linear layer reads, (n, 256 ceil(H / 8)^2) float32, of images (n, C, H, W) in [-1, 1]."""
        return _in_batches(self.network[:-1], x, batch)

    def probabilities(self, x: Tensor, batch: int = 500) -> Tensor:
        """Softmax (n, M) float32 of images (n, C, H, W) in [-1, 1]."""
        return _in_batches(self.network, x, batch).softmax(dim=1)


def classifier_of(
    dataset: Dataset,
    cache: Path,
    minimum_accuracy: float = MINIMUM_ACCURACY,
    steps: int = STEPS,
    device: torch.device | str = "cpu",
) -> Classifier:
    """The classifier of `dataset`, read from the folder `cache` or else trained on `device` and written there.

    The architecture is that of DMGAN's authors (arXiv 1806.00880); the file is named by the SHA-256 of data, labels,
    network and training, so that another data set never meets it. It is kept whatever its accuracy.
    Raises UserError if the data is no images, has no labels or fewer than two, or if the accuracy on the held-out tenth
    is below `minimum_accuracy`.
    """
    if dataset.labels is None or len(dataset.shape) != 3:
        what = "labels" if len(dataset.shape) == 3 else "images (C, H, W)"
        raise UserError(f"a classifier needs data with labels that are images; this data of shape {dataset.shape} "
                        f"has no {what}")  # fmt: skip
    n_classes = int(dataset.labels.max()) + 1
    if n_classes < 2:
        raise UserError("a classifier needs at least 2 labels; all samples of this data have label 0")
    network = _initialized(dataset.shape, n_classes)
    path = cache / f"classifier_{_key(dataset, network, steps)}.pt"
    found = _read(path, network)
    if found is None:
        _make_folder(cache)  # before the minutes of training
        log.info("training the classifier of %d classes for %d steps; it will be kept in %s", n_classes, steps, path)
        found = _trained(network.to(device), dataset.x, dataset.labels, steps)
        _write(path, found)
    if found.accuracy < minimum_accuracy:
        raise UserError(
            f"the classifier {path} is right about {found.accuracy:.1%} of {found.n_test} held-out images, and metrics "
            f"by class need {minimum_accuracy:.1%}: check the labels, or lower --minimum-accuracy and report it"
        )
    found.network.to(device)
    return found


def _initialized(shape: tuple[int, ...], n_classes: int) -> nn.Sequential:
    """The network with weights of seed 0; the caller's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return classifier_network(shape, n_classes)


def _make_folder(cache: Path) -> None:
    """Make the folder `cache`, if it is absent. Raises UserError if nothing can be written there."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {cache} for classifiers cannot be made: {error}") from None
    if not os.access(cache, os.W_OK):
        raise UserError(f"the folder {cache} for classifiers cannot be written to")


def _key(dataset: Dataset, network: nn.Module, steps: int) -> str:
    """Name of what the weights depend on, 16 hexadecimal digits."""
    training = (steps, BATCH, LEARNING_RATE, SMOOTHING, TEST_SHARE)
    return hashlib.sha256(repr((dataset.digest(), str(network), training)).encode()).hexdigest()[:16]


def _trained(network: nn.Sequential, x: Tensor, labels: Tensor, steps: int) -> Classifier:
    """Train `network` on nine tenths of images x (N, C, H, W), and measure it on the rest."""
    train, test = train_test_split(labels, TEST_SHARE, seed=0)
    generator = torch.Generator().manual_seed(0)
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: (1 + math.cos(math.pi * t / steps)) / 2)
    for _ in range(steps):
        rows = train[torch.randint(len(train), (BATCH,), generator=generator)]
        logits = network(x[rows].to(device))
        loss = F.cross_entropy(logits, labels[rows].to(device), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    predicted = _in_batches(network, x[test], batch=500).argmax(dim=1)
    return Classifier(network, float((predicted == labels[test]).double().mean()), len(test))


@torch.no_grad()
def _in_batches(network: nn.Sequential, x: Tensor, batch: int) -> Tensor:
    """network(x), `batch` rows at a time; the result is where x is."""
    device = next(network.parameters()).device
    return torch.cat([network(rows.to(device)).to(x.device) for rows in x.split(batch)])


def _write(path: Path, classifier: Classifier) -> None:
    """Keep weights and accuracy in `path`. Raises UserError if they cannot be written there."""
    weights = {name: tensor.cpu() for name, tensor in classifier.network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"weights": weights, "accuracy": classifier.accuracy, "n_test": classifier.n_test}, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(
            f"the classifier {path} cannot be written: {error}; give it another folder by --cache"
        ) from None


def _read(path: Path, network: nn.Sequential) -> Classifier | None:
    """The classifier kept in `path`, its weights in `network`; None if there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # nothing stored in it is executed
        network.load_state_dict(state["weights"])
        return Classifier(network, float(state["accuracy"]), int(state["n_test"]))
    except Exception as error:  # torch raises many kinds for a file that is cut short or is none of its own
        log.warning("classifier %s cannot be read (%s); it is trained again", path, error)
        return None
