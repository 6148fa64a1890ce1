"""Files of samples: one .npy array, a Parquet data set, a folder of PNG images, or one PNG of few images or points.

Samples are written in parts, in any order, each by any process that sees the folder; a part that is written again
replaces itself. All of it lies in a hidden draft beside its place until it is complete, so that what has the name that
was asked for is whole.
"""

from __future__ import annotations

import csv
import math
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from toposampler.data.images import to_bytes
from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.training.sampling import BLOCK

Block = tuple[int, Tensor, Tensor]
"""its number, its samples (rows, *shape), and the ids (rows,) of their generators"""


class Output(ABC):
    """Where `n` samples of `shape` go, and in what format; numbers are of `dtype`, float32 or float64.

    One process calls `check`, `begin` and, in the end, `finish`; in between any process calls `write`. All but `check`
    raise OSError, for a full disk say.
    """

    def __init__(self, path: Path, n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        self.path, self.n, self.shape, self.dtype = path.absolute(), n, shape, dtype
        self.draft = self.path.with_name(f".{self.path.name}.new")
        self.ready = self.draft / self.path.name
        """what gets the name that was asked for"""

    def check(self) -> None:
        """Raise UserError if the samples cannot go there."""
        folder = self.path.parent
        if not folder.is_dir():
            raise UserError(f"--out {self.path} cannot be written: there is no folder {folder}")
        needed, free = self.n * self.bytes_per_sample(), shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(
                f"--out {self.path} cannot be written: {self.n:,} samples take {needed / 1e9:,.3g} GB, "
                f"and the disk has {free / 1e9:,.3g} GB left"
            )

    def bytes_per_sample(self) -> int:
        """What a sample takes on the disk, at least."""
        return self.dtype.itemsize * math.prod(self.shape) + 8

    @abstractmethod
    def begin(self) -> None:
        """Lay the files out in the draft, an empty folder."""

    @abstractmethod
    def write(self, part: int, blocks: Iterable[Block]) -> None:
        """Write the blocks of one part."""

    def finish(self) -> None:
        """Move what has been written to its place."""
        self.ready.replace(self.path)


class Npy(Output):
    """One array (n, *shape), and beside it the ids (n,) int64 in NAME_ids.npy; replaces older ones."""

    def __init__(self, path: Path, n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        super().__init__(path, n, shape, dtype)
        self.ids = self.path.with_name(f"{path.stem}_ids.npy")
        self._ready_ids = self.draft / self.ids.name

    def check(self) -> None:
        super().check()
        for file in (self.path, self.ids):
            if file.is_dir():
                raise UserError(f"--out {self.path} cannot be written: {file} is a folder")

    def begin(self) -> None:
        numbers = np.float32 if self.dtype == torch.float32 else np.float64
        np.lib.format.open_memmap(self.ready, "w+", numbers, (self.n, *self.shape))
        np.lib.format.open_memmap(self._ready_ids, "w+", np.int64, (self.n,))

    def write(self, part: int, blocks: Iterable[Block]) -> None:
        for index, samples, ids in blocks:
            _write_rows(self.ready, index * BLOCK, samples.to("cpu", self.dtype).numpy())
            _write_rows(self._ready_ids, index * BLOCK, ids.numpy())

    def finish(self) -> None:
        self._ready_ids.replace(self.ids)
        super().finish()


def _write_rows(path: Path, first: int, rows: np.ndarray) -> None:
    """Write `rows` into the array in the file `path`, by plain writes: pages of a memory map count as the process's."""
    header = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as file:
        file.seek(header + first * rows[0].nbytes)
        file.write(np.ascontiguousarray(rows).data)


class _Folder(Output):
    """A folder of files, which must be new."""

    def check(self) -> None:
        super().check()
        if self.path.exists():
            raise UserError(f"--out {self.path} exists already: remove it, or give another name")

    def begin(self) -> None:
        self.ready.mkdir()


class Parquet(_Folder):
    """A Parquet data set, as pyarrow, pandas, Spark and Ray Data read it from a folder: one file a part, one row group
    a block; columns `sample`, an Arrow tensor of `shape`, and `generator`."""

    def check(self) -> None:
        require("pyarrow", "tables", f"--out {self.path.name}")
        super().check()

    def write(self, part: int, blocks: Iterable[Block]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        tensor = pa.fixed_shape_tensor(pa.float32() if self.dtype == torch.float32 else pa.float64(), self.shape)
        schema = pa.schema({"sample": tensor, "generator": pa.int64()})
        # Random numbers neither repeat nor compress.
        with pq.ParquetWriter(
            self.ready / f"part-{part:05d}.parquet", schema, compression="none", use_dictionary=False
        ) as file:
            for _, samples, ids in blocks:
                column = pa.FixedShapeTensorArray.from_numpy_ndarray(samples.to("cpu", self.dtype).numpy())
                file.write_table(pa.table([column, ids.numpy()], schema))


class Images(_Folder):
    """PNG images, a thousand a folder (00000/00000000.png), and generators.csv with each file's generator."""

    def check(self) -> None:
        super().check()
        _check_images(self.path, "a folder of images", self.shape)

    def bytes_per_sample(self) -> int:
        return 512  # how far an image compresses is not known: a block of the smallest, which a file takes at least

    def write(self, part: int, blocks: Iterable[Block]) -> None:
        with (self.draft / f"{part:08d}.csv").open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            for index, samples, ids in blocks:
                (self.ready / f"{index:05d}").mkdir(exist_ok=True)
                pixels = to_bytes(samples).movedim(1, -1).cpu().numpy()  # (rows, height, width, channels)
                for number, (image, generator) in enumerate(zip(pixels, ids.tolist(), strict=True), index * BLOCK):
                    name = f"{index:05d}/{number:08d}.png"
                    Image.fromarray(image.squeeze(-1) if self.shape[0] == 1 else image).save(self.ready / name)
                    rows.writerow([name, generator])

    def finish(self) -> None:
        with (self.ready / "generators.csv").open("w") as file:
            file.write("file,generator\n")
            for part in sorted(self.draft.glob("*.csv")):
                file.write(part.read_text())
        super().finish()


class _Picture(Output):
    """One PNG of one block of samples; replaces an older one."""

    def check(self) -> None:
        super().check()
        if self.n > BLOCK:
            raise UserError(
                f"--out {self.path} would be a picture of {self.n:,} samples, and one shows {BLOCK:,} at most: give a "
                "smaller -n, or a name that ends in .npy or .parquet, or of images one without an extension"
            )

    def begin(self) -> None:
        pass


class Scatter(_Picture):
    """Points in the colors of their generators, on a line, in the plane, or along two principal components."""

    def write(self, part: int, blocks: Iterable[Block]) -> None:
        from toposampler import plots  # here, as matplotlib takes half a second

        ((_, samples, ids),) = blocks
        title = f"{self.n:,} samples"
        plots.samples_scatter(samples.double().cpu(), ids.cpu(), title, "generator: share").savefig(self.ready)


class Grid(_Picture):
    """All images in a square, row by row, enlarged to 32 pixels where they are smaller."""

    def check(self) -> None:
        super().check()
        _check_images(self.path, "a picture of images", self.shape)

    def write(self, part: int, blocks: Iterable[Block]) -> None:
        ((_, samples, _),) = blocks
        times = max(1, 32 // self.shape[-1])
        pixels = to_bytes(samples).cpu().repeat_interleave(times, 2).repeat_interleave(times, 3)
        pixels = F.pad(pixels, (1, 1, 1, 1), value=255)  # a white line around each
        side = math.ceil(math.sqrt(self.n))
        squares = F.pad(pixels, (0,) * 7 + (side**2 - self.n,), value=255).unflatten(0, (side, side))
        grid = squares.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).squeeze(-1)  # (height, width[, 3])
        Image.fromarray(grid.numpy()).save(self.ready)


def _check_images(path: Path, what: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(
            f"--out {path} would be {what}, but this model's samples are of shape {shape}: "
            "give a name that ends in .npy or .parquet"
        )


def output(path: Path, n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Output:
    """The output for the name `path`; see `Output`. Raises UserError if its extension is none that is known."""
    picture = Scatter if len(shape) == 1 else Grid
    formats: dict[str, type[Output]] = {".npy": Npy, ".parquet": Parquet, ".png": picture, "": Images}
    extension = "" if re.fullmatch(r"\.\d*", path.suffix) else path.suffix.lower()  # samples_v1.0 ends in no format
    if extension not in formats or not path.name:
        raise UserError(
            f"--out must end in .npy, .parquet or .png, or have no extension for a folder of images, got {path}"
        )
    return formats[extension](path, n, shape, dtype)
