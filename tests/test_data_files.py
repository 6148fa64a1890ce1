"""Data from files: what is read is what was written, and every refusal names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from toposampler.data.folder import FolderConfig
from toposampler.data.images import to_bytes
from toposampler.data.npy import NpyConfig
from toposampler.errors import UserError

torch.set_num_threads(1)

RNG = np.random.default_rng(0)


def saved(folder: Path, array: object, name: str = "x.npy") -> Path:
    np.save(folder / name, np.asarray(array), allow_pickle=True)
    return folder / name


def test_npy_points(tmp_path: Path) -> None:
    points = RNG.normal(size=(7, 3)).astype(">f8")  # as another machine might have written them
    data = NpyConfig(path=saved(tmp_path, points), standardize=False).load()
    assert data.x.dtype == torch.float32
    assert torch.equal(data.x, torch.from_numpy(points.astype(np.float32)))
    assert data.labels is None
    assert data.weights is None


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 1, 8, 8), (4, 3, 64, 64), (4, 16, 16, 3), (4, 16, 16, 1)])
def test_npy_images_of_bytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    images.flat[0], images.flat[1] = 0, 255
    x = NpyConfig(path=saved(tmp_path, images)).load().x
    assert x.shape[1:] in {(1, 8, 8), (3, 64, 64), (3, 16, 16), (1, 16, 16)}
    assert (x.min(), x.max()) == (-1, 1)
    channels_last = x.permute(0, 2, 3, 1) if shape[-1] in (1, 3) else x
    assert torch.allclose(channels_last.reshape(shape), torch.from_numpy(images).float() / 127.5 - 1)


def test_npy_images_of_floats_are_kept(tmp_path: Path) -> None:
    images = RNG.uniform(-1, 1, (4, 8, 8)).astype(np.float32)
    assert torch.equal(NpyConfig(path=saved(tmp_path, images)).load().x[:, 0], torch.from_numpy(images))


def test_npy_labels_are_numbered_from_zero(tmp_path: Path) -> None:
    config = NpyConfig(path=saved(tmp_path, np.zeros((4, 2))), labels=saved(tmp_path, [7, 3, 7, 7], "y.npy"))
    data = config.load()
    assert data.labels is not None
    assert data.weights is not None
    assert data.labels.tolist() == [1, 0, 1, 1]
    assert data.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"must hold points \(N, d\) or images .* found shape \(5,\)"),
        (np.zeros((2, 3, 8, 8, 1)), r"found shape \(2, 3, 8, 8, 1\)"),
        (np.zeros((2, 4, 8, 8)), r"C 1 or 3, found shape"),
        (np.zeros((2, 0)), "points without coordinates"),
        (np.zeros((1, 2)), "holds 1 samples; at least 2"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), "NaN or infinite values in 1 samples, the first at index 1"),
        (np.full((2, 8, 8), np.inf), "NaN or infinite"),
        (np.zeros((2, 7, 9)), "7 x 9 pixels; their sides must be of 8 to 512"),
        (np.zeros((2, 7, 7)), "7 x 7 pixels"),
        (np.zeros((2, 1, 8, 513)), "8 x 513 pixels"),
        (np.full((2, 8, 8), 255.0), r"values from 255 to 255; they must be uint8, or numbers in \[-1, 1\]"),
        (np.zeros((2, 2), dtype=complex), "integers or floats, found type complex128"),
        (np.array([[{}], [{}]], dtype=object), r"is not a \.npy array of numbers: it holds Python objects"),
    ],
)
def test_npy_refuses(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = saved(tmp_path, array)
    with pytest.raises(UserError, match=message) as caught:
        NpyConfig(path=path).load()
    assert str(path) in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array"])
def test_npy_refuses_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npy is not a \.npy array of numbers"):
        NpyConfig(path=path).load()


def test_npy_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.npy does not exist"):
        NpyConfig(path=tmp_path / "absent.npy").load()
    with pytest.raises(UserError, match=r"labels\.npy does not exist"):
        NpyConfig(path=saved(tmp_path, np.zeros((2, 2))), labels=tmp_path / "labels.npy").load()


@pytest.mark.parametrize("labels", [[0, 1, 1], [0.0, 1.0], [[0], [1]]])
def test_npy_refuses_labels_that_do_not_fit(tmp_path: Path, labels: list[object]) -> None:
    config = NpyConfig(path=saved(tmp_path, np.zeros((2, 2))), labels=saved(tmp_path, labels, "y.npy"))
    with pytest.raises(UserError, match=r"y\.npy must hold 2 integers, one per sample, found shape"):
        config.load()


def paint(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def test_folder_of_classes(tmp_path: Path) -> None:
    paint(tmp_path / "reds" / "a.png", (255, 0, 0))
    paint(tmp_path / "reds" / "deep" / "b.JPG", (255, 0, 0))
    paint(tmp_path / "blues" / "c.png", (0, 0, 255))
    (tmp_path / "blues" / "notes.txt").write_text("not an image")
    (tmp_path / "blues" / "._c.png").write_text("what macOS leaves behind")
    data = FolderConfig(path=tmp_path, size=16).load()
    assert data.x.shape == (3, 3, 16, 16)
    assert data.labels is not None
    assert data.weights is not None
    assert data.labels.tolist() == [0, 1, 1]
    assert data.weights.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert data.x[0, :, 0, 0].tolist() == [-1, -1, 1]


def test_folder_crops_the_middle(tmp_path: Path) -> None:
    image = Image.new("L", (24, 8), 0)
    image.paste(255, (8, 0, 16, 8))
    for name in "ab":
        image.save(tmp_path / f"{name}.png")
    data = FolderConfig(path=tmp_path, size=8, channels=1).load()
    assert torch.equal(data.x, torch.ones(2, 1, 8, 8))
    assert data.labels is None


def test_folder_turns_photographs_upright(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    for name in "ab":
        image.save(tmp_path / f"{name}.png", exif=exif)
    x = FolderConfig(path=tmp_path, size=8, channels=1).load().x
    assert x[0, 0, 0].max() == -1
    assert x[0, 0, 7].min() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_keeps_the_contrast_of_grays_of_16_bits(tmp_path: Path, channels: Literal[1, 3]) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp[::-1, ::-1].copy()).save(tmp_path / "b.png", exif=exif)
    big_endian = Image.frombytes("I;16B", (64, 64), ramp.astype(">u2").tobytes())
    big_endian.save(tmp_path / "c.png", format="TIFF")
    x = FolderConfig(path=tmp_path, size=64, channels=channels).load().x
    assert torch.equal(to_bytes(x), torch.from_numpy((ramp / 257).round().astype(np.uint8)).expand_as(x))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_folder_refuses_grays_of_32_bits(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8), 1).save(tmp_path / "a.png", format="TIFF")
    message = rf"a\.png cannot be read: .* \(Pillow's mode {mode}\), .* PNG with grays of 8 or 16 bits, or in color"
    with pytest.raises(UserError, match=message):
        FolderConfig(path=tmp_path).load()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_folder_shows_white_where_an_image_is_transparent(tmp_path: Path, mode: str, channels: Literal[1, 3]) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))  # hidden black
    image.paste((0, 0, 0, 255), (0, 0, 8, 4))
    for name in "ab":
        image.convert(mode).save(tmp_path / f"{name}.png")
    x = FolderConfig(path=tmp_path, size=8, channels=channels).load().x
    assert torch.equal(x[0, :, :4], -torch.ones(channels, 4, 8))
    assert torch.equal(x[0, :, 4:], torch.ones(channels, 4, 8))


def test_folder_blends_half_transparent_pixels_with_white(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGBA", (8, 8), (255, 0, 0, 51)).save(tmp_path / f"{name}.png")
    x = FolderConfig(path=tmp_path, size=8).load().x
    assert to_bytes(x)[0, :, 0, 0].tolist() == [255, 204, 204]  # 51 is a fifth of 255


def test_folder_follows_links_that_do_not_lead_back(tmp_path: Path) -> None:
    for name, gray in (("a", 0), ("b", 255)):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        Image.new("L", (8, 8), gray).save(tmp_path / "elsewhere" / name / "x.png")
    data = tmp_path / "data"
    data.mkdir()
    for name in "ab":
        (data / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "a" / "back").symlink_to(data)
    (data / "self").symlink_to(data)
    loaded = FolderConfig(path=data, size=8).load()
    assert loaded.x.mean(dim=(1, 2, 3)).tolist() == [-1, 1]
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [0, 1]


def test_folder_with_one_sub_folder_has_no_labels(tmp_path: Path) -> None:
    paint(tmp_path / "all" / "a.png", (1, 2, 3))
    paint(tmp_path / "b.png", (1, 2, 3))
    assert FolderConfig(path=tmp_path).load().labels is None


def test_a_document_that_other_programs_run_is_no_picture_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", format="EPS")
    with pytest.raises(UserError, match=r"a\.png cannot be read: it is of no kind of picture that Pillow reads"):
        FolderConfig(path=tmp_path).load()


def test_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent does not exist or is not a folder"):
        FolderConfig(path=tmp_path / "absent").load()
    with pytest.raises(UserError, match=r"holds no images \(\.png, \.jpg, .* that Pillow reads\)"):
        FolderConfig(path=tmp_path).load()
    paint(tmp_path / "a.png", (0, 0, 0))
    with pytest.raises(UserError, match="holds 1 samples; at least 2"):
        FolderConfig(path=tmp_path).load()
    paint(tmp_path / "x" / "a.png", (0, 0, 0))
    paint(tmp_path / "y" / "a.png", (0, 0, 0))
    with pytest.raises(UserError, match="holds 1 images beside its sub-folders x, y"):
        FolderConfig(path=tmp_path).load()
    (tmp_path / "x" / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"x/broken\.png cannot be read"):
        FolderConfig(path=tmp_path).load()
