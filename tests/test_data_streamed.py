"""Images that are read as they are needed: whatever they lie in and wherever they are kept, they are the same ones."""

from __future__ import annotations

import errno
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_sets import LABELS, PIXELS, PNG, N, age, as_folder, as_parquet, as_tar
from PIL import Image

from toposampler.data import Dataset, decoded, describe, shards
from toposampler.data.decoded import DecodedImages
from toposampler.data.folder import FolderConfig
from toposampler.data.images import to_bytes
from toposampler.data.index import read_index
from toposampler.data.shards import ShardsConfig
from toposampler.data.streaming import ImagesConfig, subset
from toposampler.errors import UserError

FORMS = {"folder": as_folder, "tar": as_tar, "parquet": as_parquet}
CACHES = ("device", "host", "disk", "none")


def config(form: str, root: Path, **keys: Any) -> ImagesConfig:
    page = FolderConfig if form == "folder" else ShardsConfig
    return page(path=root, **({"size": 8, "store": root.parent / "store", "cache": "none"} | keys))


def images(data: Dataset) -> torch.Tensor:
    """All that training sees, as bytes, twice, so that what was kept is looked at."""
    if data.rows is None:
        return to_bytes(data.x)
    indices = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    inverse = torch.argsort(indices)
    first, second = data.rows.read(indices)[inverse], data.rows.read(torch.arange(len(data)))
    assert torch.equal(first, second)
    return second


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("form", FORMS)
def test_all_forms_and_caches_give_the_same_images(tmp_path: Path, form: str, cache: str) -> None:
    data = config(form, FORMS[form](tmp_path / "set"), cache=cache).load()
    order = np.argsort(LABELS, kind="stable") if form == "folder" else np.arange(N)  # sub-folder by sub-folder
    expected = torch.from_numpy(PIXELS[order]).permute(0, 3, 1, 2)
    assert torch.equal(images(data), expected)
    assert data.all_labels is not None
    assert data.all_labels.tolist() == [LABELS[i] for i in order]
    assert data.weights is not None
    assert data.weights.tolist() == [LABELS.count(k) / N for k in range(3)]
    assert (data.rows is None) == (cache == "device")
    assert describe(data)[0] == "40 images of 8 x 8 pixels, color"


@pytest.mark.parametrize("form", FORMS)
def test_the_digest_is_of_the_data_not_of_where_they_are_kept(tmp_path: Path, form: str) -> None:
    one, other = (FORMS[form](tmp_path / name / "set") for name in "ab")
    digests = {config(form, one, cache=cache).load().digest() for cache in CACHES[1:]}
    digests.add(config(form, other, cache="none").load().digest())
    assert len(digests) == 1
    changed = [*PNG[:-1], PNG[0]]
    assert config(form, FORMS[form](tmp_path / "c" / "set", changed), cache="none").load().digest() not in digests
    labels = [*LABELS[:-1], (LABELS[-1] + 1) % 3]
    other_labels = FORMS[form](tmp_path / "d" / "set", PNG, labels)
    assert config(form, other_labels, cache="none").load().digest() not in digests


def test_the_part_that_evaluation_sees_is_chosen_by_a_seed_and_has_every_label(tmp_path: Path) -> None:
    labels = torch.tensor([0] * 500 + [1] * 480 + [2] * 3)
    chosen = subset(len(labels), labels, 100)
    assert torch.equal(chosen, subset(len(labels), labels, 100))
    assert len(chosen) == len(chosen.unique()) == 100
    assert Counter(labels[chosen].tolist())[2] >= 2
    assert (labels[chosen][:50] == 0).any()  # in any order, as some look at the first
    assert (labels[chosen][:50] == 1).any()
    assert subset(10, None, 100).sort().values.tolist() == list(range(10))
    data = config("tar", as_tar(tmp_path / "set"), subset=20).load()
    assert (len(data), len(data.x)) == (N, 20)
    assert data.rows is not None
    assert data.labels is not None
    assert data.all_labels is not None
    chosen = subset(N, data.all_labels, 20)
    assert torch.equal(to_bytes(data.x), data.rows.read(chosen))
    assert torch.equal(data.labels, data.all_labels[chosen])
    assert "40 images are read as they are needed (data.cache none); evaluation sees 20 of them, chosen by seed 0" in (
        data.notes
    )


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was scanned again")


def test_a_kept_index_spares_the_scan_while_the_files_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar, folder = config("tar", as_tar(tmp_path / "tar")), config("folder", as_folder(tmp_path / "folder"))
    before = [images(data.load()) for data in (tar, folder)]
    with monkeypatch.context() as patch:
        patch.setattr(shards, "tar_images", _never)
        patch.setattr(FolderConfig, "_find", _never)
        assert all(torch.equal(images(data.load()), x) for data, x in zip((tar, folder), before, strict=True))
        age(tmp_path / "tar")  # another time of change
        with pytest.raises(AssertionError, match="scanned again"):
            tar.load()
        (tmp_path / "folder" / "class1" / "new.png").write_bytes(PNG[0])
        with pytest.raises(AssertionError, match="scanned again"):
            folder.load()
    assert len(folder.load()) == N + 1
    for path in tar.place.glob("index_*.npz"):
        path.write_bytes(path.read_bytes()[:100])
        assert read_index(path) is None
    assert torch.equal(images(tar.load()), before[0])


def test_an_index_of_files_that_have_just_changed_is_not_kept(tmp_path: Path) -> None:
    """A second change in the same tick of the clock would bear the same time."""
    data = config("folder", as_folder(tmp_path / "set"))
    (tmp_path / "set" / "class0" / "new.png").write_bytes(PNG[0])
    assert len(data.load()) == N + 1
    assert not data.place.exists()


def test_a_store_that_cannot_be_written_to_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = config("tar", as_tar(tmp_path / "set"), store=tmp_path / "file" / "store")
    assert torch.equal(images(data.load()), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert any(note.startswith("warning: the index of the images cannot be kept") for note in data.load().notes)
    with pytest.raises(UserError, match=r"data\.cache disk: .* cannot be written"):
        config("tar", tmp_path / "set", store=tmp_path / "file" / "store", cache="disk").load()


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("form", FORMS)
def test_an_unreadable_image_is_replaced_by_the_next_one_of_its_label(tmp_path: Path, form: str, cache: str) -> None:
    order = sorted(range(N), key=lambda i: (LABELS[i], i)) if form == "folder" else list(range(N))
    of_label = [i for i in range(N) if LABELS[i] == 1]
    bad = [of_label[3], of_label[4], of_label[-1]]  # two in a row, and the last, after which the first follows
    takes = {bad[0]: of_label[5], bad[1]: of_label[5], bad[2]: of_label[0]}
    damaged = [png[:40] if i in bad else png for i, png in enumerate(PNG)]
    root = FORMS[form](tmp_path / "set", damaged)
    data = config(form, root, cache=cache, skip_share=0.08).load()
    expected = torch.from_numpy(PIXELS[[takes.get(i, i) for i in order]]).permute(0, 3, 1, 2)
    assert torch.equal(images(data), expected)
    assert any("warning: 3 of 40 images cannot be read (7.50%; data.skip_share allows 8.00%)" in n for n in data.notes)
    with pytest.raises(UserError, match=r"3 of 40 images cannot be read .* the first: image .*png.* cannot be read"
                       if form != "parquet" else "the first: image row .* cannot be read"):  # fmt: skip
        config(form, root, cache=cache, skip_share=0.07, store=tmp_path / "other").load()


def test_data_of_which_nothing_can_be_read_are_refused(tmp_path: Path) -> None:
    root = as_tar(tmp_path / "set", [b"no picture"] * N, None)
    with pytest.raises(UserError, match=r"0\.tar cannot be read: it is of no kind .* nor can the ones after it"):
        config("tar", root, skip_share=0.9).load()
    with pytest.raises(UserError, match="the row holds no bytes"):
        config("parquet", _column(tmp_path / "null", a=pa.array([None] * N, pa.binary())), skip_share=0.9).load()


def _tail_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _header_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(b"set/01") if b"set/01" in content else content.rindex(b"PAR1")
    content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_tail_cut, _header_damaged])
@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_a_damaged_shard_is_named_and_left_out_up_to_the_stated_share(tmp_path: Path, form: str, damage: Any) -> None:
    root = FORMS[form](tmp_path / "set")
    damage(root / f"0.{form}")
    age(root)
    with pytest.raises(UserError, match=rf"1 of \d files of .* are damaged \(data.skip_share .*\): 0\.{form}: "):
        config(form, root).load()
    data = config(form, root, skip_share=0.9).load()
    left_out = {"tar": 14, "parquet": 20}[form]
    assert torch.equal(images(data), torch.from_numpy(PIXELS[left_out:]).permute(0, 3, 1, 2))
    assert any(note.startswith("warning: 1 of") and note.endswith("they are left out") for note in data.notes)


def test_a_disk_that_is_full_is_named_and_what_was_decoded_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = as_tar(tmp_path / "set")
    data = config("tar", root, cache="disk")
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(UserError, match=r"data\.cache disk: .*No space left on device; it takes 0\.00 GB"):
            data.load()
    monkeypatch.setattr(decoded, "CHUNK", 16)
    write, written = os.pwrite, []

    def fills(descriptor: int, content: Any, offset: int) -> int:
        if len(written) == 2:
            raise full
        written.append(offset)
        return write(descriptor, content, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fills)
        with pytest.raises(UserError, match="What was decoded is kept"):
            data.load()
    (about,) = data.place.glob("decoded_*.json")
    assert json.loads(about.read_text())["done"] == 32
    read: list[int] = []
    decode = shards.TarMembers.read
    monkeypatch.setattr(shards.TarMembers, "read", lambda self, i: (read.append(i), decode(self, i))[1])
    loaded = data.load()
    sampled = Counter(np.linspace(0, N - 1, 100).astype(int).tolist())  # for the digest
    assert Counter(read) - sampled == Counter(range(32, N))  # those before are not decoded again
    assert torch.equal(images(loaded), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert isinstance(loaded.rows, DecodedImages)


def test_sizes_modes_and_directions_may_be_mixed(tmp_path: Path) -> None:
    """Each is what a folder of them is in memory: cropped, resized, on white, in color or gray."""
    rng, files = np.random.default_rng(0), []
    for k, mode in enumerate(["RGB", "L", "RGBA", "P", "CMYK", "LA", "1", "I;16"]):
        picture = Image.fromarray(rng.integers(0, 256, (9 + 3 * k, 30 - 2 * k, 3), dtype=np.uint8))
        picture = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257) if mode == "I;16" else picture
        picture = picture if mode == "I;16" else picture.convert(mode)
        file = io.BytesIO()
        picture.save(file, "TIFF" if mode == "CMYK" else "PNG")
        files.append(file.getvalue())
    root, tar = as_folder(tmp_path / "folder", files, None), as_tar(tmp_path / "tar", files, None)
    for channels in (1, 3):
        memory = config("folder", root, cache="device", channels=channels).load()
        assert memory.shape == (channels, 8, 8)
        for form, place in (("folder", root), ("tar", tar)):
            streamed = config(form, place, channels=channels).load()
            assert torch.equal(images(streamed), to_bytes(memory.x))


def _column(root: Path, **columns: Any) -> Path:
    root.mkdir()
    pq.write_table(pa.table(columns), root / "x.parquet")
    age(root)
    return root


def test_what_cannot_be_meant_is_named(tmp_path: Path) -> None:
    def refused(root: Path, message: str, **keys: Any) -> None:
        with pytest.raises(UserError, match=message):
            config("tar", root, **keys).load()

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"no \.tar or \.parquet file is there")
    refused(tmp_path / "absent-*.tar", r"no \.tar or \.parquet file is there")
    (tmp_path / "empty" / "x.tar.gz").touch()
    refused(tmp_path / "empty", r"x\.tar\.gz is compressed, .*: unpack it")
    both = as_parquet(as_tar(tmp_path / "both"))
    refused(both, "holds .tar and .parquet files: give a pattern")
    assert len(config("tar", both / "*.tar").load()) == N
    assert len(config("tar", both / "1.parquet").load()) == N // 2
    refused(both / "0.tar", "are of Parquet files", label_column="label")
    refused(both / "0.parquet", "has no such column; it has image, label", label_column="class")
    refused(both / "0.parquet", "has no such column of bytes; it has image", image_column="picture")
    refused(_column(tmp_path / "two", a=PNG, b=PNG), "found a, b: name it by data.image_column")
    assert len(config("tar", tmp_path / "two", image_column="b").load()) == N
    refused(_column(tmp_path / "none", a=PNG, label=[None, *LABELS[1:]]), "1 rows of .* have no value")
    refused(_column(tmp_path / "real", a=PNG, label=[0.5] * N), "must hold integers or texts, found double")
    named = config("tar", _column(tmp_path / "text", a=PNG, kind=["cat", "ant"] * 20), label_column="kind").load()
    assert named.all_labels is not None
    assert named.all_labels.tolist() == [1, 0] * 20
    no_text = as_tar(tmp_path / "mixed", PNG[:6], shards=2)
    as_tar(tmp_path / "single", PNG[6:], None, shards=1)
    (tmp_path / "single" / "0.tar").rename(no_text / "2.tar")
    refused(no_text, r"2\.tar has no labels, and other files have")
