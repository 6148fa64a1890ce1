"""From what was written to what a key holds: a text key takes the text as it stands, a number key numbers only.

pydantic alone would take `true` for 1, "010" for 10, "yes" for true and 1 for true.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from toposampler.reader import Scalar, plain


class Misfit:
    """A value of a kind that its key does not hold; it shows itself as that value."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "true" if self._value is True else "false" if self._value is False else repr(self._value)


def convert(value: Any, annotation: Any) -> Any:
    """`value`, as `toposampler.reader` gives it or from Python, for a key of the type `annotation`.

    What pydantic would take though it is of another kind, such as a boolean for a number, becomes a `Misfit`, which
    pydantic refuses with the key and the value; what else may be wrong it sees by itself.
    """
    kinds = list(_kinds(annotation))
    if isinstance(value, Scalar):
        if value.value is None and type(None) in kinds:
            return None
        if any(_is_text(kind) for kind in kinds) and not _opens(value, kinds):
            return str(value)
        value = value.value
    if isinstance(value, Mapping):
        return _mapping(value, kinds)
    if isinstance(value, list | tuple):
        return _sequence(value, kinds)
    return _leaf(value, kinds)


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that `annotation` allows, without Annotated and unions."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _kinds(member)
    else:
        yield annotation


def _is_text(kind: Any) -> bool:
    literals = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return kind in (str, Path) or any(isinstance(literal, str) for literal in literals)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _opens(value: Scalar, kinds: list[Any]) -> bool:
    """Whether an argument such as `{a: 1}` is for a key that may hold a text or a mapping."""
    return isinstance(value.value, dict) and any(typing.get_origin(kind) is dict for kind in kinds)


def _mapping(value: Mapping[str, Any], kinds: list[Any]) -> Any:
    if any(_is_section(kind) for kind in kinds):  # whose own keys are converted by themselves
        name = value.get("name")
        return {**value, "name": str(name)} if isinstance(name, Scalar) else value
    for kind in kinds:
        if typing.get_origin(kind) is dict:
            return {key: convert(content, typing.get_args(kind)[1]) for key, content in value.items()}
    return plain(value)


def _sequence(value: list[Any] | tuple[Any, ...], kinds: list[Any]) -> Any:
    for kind in kinds:
        items = typing.get_args(kind)
        if typing.get_origin(kind) is tuple and items[-1] is not Ellipsis and len(items) == len(value):
            return [convert(content, item) for content, item in zip(value, items, strict=True)]
        if typing.get_origin(kind) in (list, tuple):
            return [convert(content, items[0]) for content in value]
    return plain(list(value))


def _leaf(value: Any, kinds: list[Any]) -> Any:
    literals = {
        literal for kind in kinds if typing.get_origin(kind) is typing.Literal for literal in typing.get_args(kind)
    }
    allowed = {*kinds, *map(type, literals)}
    if value is None or not allowed & {int, float, bool} or (isinstance(value, str) and allowed & {str, Path}):
        return value
    fitting = {bool} if isinstance(value, bool) else set() if isinstance(value, str) else {int, float}
    return value if allowed & fitting else Misfit(value)
