"""Small sets of encoded images as users have large ones: files in folders, tar shards, Parquet."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

N, SIDE = 40, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = [int(i) for i in np.random.default_rng(1).integers(0, 3, N)]
PNG = []
for pixels in PIXELS:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    PNG.append(file.getvalue())


def age(root: Path) -> None:
    """Have all files and folders look an hour old, as an index is not kept of what changed a moment ago."""
    for path in (root, *root.rglob("*")):
        changed = path.stat().st_mtime - 3600
        os.utime(path, (changed, changed))


def as_folder(root: Path, images: Sequence[bytes] = PNG, labels: Sequence[int] | None = LABELS) -> Path:
    """Files 00.png, 01.png, ..., in sub-folders if they have labels."""
    for i, image in enumerate(images):
        path = root / (f"class{labels[i]}" if labels else ".") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    age(root)
    return root


def as_tar(root: Path, images: Sequence[bytes] = PNG, labels: Sequence[int] | None = LABELS, shards: int = 3) -> Path:
    """Archives 0.tar, 1.tar, ... of as many images each, or nearly."""
    root.mkdir(parents=True, exist_ok=True)
    for shard, numbers in enumerate(np.array_split(np.arange(len(images)), shards)):
        with tarfile.open(root / f"{shard}.tar", "w") as archive:
            for i in numbers.tolist():
                parts = {f"{i:02}.png": images[i], f"{i:02}.txt": b"a caption"}
                if labels:
                    parts[f"{i:02}.cls"] = str(labels[i]).encode()
                for name, content in parts.items():
                    member = tarfile.TarInfo(f"set/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    age(root)
    return root


def as_parquet(root: Path, images: Sequence[bytes | None] = PNG, labels: Sequence[int] | None = LABELS) -> Path:
    """Files 0.parquet and 1.parquet of row groups of 7 rows, with structs as the `datasets` library writes them."""
    root.mkdir(parents=True, exist_ok=True)
    for shard, numbers in enumerate(np.array_split(np.arange(len(images)), 2)):
        columns = {"image": [{"bytes": images[i], "path": f"{i:02}.png"} for i in numbers]}
        if labels:
            columns["label"] = [labels[i] for i in numbers]
        pq.write_table(pa.table(columns), root / f"{shard}.parquet", row_group_size=7)
    age(root)
    return root
