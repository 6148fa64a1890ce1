"""CIFAR-10 (Krizhevsky 2009): 60,000 color images of 32 x 32 pixels, ten classes of 6,000 each.

| form | where | read by |
|---|---|---|
| python | `root/cifar-10-batches-py`, as torchvision unpacks it | an unpickler of plain arrays alone |
| binary | `root/cifar-10-batches-bin` | a label and 3,072 bytes an image, as they are |
| JPEG archive | `path`, a .npz file of `jpeg` (all files end to end), `offsets` (n + 1,), `labels` (n,) | Pillow |
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies
from toposampler.data.images import decode_image, from_bytes
from toposampler.data.plain_pickle import read_plain_pickle
from toposampler.data.reading import read_file
from toposampler.errors import UserError
from toposampler.keys import may

SIDE, CLASSES = 32, 10
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
BATCHES["all"] = BATCHES["train"] + BATCHES["test"]
_PIXELS = 3 * SIDE * SIDE


class Cifar10Config(DataConfig):
    """Color images; the components are the ten classes. Nothing that is read is executed."""

    name: Literal["cifar10"] = "cifar10"
    root: Path = Field(Path("data"), json_schema_extra=may(resume=True))
    """folder that holds cifar-10-batches-py (torchvision.datasets.CIFAR10(root, download=True) makes it) or
    cifar-10-batches-bin"""
    split: Literal["all", "train", "test"] = "train"
    """train: 50,000 images; test: 10,000; all: both. Of an archive at data.path all images are taken"""
    path: Path | None = Field(None, json_schema_extra=may(resume=True))
    """.npz archive of JPEG files in place of those of root: arrays jpeg, offsets and labels"""

    def load(self) -> Dataset:
        """Read the images (N, 3, 32, 32). Raises UserError if files are absent or damaged."""
        if self.path is not None:
            images, labels = _archive(self.path)
        else:
            parts = [self._batch(name) for name in BATCHES[self.split]]
            images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        classes = torch.from_numpy(labels.astype(np.int64))
        if len(classes) < 2 or not bool(((classes >= 0) & (classes < CLASSES)).all()):
            place = self.path or self.root
            raise UserError(f"CIFAR-10 in {place}: it must hold 2 images or more, with labels from 0 to {CLASSES - 1}")
        x = from_bytes(torch.from_numpy(images).view(-1, 3, SIDE, SIDE))
        frequencies = label_frequencies(classes)
        weights = torch.zeros(CLASSES, dtype=torch.float64)
        weights[: len(frequencies)] = frequencies
        return Dataset(x, classes, weights)

    def _batch(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, 3072) and labels (n,) of one file, uint8."""
        python, binary = self.root / PYTHON / name, self.root / BINARY / f"{name}.bin"
        if python.is_file():
            return _pickled(python)
        if binary.is_file():
            return _binary(binary)
        raise UserError(
            f"CIFAR-10 is not in {self.root}: neither {PYTHON}/{name} nor {BINARY}/{name}.bin is there. Unpack one of "
            "its archives there (torchvision.datasets.CIFAR10(root, download=True) fetches the first), give another "
            "--data.root, or a .npz archive of JPEG files by --data.path"
        )


def _pickled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of a python batch: a dict of `data` (n, 3072) uint8 and `labels`, a list of n integers."""
    batch = read_plain_pickle(path)
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()} if batch else {}
    data, labels = batch.get("data"), batch.get("labels")
    if (
        not isinstance(data, np.ndarray)
        or (data.shape[1:], data.dtype) != ((_PIXELS,), np.uint8)
        or not isinstance(labels, list)
        or len(labels) != len(data)
    ):
        raise UserError(f"CIFAR-10's file {path} must hold data (n, {_PIXELS}) of bytes and n labels")
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise UserError(f"CIFAR-10's file {path} has labels that are not integers from 0 to {CLASSES - 1}")
    return data, np.array(labels, dtype=np.uint8)


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of a binary batch: for each image its label and its bytes."""
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"CIFAR-10's file {path} cannot be read: {error.strerror}") from None
    if len(content) == 0 or len(content) % (1 + _PIXELS):
        raise UserError(
            f"CIFAR-10's file {path} has {len(content):,} bytes, and must have {1 + _PIXELS:,} an image: fetch it again"
        )
    rows = content.reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0]


def _archive(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of an archive of JPEG files."""
    if path.suffix.lower() != ".npz":
        raise UserError(f"data.path {path} must be a .npz archive of the arrays jpeg, offsets and labels")
    jpeg, offsets, labels = (read_file(path, key).x for key in ("jpeg", "offsets", "labels"))
    rising = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
    rising = rising and offsets[0] == 0 and bool((offsets[1:] > offsets[:-1]).all())
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1 or not rising or offsets[-1] != len(jpeg):
        raise UserError(f"data.path {path}: jpeg must be the bytes of all files, offsets rise from 0 to their number")
    if labels.shape != (len(offsets) - 1,) or labels.dtype.kind not in "iu":
        raise UserError(f"data.path {path}: labels must be {len(offsets) - 1:,} integers, one for each image")
    images = np.empty((len(labels), _PIXELS), dtype=np.uint8)
    for i, image in enumerate(images):
        file = io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())
        image[:] = decode_image(file, f"{i} of {path}", SIDE, SIDE, channels=3).flatten().numpy()
    return images, labels
