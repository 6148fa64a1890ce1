"""Encoded images by their number: as files in a folder, members of tar archives, rows of Parquet files."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Protocol

import numpy as np

from toposampler.data.index import Index

OPEN_FILES = 128
"""archives that are held open at once"""
ROW_GROUPS = 256 * 2**20
"""bytes of decompressed row groups that are kept, beside the one that is read"""


class Source(Protocol):
    """Encoded images; any thread may read any of them at any time."""

    index: Index

    def read(self, i: int) -> bytes:
        """The file that image `i` is. Raises OSError or ValueError if it cannot be read."""
        ...

    def name(self, i: int) -> str:
        """Of image `i`, for messages."""
        ...


class Files:
    """Each image is a file of its own below `root`."""

    def __init__(self, root: Path, index: Index) -> None:
        self.root, self.index = root, index

    def read(self, i: int) -> bytes:
        """See `Source`."""
        descriptor = os.open(self.name(i), os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
        try:  # with as few calls of the system as can be: each slows the decoding after it
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError("it is not a file")
            content = os.read(descriptor, about.st_size)
            while len(content) < about.st_size and (more := os.read(descriptor, about.st_size - len(content))):
                content += more
            return content
        finally:
            os.close(descriptor)

    def name(self, i: int) -> str:
        """See `Source`."""
        return os.path.join(self.root, self.index.name(i))  # pathlib would take a tenth of the time of a small image


class _InFiles:
    """Several images in each of some files."""

    def __init__(self, root: Path, index: Index) -> None:
        self.root, self.index = root, index

    def name(self, i: int) -> str:
        """See `Source`."""
        return f"{self.index.name(i)} of {self.root / self.index.files[self.index.file[i]]}"


class TarMembers(_InFiles):
    """Each image is a stretch of bytes in an archive."""

    def __init__(self, root: Path, index: Index) -> None:
        super().__init__(root, index)
        self._open = lru_cache(OPEN_FILES)(self._opened)

    def _opened(self, file: int) -> BinaryIO:
        return (self.root / self.index.files[file]).open("rb", buffering=0)  # closed when no thread holds it any more

    def read(self, i: int) -> bytes:
        """See `Source`."""
        archive, size = self._open(int(self.index.file[i])), int(self.index.size[i])
        content = os.pread(archive.fileno(), size, int(self.index.offset[i]))
        if len(content) < size:
            raise ValueError(f"its archive ends after {len(content):,} of its {size:,} bytes")
        return content


class ParquetRows(_InFiles):
    """Each image is a value of a column of bytes.

    Parquet gives row groups, not rows: the last ones used are kept, `ROW_GROUPS` bytes of them.
    """

    def __init__(self, root: Path, index: Index, column: str) -> None:
        super().__init__(root, index)
        self._column, self._lock = column, Lock()
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._files = lru_cache(OPEN_FILES)(self._opened)

    def _opened(self, file: int) -> tuple[Any, np.ndarray]:
        """A file, and the first row of each of its groups, and the number of its rows."""
        import pyarrow.parquet as pq

        opened = pq.ParquetFile(self.root / self.index.files[file])
        counts = [opened.metadata.row_group(k).num_rows for k in range(opened.metadata.num_row_groups)]
        return opened, np.cumsum([0, *counts])

    def read(self, i: int) -> bytes:
        """See `Source`."""
        file, row = int(self.index.file[i]), int(self.index.offset[i])
        with self._lock:
            try:
                _, starts = self._files(file)
                group = int(np.searchsorted(starts, row, side="right")) - 1
                values = self._group(file, group)
            except Exception as error:  # pyarrow's own kinds, one for each way in which a file can be damaged
                raise ValueError(str(error) or type(error).__name__) from None
        value = values[row - int(starts[group])].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise ValueError("the row holds no bytes")
        return value

    def _group(self, file: int, group: int) -> Any:
        """The column's values in a row group."""
        key = file, group
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        table = self._files(file)[0].read_row_group(group, columns=[self._column])
        while self._groups and sum(kept.nbytes for kept in self._groups.values()) + table.nbytes > ROW_GROUPS:
            self._groups.popitem(last=False)
        self._groups[key] = table.column(0)
        return self._groups[key]
