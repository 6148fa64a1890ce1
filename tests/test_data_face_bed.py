"""Face-Bed from small trees of files, and real faces and bedrooms as a user's own folder and arrays."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toposampler.data import face_bed
from toposampler.data.face_bed import FaceBedConfig
from toposampler.data.folder import FolderConfig
from toposampler.data.images import COMMON
from toposampler.data.npy import NpyConfig
from toposampler.errors import UserError
from toposampler.metrics.classifier import classifier_of

torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared" / "data"
with_real_images = pytest.mark.skipif(not (SHARED / "faces").is_dir(), reason=f"{SHARED / 'faces'} is absent")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three faces, which the list has in another order than their names, and three bedrooms, one of them deeper."""
    faces = tmp_path / "celeba" / "img_align_celeba"
    faces.mkdir(parents=True)
    for name, gray in (("000001", 50), ("000002", 100), ("000003", 150)):
        image = Image.new("RGB", (178, 218), (255, 255, 255))
        image.paste((gray, gray, gray), (0, 8, 178, 208))  # by blocks of JPEG, beyond what is kept
        image.save(faces / f"{name}.jpg", quality=100)
    rows = ["3", "Bald Young", *(f"{name}.jpg -1  1" for name in ("000003", "000001", "000002"))]
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("\n".join(rows))
    for name, gray in (("a/b/ab", 10), ("a/c/ac", 20), ("b", 30)):
        path = tmp_path / "bedrooms" / f"{name}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (340, 256), (gray, gray, gray)).save(path, lossless=True)
    monkeypatch.setitem(face_bed.MD5, face_bed.LIST, md5(tmp_path / "celeba" / face_bed.LIST))
    return tmp_path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pack(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of faces the archive it is published as."""
    celeba = root / "celeba"
    archive = Path(shutil.make_archive(str(celeba / face_bed.FACES), "zip", celeba, face_bed.FACES))
    shutil.rmtree(celeba / face_bed.FACES)
    monkeypatch.setitem(face_bed.MD5, face_bed.ARCHIVE, md5(archive))
    return archive


def grays(config: FaceBedConfig) -> list[int]:
    """The gray of each image, of one gray each."""
    x = config.load().x
    assert (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).max() < 0.05
    return ((x.mean((1, 2, 3)) + 1) * 127.5).round().int().tolist()


def test_faces_come_first_in_the_order_of_the_list_and_are_cropped(root: Path) -> None:
    data = FaceBedConfig(root=root, n_each=3).load()
    assert data.x.shape == (6, 3, 64, 64)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.weights is not None
    assert data.weights.tolist() == [0.5, 0.5]
    assert grays(FaceBedConfig(root=root, n_each=3)) == [150, 50, 100, 10, 20, 30]
    assert grays(FaceBedConfig(root=root, n_each=2)) == [150, 50, 10, 20]


def test_the_archive_holds_the_same_as_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = FaceBedConfig(root=root, n_each=3, size=32)
    folder = config.load()
    pack(root, monkeypatch)
    assert config.load().digest() == folder.digest()


def test_the_sums_are_those_of_torchvision() -> None:
    torchvision = importlib.util.find_spec("torchvision")  # not imported, which takes seconds
    assert torchvision is not None
    source = (Path(str(torchvision.origin)).parent / "datasets" / "celeba.py").read_text()
    for name, md5 in face_bed.MD5.items():
        assert f'"{md5}", "{name}"' in source


def test_what_is_absent_is_named_with_what_is_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, celeba = FaceBedConfig(root=root, n_each=3), root / "celeba"
    needed = (
        f"face_bed needs CelebA's list_attr_celeba.txt and img_align_celeba.zip, or the folder img_align_celeba, in "
        f"{celeba}, and bedrooms of LSUN as images in {root / 'bedrooms'}; docs/images.md says where to get them"
    )

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            config.load()
        return str(caught.value)

    shutil.rmtree(root / "bedrooms" / "a")
    assert refused() == (f"{root / 'bedrooms'} holds 1 images ({COMMON}), fewer than data.n_each, 3: {needed}")
    (celeba / "img_align_celeba" / "000001.jpg").unlink()
    assert refused() == f"{celeba}/img_align_celeba/000001.jpg is absent, and CelebA's list names it: {needed}"
    archive = pack(root, monkeypatch)
    assert refused() == f"{archive}/img_align_celeba/000001.jpg is absent, and CelebA's list names it: {needed}"
    archive.unlink()
    assert refused() == f"{archive} cannot be read (No such file or directory): {needed}"
    (celeba / "list_attr_celeba.txt").unlink()
    assert refused() == f"{celeba}/list_attr_celeba.txt cannot be read (No such file or directory): {needed}"


def test_other_files_than_celebas_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, archive = FaceBedConfig(root=root, n_each=3), pack(root, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"img_align_celeba\.zip has MD5 \w{32}; the file of .* fetch it again"):
        config.load()
    monkeypatch.undo()
    path = root / "celeba" / "list_attr_celeba.txt"
    with pytest.raises(UserError) as caught:
        config.load()
    assert str(caught.value) == (
        f"{path} has MD5 {md5(path)}; the file of CelebA's authors has 75e246fa4810816ffd6ee81facbd244c: fetch it again"
    )


def test_an_image_that_cannot_be_read_is_named(root: Path) -> None:
    path = root / "bedrooms" / "b.webp"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"image .*bedrooms/b\.webp cannot be read"):
        FaceBedConfig(root=root, n_each=3).load()


@with_real_images
def test_real_faces_and_bedrooms_are_told_apart(tmp_path: Path) -> None:
    images, labels = [], []
    for label, name in enumerate(("bedrooms", "faces")):
        images.append(np.load(SHARED / name / f"{name}_64.npz")["images"])
        labels += [label] * len(images[-1])
        (tmp_path / "images" / name).mkdir(parents=True)
        for i, image in enumerate(images[-1]):
            Image.fromarray(image).save(tmp_path / "images" / name / f"{i:03}.png", compress_level=1)
    np.save(tmp_path / "x.npy", np.concatenate(images))
    np.save(tmp_path / "y.npy", labels)

    arrays = NpyConfig(path=tmp_path / "x.npy", labels=tmp_path / "y.npy").load()
    assert arrays.x.shape == (1068, 3, 64, 64)
    assert arrays.weights is not None
    assert arrays.weights.tolist() == [529 / 1068, 539 / 1068]
    assert FolderConfig(path=tmp_path / "images", size=64).load().digest() == arrays.digest()

    small = FolderConfig(path=tmp_path / "images", size=32).load()
    assert small.x.shape == (1068, 3, 32, 32)
    assert small.labels is not None
    assert small.labels.tolist() == labels
    assert classifier_of(small, tmp_path, minimum_accuracy=0.95, steps=20).n_test == 107
