"""Tables with named columns, of pandas, of Arrow and in CSV files, as arrays of numbers."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toposampler.errors import UserError

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Arrays:
    """What was read, before it is evaluated as data."""

    x: np.ndarray
    """(N, ...) numbers"""
    labels: np.ndarray | None = None
    """(N,) integers or texts"""
    columns: tuple[str, ...] | None = None
    """names of the columns of x (N, d), where it was a table"""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """in the words of whoever made the table"""
    values: np.ndarray
    """(N,): numbers, or objects"""
    missing: int
    """cells without a value"""


def from_columns(what: str, columns: Sequence[Column], labels: str | None) -> Arrays:
    """The numeric `columns` side by side, without the column `labels`.

    Raises UserError, which starts with `what`, if there is no such column, or another one is not numeric or lacks
    values.
    """
    names = [column.name for column in columns]
    if labels is not None and names.count(labels) != 1:
        raise UserError(f"{what} has no single column {labels!r} (data.labels); its columns are {_listed(names)}")
    rest = [column for column in columns if column.name != labels]
    if not rest:
        raise UserError(f"{what} has no column of numbers")
    if bad := [column for column in rest if column.values.dtype.kind not in "iuf"]:
        raise UserError(
            f"{what} has columns that are not numbers: {_listed([f'{c.name} ({c.type})' for c in bad])}; drop them, "
            "turn them into numbers (booleans into 0 and 1), or name one of them as data.labels"
        )
    named = rest if labels is None else columns
    if missing := [column for column in named if column.missing]:
        raise UserError(
            f"{what} lacks values: {_listed([f'{c.missing} in {c.name}' for c in missing])}; drop these rows, or fill "
            "them in"
        )
    found = next((column.values for column in columns if column.name == labels), None)
    x = np.column_stack([column.values for column in rest])
    return Arrays(x, None if found is None else as_labels(found), tuple(column.name for column in rest))


def as_labels(values: np.ndarray) -> np.ndarray:
    """Labels (N,) as they are if they are numbers or texts; others, such as categories and booleans, as texts."""
    return values if values.dtype.kind in "iufU" else values.astype(str)


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} others" if len(names) > most else "")


def from_pandas(what: str, frame: Any, labels: str | None) -> Arrays:
    """A pandas DataFrame; see `from_columns`."""

    def column(position: int) -> Column:
        series = frame.iloc[:, position]
        missing = int(series.isna().sum())
        kind = getattr(series.dtype, "kind", "O")
        values = series.to_numpy(dtype=np.float64, na_value=np.nan) if missing and kind in "iuf" else series.to_numpy()
        return Column(str(frame.columns[position]), str(series.dtype), values, missing if kind != "f" else 0)

    return from_columns(what, [column(i) for i in range(frame.shape[1])], labels)


def from_arrow(what: str, table: Any, labels: str | None) -> Arrays:
    """A pyarrow Table; see `from_columns`."""
    columns = [
        Column(name, str(data.type), data.to_numpy(), data.null_count)
        for name, data in zip(table.column_names, table.columns, strict=True)
    ]
    return from_columns(what, columns, labels)


def from_csv(what: str, path: Path, labels: str | None) -> Arrays:
    """A CSV file, separated by commas, semicolons or tabs, with or without a line of names; see `from_columns`.

    Also raises UserError, with line and column, for a cell that is no number.
    """
    try:
        head, delimiter = _head(path)
        named = not all(map(_is_number, head))
        names = head if named else [f"column {i + 1}" for i in range(len(head))]
        if labels is not None and names.count(labels) != 1:
            raise UserError(f"{what} has no single column {labels!r} (data.labels); its columns are {_listed(names)}")
        of_labels = None if labels is None else names.index(labels)
        used = [i for i in range(len(names)) if i != of_labels]
        if (numbers := _numbers(path, names, used, delimiter, named)) is None:
            fault = next(_faults(path, names, used, delimiter, named), "is no table of numbers")
            raise UserError(f"{what} {fault}")
        columns = [Column(names[i], "numbers", numbers[:, k], 0) for k, i in enumerate(used)]
        if of_labels is not None:
            texts = [row[of_labels].strip() for _, row in _rows(path, delimiter, named)]
            columns.append(Column(names[of_labels], "text", _as_integers(texts), texts.count("")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{what} cannot be read as CSV: {error}") from None
    return from_columns(what, columns, labels)


def _head(path: Path) -> tuple[list[str], str]:
    """The cells of the first line, and what separates them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    return [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])], delimiter


def _rows(path: Path, delimiter: str, named: bool) -> Iterator[tuple[int, list[str]]]:
    """Each line that is not empty, below the names if there are such: its number from 1, and its cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        rows = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
        if named:
            next(rows, None)
        yield from rows


def _numbers(path: Path, names: Sequence[str], used: Sequence[int], delimiter: str, named: bool) -> np.ndarray | None:
    """The columns `used` of all `names`: (N, len(used)) float64; None if a cell is no number or rows differ."""
    whole = len(used) == len(names)
    if not whole and any(len(row) != len(names) for _, row in _rows(path, delimiter, named)):
        return None  # which loadtxt does not mind if it is told which columns to use
    with warnings.catch_warnings(), path.open(encoding="utf-8-sig", newline="") as file:
        warnings.simplefilter("ignore")  # of a file without rows, which is refused as such
        lines = (line for line in file if line.strip())
        if named:
            next(lines, None)
        chosen = None if whole else used
        try:
            found = np.loadtxt(lines, delimiter=delimiter, quotechar='"', comments=None, ndmin=2, usecols=chosen)
        except ValueError:
            return None
    if not found.size:
        return np.empty((0, len(used)))
    return found if found.shape[1] == len(used) else None


def _faults(path: Path, names: Sequence[str], used: Sequence[int], delimiter: str, named: bool) -> Iterator[str]:
    """What is wrong with each line that cannot be read."""
    for line, row in _rows(path, delimiter, named):
        if len(row) != len(names):
            yield f"has {len(row)} cells in line {line}, and {len(names)} in its first line"
            continue
        for i in used:
            if not row[i].strip():
                yield f"lacks a value in line {line}, column {names[i]}: drop such rows, or fill them in"
            elif not _is_number(row[i]):
                yield (
                    f"has {row[i]!r} in line {line}, column {names[i]}, which is not a number: drop the column, turn "
                    "it into numbers, or name it as data.labels"
                )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python's own way of writing, which no table has


def _as_integers(texts: Sequence[str]) -> np.ndarray:
    """Labels as integers if all are such, so that 10 comes after 9; else as texts."""
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(texts, dtype=np.str_)
