"""Altered data files: each is read as finite samples, or refused by UserError; soon, and in little memory.

Seeded: alteration i is the same in every run. `make test` takes 600, `make test-slow` 30,000. A failure names the
number; the file is where pytest keeps its temporary folders.
"""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from alterations import altered_bytes, little_memory, read_or_refused
from PIL import Image

from toposampler.config import validate
from toposampler.data import Dataset, describe
from toposampler.data.folder import FolderConfig
from toposampler.data.npy import NpyConfig

NAMES = (
    "x.npy",
    "x.npz",
    "x.csv",
    "x.parquet",
    "x.pt",
    "X.NPY",
    "x",
    "x.npy.gz",
    "x\n.npy",
    "ä.npy",
    "x" * 300,
    ".npy",
)
KEYS = (None, None, None, "x", "labels", "y", "", "x" * 5000, "\0")
TYPES = ("?", "i1", "u1", "<i2", ">i4", "u8", "f2", ">f8", "g", "c8", "M8[s]", "m8[D]", "S3", "U4", "O", "V7", "i4,f8")
SHAPES = ((), (0,), (1,), (2, 0), (0, 2), (1, 2), (3, 2), (3, 1), (2, 8, 8), (2, 3, 8, 8), (2, 8, 8, 4), (2, 4, 8, 8))
SHAPES += ((1, 1, 1, 1, 1), (2, 9, 600), (2,) * 10)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000", "AVIF", "PCX", "SGI", "QOI")
HEADERS = (
    "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }",
    "{'descr': %r, 'fortran_order': %s, 'shape': %s, 'x': 1}",
    "{'descr': [('a', '%s')], 'fortran_order': %s, 'shape': %s}",
    "{'fortran_order': '%s%s', 'shape': %s}",
)


def written(save: Callable[[io.BytesIO], object]) -> bytes:
    """What `save` writes to a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


@cache
def tables() -> dict[str, bytes]:
    """Files of numbers as users have them, small, by name."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 2)), rng.integers(0, 3, 20)
    images = np.asfortranarray(rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    frame = pd.DataFrame(x, columns=["a", "b"])
    labeled = frame.assign(label=labels.astype(str))
    both = {"x": torch.from_numpy(x), "labels": torch.from_numpy(labels)}
    return {
        "points.npy": written(lambda f: np.save(f, x)),
        "big_endian.npy": written(lambda f: np.save(f, x.astype(">f4"))),
        "images.npy": written(lambda f: np.save(f, images)),
        "stored.npz": written(lambda f: np.savez(f, x=x, labels=labels)),
        "compressed.npz": written(lambda f: np.savez_compressed(f, x=x, labels=labels)),
        "points.csv": frame.to_csv(index=False).encode(),
        "labeled.csv": labeled.to_csv(index=False, sep=";", quoting=2).encode(),
        "points.parquet": written(frame.to_parquet),
        "labeled.parquet": written(labeled.to_parquet),
        "tensor.pt": written(lambda f: torch.save(both["x"], f)),
        "dict.pt": written(lambda f: torch.save(both, f)),
        "earlier.pt": written(lambda f: torch.save(both, f, _use_new_zipfile_serialization=False)),
    }


@cache
def pictures() -> dict[str, bytes]:
    """The same small image in each format, by name."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    found = {f"x.{name}": written(lambda f, name=name: image.save(f, name)) for name in FORMATS}  # type: ignore[misc]
    found["lzw.TIFF"] = written(lambda f: image.save(f, "TIFF", compression="tiff_lzw"))
    found["palette.PNG"] = written(lambda f: image.convert("P").save(f, "PNG"))
    found["turned.JPEG"] = written(lambda f: image.save(f, "JPEG", exif=turned))
    endings = {"JPEG": "jpg", "JPEG2000": "jp2"}
    renamed = {name: name.rpartition(".")[::2] for name in found}
    return {f"{stem}.{endings.get(of, of.lower())}": found[name] for name, (stem, of) in renamed.items()}


def headed(rng: random.Random) -> bytes:
    """A .npy file with an odd header, and some numbers after it."""
    shape: Any = rng.choice((*SHAPES, (-1, 2), (2**62, 2), (2**70,), (True, 2), (2.0, 2), "x", [3, 2], None))
    header = rng.choice(HEADERS) % (rng.choice(TYPES), rng.choice(("True", "False", "0", "None")), repr(shape))
    version = rng.choice(((1, 0), (2, 0), (3, 0), (4, 0), (1, 1)))
    content = header.encode().ljust(117) + b"\n"
    length = len(content).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + content + rng.randbytes(rng.choice((0, 8, 48, 3000)))


def odd_array(rng: random.Random) -> np.ndarray:
    """An array of any type and shape, maybe with numbers that are none."""
    array = np.zeros(rng.choice(SHAPES), np.dtype(rng.choice(TYPES)))
    if array.dtype.kind in "iuf" and array.size:
        flat = array.reshape(-1)
        flat[:] = np.arange(array.size) % rng.choice((2, 3, 100))
        odd = (np.nan, np.inf, -np.inf, np.finfo(array.dtype).max) if array.dtype.kind == "f" else ()
        if odd and rng.random() < 0.5:
            flat[rng.randrange(flat.size)] = rng.choice(odd)
    return array


def odd_content(rng: random.Random) -> tuple[str, bytes]:
    """A whole file of odd content, and its name."""
    if rng.random() < 0.3:
        return "headed.npy", headed(rng)
    array, name = odd_array(rng), rng.choice(("odd.npy", "odd.npz", "odd.pt", "odd.parquet"))
    if name == "odd.npy":
        return name, written(lambda f: np.save(f, array, allow_pickle=True))
    if name == "odd.npz":
        parts = {key: odd_array(rng) for key in rng.sample(("x", "labels", "a/b", "é", ".."), rng.randrange(4))}
        return name, written(lambda f: np.savez(f, **parts))  # type: ignore[arg-type]
    if name == "odd.pt":
        tensor = torch.zeros(3, 2).to(rng.choice((torch.bfloat16, torch.complex64, torch.bool, torch.int8)))
        thing = (tensor, tensor.to_sparse(), {"x": tensor, 3: tensor}, [tensor], "x", tensor[:1].expand(2**28, 2))
        return name, written(lambda f: torch.save(rng.choice(thing), f))
    if array.ndim != 2 or array.dtype.kind not in "?iufMSU" or array.dtype == np.longdouble:
        array = np.zeros((3, 2))
    return name, written(pd.DataFrame(array.astype(array.dtype.newbyteorder("="))).rename(columns=str).to_parquet)


def evaluated(dataset: Dataset) -> None:
    """What is taken can be trained on, and described."""
    assert torch.isfinite(dataset.x).all()
    assert dataset.x.dtype == torch.float32
    assert len(dataset.x) >= 2
    assert dataset.labels is None or len(dataset.labels) == len(dataset.x)
    assert all("inf" not in line and "nan" not in line for line in describe(dataset))
    dataset.digest()


def read_table(rng: random.Random, folder: Path) -> None:
    """Write one altered table to `folder`, and read it."""
    name = rng.choice(list(tables()))
    content = altered_bytes(tables()[name], rng)
    if rng.random() < 0.3:
        name, content = odd_content(rng)
    keys: dict[str, Any] = {"standardize": rng.random() < 0.5}
    if name.startswith("labeled"):
        keys["labels"] = "label"
    if rng.random() < 0.1:
        name = rng.choice(NAMES)
    if rng.random() < 0.1:
        keys |= {"key": rng.choice(KEYS), "labels": rng.choice((None, "a", "", "nobody.npy", f"{folder}/{name}"))}
    path = folder / name
    if len(name) < 200:
        path.write_bytes(content)
    try:
        evaluated(validate(NpyConfig, {"path": str(path), **keys}).load())
    finally:
        if len(name) < 200:
            path.unlink()


def read_pictures(rng: random.Random, folder: Path) -> None:
    """Write one altered picture beside a good one, and read both."""
    name = rng.choice(list(pictures()))
    content = altered_bytes(pictures()[name], rng)
    place = folder / rng.choice(("", "", "", "a", "a/b", ".a"))
    place.mkdir(parents=True, exist_ok=True)
    path = place / (rng.choice(list(pictures())) if rng.random() < 0.1 else name)
    path.write_bytes(content)
    try:
        evaluated(validate(FolderConfig, {"path": str(folder), "size": 8, "channels": rng.choice((1, 3))}).load())
    finally:
        path.unlink()


def fuzz(count: int, folder: Path) -> None:
    """Read `count` altered files, two of three of them tables."""
    images = folder / "images"
    images.mkdir()
    (images / "good.png").write_bytes(pictures()["x.png"])
    taken = {read_table: 0, read_pictures: 0}
    with little_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about what it finds in altered files
        for i in range(count):
            rng = random.Random(i)
            read, place = (read_pictures, images) if i % 3 == 0 else (read_table, folder)
            taken[read] += read_or_refused(partial(read, rng, place), f"alteration {i}")
    assert 0.05 * count < taken[read_table] < 0.4 * count, "alterations of both kinds"
    assert 0.05 * count < taken[read_pictures] < 0.3 * count


def test_altered_data(tmp_path: Path) -> None:
    fuzz(600, tmp_path)


@pytest.mark.slow
def test_thirty_thousand_altered_data(tmp_path: Path) -> None:
    fuzz(30_000, tmp_path)
