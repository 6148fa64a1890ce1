"""Large sets of a user's own images in archives or tables: WebDataset's tar shards, or Parquet with encoded images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from toposampler.data.arrays import number_labels
from toposampler.data.base import Dataset
from toposampler.data.images import suffixes
from toposampler.data.index import Index, joined, stamp_of
from toposampler.data.parquet_index import image_column, parquet_rows
from toposampler.data.source import ParquetRows, Source, TarMembers
from toposampler.data.streaming import ImagesConfig
from toposampler.data.tar_index import tar_images
from toposampler.errors import UserError
from toposampler.keys import may

TAR, PARQUET = ".tar", ".parquet"


class _Shard(NamedTuple):
    """The images of one file."""

    names: Sequence[str]
    offset: np.ndarray
    size: np.ndarray
    labels: np.ndarray | None


class ShardsConfig(ImagesConfig):
    """Images in tar or Parquet files, in the order of the files' names and of the images in each.

    Of a tar archive, the members NAME.jpg (or another kind that Pillow reads) and NAME.cls, the label, make a sample.
    """

    name: Literal["shards"] = "shards"
    path: Path = Field(json_schema_extra=may(resume=True))
    """a .tar or .parquet file, a folder of files of one of the two kinds, or a pattern such as data/train-*.tar"""
    image_column: str | None = Field(None, min_length=1)
    """Parquet: the column of encoded images, bytes or structs with `bytes`; default: the only one"""
    label_column: str | None = Field(None, min_length=1)
    """Parquet: the column of labels, integers or texts, numbered from 0 in rising order; default: label, labels, cls or
    fine_label, if there is one. Of archives the .cls members are the labels"""

    def load(self) -> Dataset:
        """Read the images. Raises UserError if there are none, too many files are damaged, or keys do not fit."""
        root, files = self._files()
        kind = Path(files[0]).suffix.lower()
        if kind == TAR and (self.image_column or self.label_column):
            raise UserError(
                "data.image_column and data.label_column are of Parquet files, and data.path holds archives"
            )
        what = repr((str(root.absolute()), files, self.image_column, self.label_column, self.skip_share))
        name = hashlib.sha256(what.encode()).hexdigest()[:16]
        stamp = stamp_of(root, files)
        index = self.kept_index(name, lambda _: stamp, lambda: self._index(root, files, kind))
        source: Source = TarMembers(root, index) if kind == TAR else ParquetRows(root, index, self._column(root, index))
        what = f"data.path {self.path}"
        return self.whole(source, what) if self.cache == "device" else self.streamed(source, stamp, what)

    def _files(self) -> tuple[Path, list[str]]:
        """A folder, and the names of the files in it, sorted. Raises UserError if they are none, or of two kinds."""
        try:
            if self.path.is_dir():
                root, found = self.path, list(self.path.iterdir())
            else:
                root = self.path.parent
                found = [self.path] if self.path.exists() else list(root.glob(self.path.name))
        except (OSError, ValueError) as error:
            raise UserError(f"data.path {self.path} cannot be read: {error}") from None
        files = sorted(path.name for path in found if path.suffix.lower() in (TAR, PARQUET) and path.is_file())
        kinds = {Path(name).suffix.lower() for name in files}
        if not files:
            packed = next((path.name for path in found if ".tar." in path.name or path.suffix == ".tgz"), None)
            hint = f"; {packed} is compressed, and its images cannot be read one by one: unpack it" if packed else ""
            raise UserError(f"data.path {self.path}: no .tar or .parquet file is there{hint}")
        if len(kinds) > 1:
            raise UserError(f"data.path {self.path} holds .tar and .parquet files: give a pattern, such as *.tar")
        return root, files

    def _column(self, root: Path, index: Index) -> str:
        """The column of images: of the first file that can be read, which the others follow."""
        return image_column(root / index.files[int(index.file[0])], self.image_column)

    def _index(self, root: Path, files: Sequence[str], kind: str) -> Index:
        """Of all images; files that are damaged are left out. Raises UserError if these are too many."""
        shards: list[_Shard | None] = []
        faults: dict[str, str] = {}
        for name in files:
            try:
                shards.append(_tar(root / name) if kind == TAR else self._table(root / name))
            except (OSError, ValueError) as error:
                faults[name] = str(error)
                shards.append(None)
        note = self._damaged(root, files, faults)
        good = [(k, shard) for k, shard in enumerate(shards) if shard is not None and len(shard.names)]
        if not good:
            raise UserError(f"data.path {self.path} holds no images")
        names, ends = joined([name for _, shard in good for name in shard.names])
        n = len(ends)
        labeled = [shard.labels for _, shard in good if shard.labels is not None]
        if labeled and len(labeled) < len(good):
            name = files[next(k for k, shard in good if shard.labels is None)]
            raise UserError(f"data.path {self.path}: {name} has no labels, and other files have: give all or none")
        labels = (
            number_labels(np.concatenate(labeled), n, f"data.path {self.path}: the labels").numpy() if labeled else None
        )
        read = f"read the index of {n:,} images in {len(good):,} files of {self.path}"
        return Index(
            tuple(files),
            np.concatenate([np.full(len(shard.names), k, dtype=np.int32) for k, shard in good]),
            np.concatenate([shard.offset for _, shard in good]),
            np.concatenate([shard.size for _, shard in good]),
            names,
            ends,
            labels,
            (read, *note),
        )

    def _table(self, path: Path) -> _Shard:
        """The rows of a Parquet file, which are called by their numbers."""
        image_column(path, self.image_column)
        n, labels = parquet_rows(path, self.label_column)
        rows = np.arange(n, dtype=np.int64)
        return _Shard([f"row {i}" for i in range(n)], rows, np.full(n, -1, dtype=np.int64), labels)

    def _damaged(self, root: Path, files: Sequence[str], faults: dict[str, str]) -> tuple[str, ...]:
        """A line on damaged files. Raises UserError if they hold more than `skip_share` of the bytes."""
        if not faults:
            return ()
        sizes = {name: (root / name).stat().st_size for name in files}
        share = sum(sizes[name] for name in faults) / max(1, sum(sizes.values()))
        named = "; ".join(f"{name}: {fault}" for name, fault in list(faults.items())[:3])
        line = (
            f"{len(faults)} of {len(files)} files of data.path {self.path}, {share:.2%} of their bytes, are damaged "
            f"(data.skip_share allows {self.skip_share:.2%}): {named}"
        )
        if share > self.skip_share:
            raise UserError(line)
        return (f"warning: {line}; they are left out",)


def _tar(path: Path) -> _Shard:
    """The images of an archive."""
    members = tar_images(path, suffixes())
    labels = [member.label for member in members if member.label is not None]
    if labels and len(labels) < len(members):
        name = next(member.name for member in members if member.label is None)
        raise UserError(f"{name} of {path} has no .cls member beside it, and other images have: label all or none")
    return _Shard(
        [member.name for member in members],
        np.array([member.offset for member in members], dtype=np.int64),
        np.array([member.size for member in members], dtype=np.int64),
        np.array(labels, dtype=np.int64) if labels else None,
    )
