"""The images in Parquet files: a column of bytes, or of structs with bytes, as the `datasets` library writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from toposampler.errors import UserError
from toposampler.extras import require

LABELS = ("label", "labels", "cls", "fine_label")
"""columns that are taken for labels where none is named"""


def image_column(path: Path, named: str | None) -> str:
    """The column of `path` that holds encoded images: `named`, or the only one of bytes, with `.bytes` if of structs.

    Raises UserError if there is none, or several and none is named; ValueError if the file is damaged.
    """
    schema = _metadata(path).schema.to_arrow_schema()
    found = {field.name: column for field in schema if (column := _bytes_of(field)) is not None}
    if named is not None:
        if named not in found:
            raise UserError(f"data.image_column {named}: {path} has no such column of bytes; it has {_names(found)}")
        return found[named]
    if len(found) != 1:
        raise UserError(
            f"{path} must have one column of encoded images, found {_names(found)}: name it by data.image_column"
        )
    return next(iter(found.values()))


def parquet_rows(path: Path, labels: str | None) -> tuple[int, np.ndarray | None]:
    """How many rows the file `path` has, and what its column of labels holds: `labels`, or the first of `LABELS`.

    Raises UserError if it has no column `labels`, or one of other than integers and texts; ValueError if it is damaged.
    """
    metadata = _metadata(path)
    names = metadata.schema.to_arrow_schema().names
    if labels is not None and labels not in names:
        raise UserError(f"data.label_column {labels}: {path} has no such column; it has {', '.join(names)}")
    column = labels or next((name for name in LABELS if name in names), None)
    if column is None:
        return metadata.num_rows, None
    import pyarrow.parquet as pq

    try:
        values = pq.read_table(path, columns=[column]).column(0)
    except Exception as error:  # pyarrow's own kinds
        raise ValueError(_first_line(error)) from None
    if values.null_count:
        raise UserError(f"data.label_column: {values.null_count:,} rows of {path} have no value in the column {column}")
    array = np.array(values.to_pylist())
    if array.dtype.kind not in "iuU":
        raise UserError(
            f"data.label_column: the column {column} of {path} must hold integers or texts, found {values.type}"
        )
    return metadata.num_rows, array


def _metadata(path: Path) -> Any:
    require("pyarrow", "tables", f"Parquet, {path}")
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path)
    except Exception as error:  # pyarrow's own kinds, one for each way in which a file can be damaged
        raise ValueError(f"it is no Parquet file, or is damaged ({_first_line(error)})") from None


def _bytes_of(field: Any) -> str | None:
    """The leaf of a column that holds bytes; None for a column without."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    if is_bytes(field.type):
        return str(field.name)
    if types.is_struct(field.type) and any(part.name == "bytes" and is_bytes(part.type) for part in field.type):
        return f"{field.name}.bytes"
    return None


def _names(found: dict[str, str]) -> str:
    return ", ".join(found) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
