"""Arrays of numbers from files and from Python objects. Nothing that is read is executed.

| given | read as |
|---|---|
| .npy | its array |
| .npz, .pt | the array `key`; without one `x` (and `labels`), or the only one there is |
| .csv, .parquet, a pandas or Arrow table | its columns of numbers |
| NumPy arrays, torch tensors, lists of lists, whatever has `__array__` | as they are |
| a dict | its `x` and, where there is one, its `labels` |
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from toposampler.data.tables import Arrays, from_arrow, from_csv, from_pandas
from toposampler.errors import UserError
from toposampler.files import zip_damage

TABLES = (".csv", ".parquet")
"""extensions of files with named columns"""
SUFFIXES = (".npy", ".npz", ".pt", *TABLES)
X, LABELS = "x", "labels"
"""names that an archive or a dict of several arrays gives to samples and to their labels"""


def read_file(path: Path, key: str | None = None, labels: str | None = None) -> Arrays:
    """What is in the data file `path`.

    Args:
        path: of one of the kinds in `SUFFIXES`.
        key: which array of a .npz or .pt file.
        labels: which column of a table holds the labels.

    Raises UserError, which names the file, if it cannot be read or holds no array of numbers.
    """
    what = f"data file {path}"
    try:
        _check_place(path, key, what)
        match path.suffix.lower():
            case ".npy":
                with path.open("rb") as file:
                    return Arrays(_npy(file, path.stat().st_size, what, np.fromfile))
            case ".npz":
                return _npz(path, key, what)
            case ".pt":
                return _chosen(_pt(path, what), key, what)
            case ".csv":
                return from_csv(what, path, labels)
            case _:
                return _parquet(path, what, labels)
    except (OSError, MemoryError) as error:
        raise UserError(f"{what} cannot be read: {error}") from None


def _check_place(path: Path, key: str | None, what: str) -> None:
    """Raises UserError, or OSError, if there is no file of a known kind at `path`, or none that has keys."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and not path.is_dir():
        raise UserError(
            f"{what} must end in {', '.join(SUFFIXES)}, or be a folder of images; got {path.suffix or path}"
        )
    if path.is_dir() and suffix != ".parquet":
        raise UserError(f"{what} is a folder; of images, it is given as data.name folder, data.path {path}")
    if not path.exists():
        raise UserError(f"{what} does not exist")
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for
        raise UserError(f"{what} is not a file")
    if key is not None and suffix not in (".npz", ".pt"):
        raise UserError(f"{what} holds one array: leave data.key {key} out")


def read_object(data: Any, labels: str | None = None) -> Arrays:
    """What the Python object `data` holds; `labels`: as for `read_file`. Raises UserError if that is not numbers."""
    package = type(data).__module__.partition(".")[0]
    if package == "pandas" and hasattr(data, "columns"):
        return from_pandas("the DataFrame", data, labels)
    if package == "pyarrow" and hasattr(data, "column_names"):
        return from_arrow("the Arrow table", data, labels)
    if labels is not None:
        raise UserError(f"data.labels {labels!r} is the name of a column, and data of type {_type(data)} has no names")
    if isinstance(data, Mapping):
        return _chosen(data, None, "the dict")
    return Arrays(as_array(data, f"data of type {_type(data)}"))


def as_array(data: Any, what: str) -> np.ndarray:
    """The numbers in `data`. Raises UserError, which starts with `what`, if it holds others, or ragged rows."""
    if isinstance(data, Tensor):
        return _from_tensor(data, what)
    if not isinstance(data, (np.ndarray, list, tuple)) and not hasattr(data, "__array__"):
        raise UserError(
            f"{what} is not understood: give a NumPy array, a torch tensor, a pandas or Arrow table, a list of lists, "
            f"a dict of x and labels, or a path of {', '.join(SUFFIXES)} or a folder of images"
        )
    try:
        array = np.asarray(data)
    except ValueError:
        raise UserError(f"{what} has rows of different lengths") from None
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{what} is not an array: {error}") from None
    return _numbers(array, what)


def _type(data: object) -> str:
    return type(data).__name__


def _numbers(array: np.ndarray, what: str) -> np.ndarray:
    """`array` if it holds numbers."""
    if array.dtype.kind == "b":
        raise UserError(f"{what} holds booleans, which are no numbers: give x.astype('uint8')")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{what} must hold integers or floats, found type {array.dtype}")
    return array


def _from_tensor(tensor: Tensor, what: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UserError(f"{what} is a sparse or quantized tensor: give x.to_dense() or x.dequantize()")
    tensor = tensor.detach().cpu()
    return _numbers((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(), what)


def _chosen(arrays: Any, key: str | None, what: str) -> Arrays:
    """One of the `arrays` by name, or a tensor that has none."""
    if isinstance(arrays, Tensor) and key is None:
        return Arrays(as_array(arrays, what))
    if not isinstance(arrays, Mapping):
        wanted = "a tensor, or a dict of tensors" if key is None else f"a dict with {key!r} (data.key)"
        raise UserError(f"{what} must hold {wanted}, found {_type(arrays)}")
    name = _key([str(name) for name in arrays], key, what)
    labels = arrays.get(LABELS) if name == X else None
    found = None if labels is None else as_array(labels, f"{what}: {LABELS}")
    return Arrays(as_array(arrays[name], f"{what}: {name}"), found)


def _key(names: list[str], key: str | None, what: str) -> str:
    """Which of `names` is read."""
    name = key if key is not None else X if X in names else names[0] if len(names) == 1 else None
    if name is None or name not in names:
        found = f"{len(names)} arrays: {', '.join(names[:8])}" if names else "no array"
        raise UserError(f"{what} holds {found}; say which by data.key" + (f", got {key!r}" if key is not None else ""))
    return name


def _npz(path: Path, key: str | None, what: str) -> Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}

            def array(name: str) -> np.ndarray:
                with archive.open(entries[name]) as file:
                    return _npy(file, entries[name].file_size, f"{what}: {name}", _read_exactly)

            name = _key(list(entries), key, what)
            return Arrays(array(name), array(LABELS) if name == X and LABELS in entries else None)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # BadZipFile, and whatever else zipfile raises for altered bytes
        raise UserError(f"{what} is not a .npz archive of arrays: {_first_line(error)}") from None


def _npy(file: Any, size: int, what: str, read: Callable[[Any, np.dtype, int], np.ndarray]) -> np.ndarray:
    """The array of numbers in a .npy `file` of `size` bytes, whose content `read` gets: from (file, dtype, count)."""
    fault = f"{what} is not a .npy array of numbers"
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except Exception as error:  # Python's own parser reads the header, and raises what it likes
        raise UserError(f"{fault}: its header cannot be read ({_first_line(error)})") from None
    if dtype.hasobject:
        raise UserError(
            f"{fault}: it holds Python objects, and reading these can run code of the file; save numbers, "
            "as np.save(path, x.astype('float32')) does"
        )
    _numbers(np.empty(0, dtype), what)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise UserError(f"{fault}: its header has the shape {shape}")
    count, room = math.prod(shape), size - file.tell()
    if count * dtype.itemsize > room:
        raise UserError(
            f"{fault}: its header has the shape {shape} of {dtype}, {count * dtype.itemsize:,} bytes, "
            f"and {room:,} follow"
        )
    return read(file, dtype, count).reshape(shape, order="F" if fortran else "C")


def _read_exactly(file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    """As np.fromfile, from a member of an archive, whose check sum is looked at on the way."""
    return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)


def _pt(path: Path, what: str) -> Any:
    """What torch.save wrote: tensors, numbers, lists and dicts alone."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04" and (fault := zip_damage(file)):  # torch's earlier format is no zip file
            raise UserError(f"{what} is damaged: {fault}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # pickle.UnpicklingError, whose text advises to load with the executing of code allowed
        raise UserError(
            f"{what} holds no plain tensors, or is damaged; save a tensor, or a dict of x and labels, by torch.save"
        ) from None
    for x in loaded.values() if isinstance(loaded, Mapping) else [loaded]:
        if isinstance(x, Tensor) and x.layout == torch.strided and x.nbytes > x.untyped_storage().nbytes():
            raise UserError(f"{what} holds an expanded tensor of shape {list(x.shape)}: save x.contiguous()")
    return loaded


def _parquet(path: Path, what: str, labels: str | None) -> Arrays:
    try:
        import pyarrow.parquet as pq  # here, because other files do not need it
    except ImportError:
        raise UserError(f"{what}: Parquet is read by pyarrow, which is not installed: pip install pyarrow") from None
    try:
        return from_arrow(what, pq.read_table(path), labels)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # pyarrow's own kinds, one for each way in which a file can be damaged
        raise UserError(f"{what} is not a Parquet table: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """What a library says of its fault, short enough for a message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
