"""Where each encoded image of a large set lies: found once, and kept as long as the files stay as they are."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from toposampler.files import write_atomically

RECENT_NS = 2 * 10**9
"""an index is not kept while a file changed less than this before: a second change could bear the same time"""

Stamp = Sequence[tuple[str, int, int]]
"""of each file, or folder, that an index depends on: relative path, bytes, time of the last change in ns"""


@dataclass(frozen=True)
class Index:
    """N images in some files, as arrays: a hundred bytes an image, not objects."""

    files: tuple[str, ...]
    """files that hold images, relative to a root; empty where each image is a file of its own"""
    file: np.ndarray
    """(N,) int32: which of `files`"""
    offset: np.ndarray
    """(N,) int64: first byte in the file, or row of a table"""
    size: np.ndarray
    """(N,) int64: bytes; -1 where only the table knows"""
    names: bytes
    """the names of all images end to end, UTF-8"""
    ends: np.ndarray
    """(N,) int64: where each name ends"""
    labels: np.ndarray | None = None
    """(N,) int64 in [0, M)"""
    notes: tuple[str, ...] = field(default=())
    """what was read and what was left out: lines for the user"""

    def __len__(self) -> int:
        return len(self.file)

    def name(self, i: int) -> str:
        """Of image `i` within its file; its path, relative to the root, where it is a file of its own."""
        return self.names[self.ends[i - 1] if i else 0 : self.ends[i]].decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """SHA-256 of names, sizes, places and labels: not of where the root is, nor of any time."""
        sha = hashlib.sha256(json.dumps(self.files).encode())
        for array in (self.file, self.offset, self.size, self.ends, self.labels):
            if array is not None:
                sha.update(np.ascontiguousarray(array).data)
        sha.update(self.names)
        return sha.hexdigest()

    def save(self, path: Path, stamp: Stamp) -> None:
        """Keep it in `path`, unless one of its files changed a moment ago. Raises OSError if it cannot be written."""
        newest = max((changed for *_, changed in stamp), default=0)
        if time.time_ns() - newest < RECENT_NS:
            return
        about = json.dumps({"files": self.files, "notes": self.notes, "stamp": [list(entry) for entry in stamp]})
        arrays = {"place": self.file, "offset": self.offset, "size": self.size, "ends": self.ends}
        arrays |= {"names": np.frombuffer(self.names, np.uint8), "about": np.frombuffer(about.encode(), np.uint8)}
        if self.labels is not None:
            arrays["labels"] = self.labels
        content = BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())


def read_index(path: Path, stamp: Stamp | None = None) -> tuple[Index, Stamp] | None:
    """The index kept in `path` and its stamp; None if there is none, it is damaged, or its stamp is not `stamp`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays["about"].tobytes())
        found = [(str(name), int(size), int(changed)) for name, size, changed in about["stamp"]]
        if stamp is not None and found != list(stamp):
            return None
        index = Index(
            tuple(about["files"]),
            arrays["place"],
            arrays["offset"],
            arrays["size"],
            arrays["names"].tobytes(),
            arrays["ends"],
            arrays.get("labels"),
            tuple(about["notes"]),
        )
        return index, found
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def stamp_of(root: Path, names: Sequence[str]) -> Stamp:
    """The stamp of the files or folders `names` below `root`. Raises OSError if one is absent."""
    states = [(name, (root / name).stat()) for name in names]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def joined(names: Sequence[str]) -> tuple[bytes, np.ndarray]:
    """`names` end to end, and where each ends."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    return b"".join(encoded), np.cumsum([len(name) for name in encoded], dtype=np.int64)
