"""CIFAR-10 in its three forms; nothing that a pickle names is run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toposampler.data.cifar10 import BATCHES, BINARY, PYTHON, Cifar10Config
from toposampler.data.plain_pickle import read_plain_pickle
from toposampler.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = {name: RNG.integers(0, 256, (4, 3072), dtype=np.uint8) for name in BATCHES["all"]}
LABELS = {name: [i, 9, 3, 1] for i, name in enumerate(BATCHES["all"])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / PYTHON).mkdir()
    (tmp_path / BINARY).mkdir()
    for name, pixels in PIXELS.items():
        batch = {b"data": pixels, b"labels": LABELS[name], b"batch_label": b"x", b"filenames": [b"a.png"] * 4}
        (tmp_path / PYTHON / name).write_bytes(pickle.dumps(batch, protocol=2))
        rows = np.concatenate([np.array(LABELS[name], dtype=np.uint8)[:, None], pixels], axis=1)
        rows.tofile(tmp_path / BINARY / f"{name}.bin")
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_both_published_forms_hold_the_same(root: Path, split: str) -> None:
    python = Cifar10Config(root=root, split=split).load()
    for name in BATCHES["all"]:
        (root / PYTHON / name).unlink()
    binary = Cifar10Config(root=root, split=split).load()
    expected = np.concatenate([PIXELS[name] for name in BATCHES[split]]).reshape(-1, 3, 32, 32)
    assert torch.equal(((python.x + 1) * 127.5).round().byte(), torch.from_numpy(expected))
    assert python.labels is not None
    assert python.labels.tolist() == [label for name in BATCHES[split] for label in LABELS[name]]
    assert python.digest() == binary.digest()
    assert python.weights is not None
    assert python.weights.shape == (10,)


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Its texts are bytes, and numpy wrote an array's bytes as text in latin 1."""
    path = tmp_path / "batch"
    written = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05"
        b"U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x01K\x02\x86q\x09cnumpy\ndtype\nq\nU\x02u1q\x0bK\x00K\x01\x87q\x0cRq\r"
        b"(K\x03U\x01|q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0fb\x89U\x02\x07\xffq\x10tq\x11bu."
    )
    path.write_bytes(written)
    assert read_plain_pickle(path)[b"data"].tolist() == [[7, 255]]


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (pickle.dumps({b"data": _Code()}), "which plain data does not need"),
        (b"cos\nsystem\n(S'touch ran'\ntR.", "it names os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "it names builtins.eval"),
        (pickle.dumps({b"data": np.array([{}], dtype=object)}, protocol=2), "which is no number"),
        (pickle.dumps([1]), "must hold a dict"),
        (b"\x80\x02}", "damaged"),
        (b"", "damaged"),
        (b"P1\n.", "outside the file"),
    ],
)
def test_a_pickle_that_names_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(UserError, match=fault):
        read_plain_pickle(tmp_path / "batch")
    assert not (tmp_path / "ran").exists()


def test_faults_of_the_published_forms_are_named(root: Path) -> None:
    python, binary = root / PYTHON / "test_batch", root / BINARY / "test_batch.bin"
    for batch in ({b"labels": [1]}, {b"data": PIXELS["test_batch"][:, :9], b"labels": [1] * 4}):
        python.write_bytes(pickle.dumps(batch))
        with pytest.raises(UserError, match="must hold data"):
            Cifar10Config(root=root, split="test").load()
    python.write_bytes(pickle.dumps({b"data": PIXELS["test_batch"], b"labels": [1, 2, 3, 10]}))
    with pytest.raises(UserError, match="labels that are not integers from 0 to 9"):
        Cifar10Config(root=root, split="test").load()
    python.unlink()
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(UserError, match="12,291 bytes"):
        Cifar10Config(root=root, split="test").load()
    binary.unlink()
    with pytest.raises(UserError, match="CIFAR-10 is not in"):
        Cifar10Config(root=root, split="test").load()


def _jpeg(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (value, 0, 255 - value)).save(file, "JPEG")
    return file.getvalue()


def test_the_archive_of_jpeg_files(tmp_path: Path) -> None:
    files, path = [_jpeg(value) for value in (0, 100, 255)], tmp_path / "jpeg.npz"
    jpeg, offsets = np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])
    np.savez(path, jpeg=jpeg, offsets=offsets, labels=np.array([3, 0, 3], dtype=np.uint8))
    data = Cifar10Config(path=path).load()
    assert data.labels is not None
    assert data.labels.tolist() == [3, 0, 3]
    assert torch.allclose(data.x[:, 0].mean((1, 2)), torch.tensor([-1, 100 / 127.5 - 1, 1]), atol=0.02)
    np.savez(path, jpeg=jpeg, offsets=offsets + 1, labels=np.zeros(3, dtype=np.uint8))
    with pytest.raises(UserError, match="offsets rise from 0"):
        Cifar10Config(path=path).load()
    np.savez(path, jpeg=jpeg, offsets=offsets, labels=np.zeros(2, dtype=np.uint8))
    with pytest.raises(UserError, match="labels must be 3 integers"):
        Cifar10Config(path=path).load()
    damaged = jpeg.copy()
    damaged[offsets[1] : offsets[1] + 20] = 0
    np.savez(path, jpeg=damaged, offsets=offsets, labels=np.zeros(3, dtype=np.uint8))
    with pytest.raises(UserError, match=r"image 1 of .*jpeg\.npz cannot be read"):
        Cifar10Config(path=path).load()


SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10" / "cifar10_20k_jpeg.npz"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared archive of CIFAR-10 is not there")
def test_the_shared_archive() -> None:
    data = Cifar10Config(path=SHARED).load()
    assert data.shape == (3, 32, 32)
    assert data.weights is not None
    assert data.weights.tolist() == [0.1] * 10
