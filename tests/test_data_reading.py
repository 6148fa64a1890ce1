"""Files and objects of every kind: what is read is what was given, and each refusal says what would be right."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from toposampler.data import describe
from toposampler.data.arrays import dataset_of
from toposampler.data.folder import FolderConfig
from toposampler.data.npy import NpyConfig
from toposampler.data.reading import SUFFIXES, read_file, read_object
from toposampler.errors import UserError

POINTS = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.array([5, 3, 3, 5, 9, 5])
FRAME = pd.DataFrame(POINTS, columns=["a", "b", "c"])


def loaded(path: Path, **keys: Any) -> tuple[torch.Tensor, list[int] | None]:
    data = NpyConfig(path=path, standardize=False, **keys).load()
    return data.x, None if data.labels is None else data.labels.tolist()


WRITERS: dict[str, Callable[[Path], object]] = {
    "x.npy": lambda path: np.save(path, POINTS),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(POINTS)),
    "x.npz": lambda path: np.savez(path, POINTS),
    "packed.npz": lambda path: np.savez_compressed(path, x=POINTS, other=POINTS[:2]),
    "x.csv": lambda path: FRAME.to_csv(path, index=False),
    "german.csv": lambda path: FRAME.to_csv(path, index=False, sep=";"),
    "nameless.csv": lambda path: FRAME.to_csv(path, index=False, header=False),
    "x.parquet": lambda path: FRAME.to_parquet(path),
    "x.pt": lambda path: torch.save(torch.from_numpy(POINTS), path),
    "dict.pt": lambda path: torch.save({"x": torch.from_numpy(POINTS), "step": 3}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_points(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    x, labels = loaded(tmp_path / name)
    assert torch.equal(x, torch.from_numpy(POINTS.astype(np.float32)))
    assert labels is None


@pytest.mark.parametrize(
    "data",
    [
        POINTS,
        POINTS.tolist(),
        torch.from_numpy(POINTS).requires_grad_(),
        FRAME,
        pa.table(FRAME),
        {"x": POINTS},
        [torch.from_numpy(row) for row in POINTS],
    ],
    ids=["numpy", "lists", "torch", "pandas", "arrow", "dict", "rows"],
)
def test_every_object_gives_the_points(data: object) -> None:
    arrays = read_object(data)
    assert np.array_equal(arrays.x, POINTS)
    assert arrays.columns == (("a", "b", "c") if isinstance(data, (pd.DataFrame, pa.Table)) else None)


def test_which_array_of_several_is_said_by_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=POINTS, test=-POINTS)
    assert torch.equal(loaded(tmp_path / "x.npz", key="test")[0], torch.from_numpy(-POINTS.astype(np.float32)))
    with pytest.raises(UserError, match=r"x\.npz holds 2 arrays: train, test; say which by data\.key$"):
        loaded(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"say which by data\.key, got 'valid'$"):
        loaded(tmp_path / "x.npz", key="valid")


@pytest.mark.parametrize("name", ["x.npz", "x.pt"])
def test_labels_beside_x_in_an_archive(tmp_path: Path, name: str) -> None:
    if name == "x.npz":
        np.savez(tmp_path / name, x=POINTS, labels=LABELS)
    else:
        torch.save({"x": torch.from_numpy(POINTS), "labels": torch.from_numpy(LABELS)}, tmp_path / name)
    assert loaded(tmp_path / name)[1] == [1, 0, 0, 1, 2, 1]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
@pytest.mark.parametrize("texts", [False, True])
def test_labels_in_a_column_of_a_table(tmp_path: Path, name: str, texts: bool) -> None:
    frame = FRAME.assign(kind=[f"type {k}" for k in LABELS] if texts else LABELS)[["a", "kind", "b", "c"]]
    frame.to_csv(tmp_path / name, index=False) if name == "x.csv" else frame.to_parquet(tmp_path / name)
    x, labels = loaded(tmp_path / name, labels="kind")
    assert torch.equal(x, torch.from_numpy(POINTS.astype(np.float32)))
    assert labels == [1, 0, 0, 1, 2, 1]
    with pytest.raises(UserError, match=r"no single column 'color' \(data\.labels\); its columns are a, kind, b, c"):
        loaded(tmp_path / name, labels="color")


def test_labels_in_a_file_of_their_own_beside_a_table(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({"kind": LABELS}).to_csv(tmp_path / "y.csv", index=False)
    assert loaded(tmp_path / "x.csv", labels=tmp_path / "y.csv")[1] == [1, 0, 0, 1, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,\n", "lacks a value in line 3, column b"),
        ("a,b\n1,2\n3,red\n", "has 'red' in line 3, column b, which is not a number"),
        ("a,b\n1,2\n3,True\n", "has 'True' in line 3, column b"),
        ("a,b\n1,2\n3,4,5\n", "has 3 cells in line 3, and 2 in its first line"),
        ("a,b\n1,2\n3,nan\n", "NaN or infinite values in 1 samples, the first at index 1"),
        ("a,b\n", "holds 0 samples; at least 2"),
        ("", "holds points without coordinates|no column of numbers|holds 0 samples"),
    ],
)
def test_csv_refuses_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        loaded(tmp_path / "x.csv")
    assert str(tmp_path / "x.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            FRAME.assign(d="red"),
            r"columns that are not numbers: d \((str|large_string|string|object)\); drop them, turn them",
        ),
        (FRAME.assign(d=True), r"columns that are not numbers: d \(bool\).*booleans into 0 and 1"),
        (FRAME.assign(d=pd.to_datetime("2024-01-05")), r"columns that are not numbers: d \("),
        (FRAME.assign(d=pd.array([1, None, 3, 4, 5, None], dtype="Int64")), "lacks values: 2 in d; drop these rows"),
        (FRAME[[]], "no column of numbers"),
        (FRAME[:0], "holds 0 samples; at least 2"),
    ],
)
@pytest.mark.parametrize("arrow", [False, True])
def test_tables_refuse_what_is_no_number(frame: pd.DataFrame, message: str, arrow: bool) -> None:
    data = pa.Table.from_pandas(frame, preserve_index=False) if arrow else frame
    with pytest.raises(UserError, match=message):
        dataset_of("it", read_object(data).x)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (POINTS > 0, r"data of type ndarray holds booleans.*astype\('uint8'\)"),
        (torch.zeros(3, 2) > 0, "data of type Tensor holds booleans"),
        (np.array([["a", "b"]]), "must hold integers or floats, found type <U1"),
        (np.array([None, {}]), "must hold integers or floats, found type object"),
        ([[1, 2], [3]], "data of type list has rows of different lengths"),
        ({"a": POINTS, "b": POINTS}, "the dict holds 2 arrays: a, b"),
        (torch.eye(3).to_sparse(), "sparse or quantized"),
        (7, "data of type int is not understood: give a NumPy array, a torch tensor, a pandas or Arrow table"),
        (None, "data of type NoneType is not understood"),
    ],
)
def test_objects_are_refused_by_what_they_are(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_object(data)


def header(shape: str, descr: str = "<f4") -> bytes:
    """The start of a .npy file whose header says this shape."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            header("(1000000000000, 3)"),
            r"shape \(1000000000000, 3\) of float32, 12,000,000,000,000 bytes, and 0 follow",
        ),
        (header("(18446744073709551616, 2)"), "bytes, and 0 follow"),
        (header("(True, 2)") + bytes(8), r"header has the shape \(True, 2\)"),
        (header("(-1, 2)") + bytes(8), r"header has the shape \(-1, 2\)"),
        (header("(2, 2)") + bytes(15), "16 bytes, and 15 follow"),
        (header("(2, 2)", "|O") + pickle.dumps([1, 2]), "it holds Python objects"),
        (header("(" + "(" * 2000), "its header cannot be read"),
        (header("(2, 2)")[:20], "its header cannot be read"),
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_headers_are_checked_before_anything_is_allocated(
    tmp_path: Path, content: bytes, message: str, archive: bool
) -> None:
    path = tmp_path / ("x.npz" if archive else "x.npy")
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert "pickle" not in str(caught.value)


class Code:
    """What would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (1,)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(Code(), tmp_path / "x.pt")
    np.save(tmp_path / "x.npy", np.array([Code(), Code()], dtype=object), allow_pickle=True)
    for name in ("x.pt", "x.npy"):
        with pytest.raises(UserError, match=r"holds no plain tensors|holds Python objects") as caught:
            read_file(tmp_path / name)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".csv"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04no archive", bytes(100)])
def test_damaged_files_are_one_message(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        read_file(path)


def test_a_damaged_member_of_an_archive_is_refused(tmp_path: Path) -> None:
    memory = io.BytesIO()
    np.savez(memory, x=np.zeros((100, 2)))
    content = bytearray(memory.getvalue())
    content[300] ^= 1  # in the numbers, of which the archive has a check sum
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match="Bad CRC-32"):
        read_file(tmp_path / "x.npz")


def test_an_altered_bit_of_a_tensor_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(100, 2), tmp_path / "x.pt")
    content = bytearray((tmp_path / "x.pt").read_bytes())
    content[content.index(bytes(500)) + 200] ^= 1  # torch does not compare the check sum that the file has
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt is damaged: x/data/0 has another check sum than when it was written"):
        read_file(tmp_path / "x.pt")


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(1, 2).expand(2**40, 2), tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"holds an expanded tensor of shape \[1099511627776, 2\]: save x\.contiguous"):
        read_file(tmp_path / "x.pt")


def test_unknown_endings_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.npy, \.npz, \.pt, \.csv, \.parquet, .* got \.xlsx"):
        read_file(tmp_path / "x.xlsx")
    with pytest.raises(UserError, match=r"is a folder; of images, it is given as data\.name folder"):
        read_file(tmp_path)
    np.save(tmp_path / "x.npy", POINTS)
    with pytest.raises(UserError, match=r"holds one array: leave data\.key a out"):
        read_file(tmp_path / "x.npy", key="a")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("x.npy", "x.png"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r"x\.npy is not a file"):
        read_file(tmp_path / "x.npy")
    with pytest.raises(UserError, match=r"x\.png cannot be read: it is not a file"):
        FolderConfig(path=tmp_path).load()


def test_parquet_without_pyarrow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table(FRAME), tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pyarrow, which is not installed: pip install pyarrow"):
        read_file(tmp_path / "x.parquet")


def test_images_of_any_sides_and_what_is_wrong_with_others(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (4, 24, 100, 3), dtype=np.uint8)
    assert dataset_of("it", wide).shape == (3, 24, 100)
    with pytest.raises(UserError, match=r"found shape \(4, 24, 100, 4\); leave the transparency out: x\[\.\.\., :3\]"):
        dataset_of("it", np.concatenate((wide, wide[..., :1]), axis=3))
    with pytest.raises(UserError, match=r"from 0 to 255; they must be uint8.*astype\('uint8'\)"):
        dataset_of("it", np.array([0.0, 255.0]).repeat(64).reshape(2, 8, 8))
    with pytest.raises(UserError, match=r"values from 0 to 1, and black is -1 here: give 2 \* x - 1"):
        dataset_of("it", np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 8, 8))
    assert dataset_of("it", np.linspace(-1, 1, 128).reshape(2, 8, 8)).x.min() == -1


def test_folder_reads_what_pillow_reads_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name in ("cats/a.jpg", "cats/b.jpg", "dogs/c.tif", "dogs/d.gif", "dogs/e.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / name)
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "f.svg").write_text("<svg/>")
    (tmp_path / "dogs" / "README").write_text("dogs")
    data = FolderConfig(path=tmp_path, size=(16, 24)).load()
    assert data.shape == (3, 16, 24)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.notes == (
        f"read 5 images below {tmp_path}: 2 .jpg, 1 .gif, 1 .tif, 1 .webp",
        "left out 2 files that are no images: 1 .svg, 1 without extension",
        "warning: no image is in the sub-folder birds",
    )
    assert describe(data)[-3:] == list(data.notes)


def test_a_picture_too_large_to_be_read_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(
        UserError, match=r"scan\.png has more than 1,400 pixels, the most that are read: save it smaller"
    ):
        FolderConfig(path=tmp_path).load()


def test_a_picture_that_says_to_be_larger_than_its_file_can_be_is_refused_at_once(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    content[18:26] = (10_000).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "x.bmp").write_bytes(content)
    with pytest.raises(UserError, match=r"says to have 10,000 x 10,000 pixels, and has 246 bytes"):
        FolderConfig(path=tmp_path).load()


def test_numbers_near_the_largest_are_described() -> None:
    x = np.array([[1.7e308, 1e-300], [-1.7e308, 2e-300]])
    lines = describe(dataset_of("it", x, standardize=True))
    assert lines[1] == "column 0: -1.7e+308 to 1.7e+308, mean 0, standard deviation 1.7e+308"
    assert lines[2] == "column 1: 1e-300 to 2e-300, mean 1.5e-300, standard deviation 5e-301"


def test_describe_says_count_range_labels_and_units() -> None:
    x = np.stack((np.linspace(0, 1e4, 10), np.full(10, 7.0)), axis=1)
    lines = describe(dataset_of("it", x, np.array(["a"] * 8 + ["b"] * 2), standardize=True))
    assert lines == [
        "10 points in 2 dimensions",
        "column 0: 0 to 10000, mean 5000, standard deviation 3.19e+03",
        "column 1: 7 to 7, mean 7, standard deviation 0",
        "standardized: to mean 0 and standard deviation 1, samples come back in these units",
        "labels: 2 components with masses 0: 0.8, 1: 0.2",
        "constant columns, which samples have exactly: 1 (7)",
    ]
    images = describe(dataset_of("it", np.full((2, 8, 9, 3), 255, dtype=np.uint8)))
    assert images[0] == "2 images of 8 x 9 pixels, color"
    assert images[1].startswith("values 1 to 1 (black -1, white 1)")
