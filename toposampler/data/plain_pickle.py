"""Pickles of plain data, read without running anything that they name.

A pickle is a program: it may import any function and call it. Here it may name four things, each replaced by a stand-in
of this module that makes arrays of numbers or of bytes and nothing else; any other name is refused before it is
imported.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from toposampler.errors import UserError


class _DType:
    """Stands in for numpy.dtype: the name of a type of numbers."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
            raise pickle.UnpicklingError(f"it holds an array of type {name!r:.40}, which is no number")
        self.order, self.name = "=", text

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it holds an array of an unknown order of bytes")
        self.order = order


class _Array:
    """Stands in for numpy.ndarray: shape, type and bytes."""

    array: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, str):
            content = content.encode("latin1")  # of Python 2
        if not isinstance(kind, _DType) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array that is not of numbers")
        dtype = np.dtype(kind.order + kind.name)
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape} of {dtype} with {len(content):,} bytes")
        self.array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _new_array(*_: Any) -> _Array:
    """Stands in for numpy's _reconstruct, whose state follows."""
    return _Array()


def _encode(text: Any, _encoding: Any = None) -> bytes:
    """Stands in for codecs.encode, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("it holds bytes that are not written as text")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    (f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")
} | {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _DType, ("_codecs", "encode"): _encode}


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, bytes, lists, tuples, dicts, and arrays of numbers."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what the pickle names; everything else is refused."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which plain data does not need") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refused: plain data refers to nothing outside the file."""
        raise pickle.UnpicklingError("it refers to an object outside the file")


def read_plain_pickle(path: Path) -> dict[Any, Any]:
    """The dict in the pickle `path`, its arrays as NumPy's; what Python 2 wrote as str is bytes.

    Raises UserError, naming the file, if it cannot be read, or holds anything but plain data and arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as error:  # altered bytes make the unpickler raise nearly anything
        raise UserError(f"{path} is no pickle of plain data, or is damaged: {error}; nothing in it was run") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a dict, found {type(content).__name__}")
    return {key: value.array if isinstance(value, _Array) else value for key, value in content.items()}
