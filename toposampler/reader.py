"""The one reader of what users write: YAML files and values on the command line, by YAML 1.2's core schema.

YAML 1.1, PyYAML's own, takes `no` for false, `1:30` for 90, `010` for 8 and `2024_01_05` for a number. Here a plain
scalar means null, a boolean or a number only if it is written as the core schema says (yaml.org/spec/1.2.2, 10.3); a
number with a leading zero, which YAML 1.1 and 1.2 read differently, is none. Whatever it means, it also keeps its text:
a key that holds a text (`name: 1.10`) takes that. `toposampler.conversion`, which knows the key, says which is wanted.

Tags, merge keys and several documents in one file are not read, and size, depth and the number of values are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from toposampler.errors import UserError

MAX_BYTES, MAX_DEPTH, MAX_VALUES, MAX_NUMBER = 2**20, 32, 100_000, 100
"""bytes of a file; depth of lists and mappings; values, those of aliases counted each time; characters of a number"""

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE, _FALSE = re.compile(r"true|True|TRUE"), re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OCTAL, _HEXADECIMAL = re.compile(r"0o[0-7]+"), re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE, _NAN = re.compile(r"[-+]?\.(inf|Inf|INF)"), re.compile(r"\.(nan|NaN|NAN)")


class Scalar(str):
    """What is written without quotes, as its text, and in `value` what that means.

    `value` is None, a boolean or a number; of an argument on the command line, also a text, list or mapping.
    """

    __slots__ = ("value",)
    value: Any

    def __new__(cls, text: str, value: Any) -> Scalar:
        """`text` that means `value`."""
        scalar = super().__new__(cls, text)
        scalar.value = value
        return scalar


def read_yaml(path: Path) -> dict[str, Any]:
    """The YAML mapping in `path`; keys are texts, scalars without quotes `Scalar`.

    Raises UserError naming the file if it is absent or malformed.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist") from None
    except OSError as error:
        raise UserError(f"config file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise UserError(f"config file {str(path)!r} cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"config file {path} is larger than a configuration can be, {MAX_BYTES:,} bytes")
    try:
        mapping = parse(content.decode())
    except ValueError as error:
        raise UserError(f"config file {path} is not valid YAML: {error}") from None
    if not isinstance(mapping, dict):
        kind = "a list" if isinstance(mapping, list) else f"the value {mapping[:60]!r}" if mapping else "nothing"
        raise UserError(f"config file {path} must hold a mapping of keys to values, not {kind}")
    return mapping


def read_argument(text: str) -> Scalar:
    """A value of the command line: its text as typed, and what it means as YAML (so JSON works).

    What is no YAML means its text. Raises UserError for bytes that are no text.
    """
    if not _is_text(text):
        raise UserError(f"{text!r}: arguments are texts in UTF-8")
    try:
        value = parse(text)
    except ValueError:
        value = text
    return Scalar(text, value.value if isinstance(value, Scalar) else value)


def parse(text: str) -> Any:
    """What the YAML `text` holds: dicts, lists, `Scalar`s for plain scalars, `str`s for others.

    Raises ValueError, with place and reason, for what is not read.
    """
    try:
        return _Builder(yaml.parse(text, yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    except (OverflowError, IndexError, TypeError, AttributeError) as error:  # PyYAML, of escapes such as \Uffffffff
        raise ValueError(f"it holds an escape that is no character ({error})") from None


def plain(value: Any) -> Any:
    """`value` with every `Scalar` in it, at any depth, replaced by what it means."""
    if isinstance(value, Scalar):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(content) for key, content in value.items()}
    return [plain(content) for content in value] if isinstance(value, list) else value


class _Builder:
    """Values from the events of one YAML stream. An alias is the value of its anchor, not a copy."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def document(self) -> Any:
        """The value of the only document; an empty Scalar if there is none."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Scalar("", None)
        value = self._value(next(self._events), 0)
        next(self._events)  # the document's end
        if not isinstance(after := next(self._events), yaml.StreamEndEvent):
            raise ValueError(f"it holds more than one document{_place(after)}")
        return value

    def _value(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            assert event.anchor is not None
            if event.anchor not in self._anchors:
                raise ValueError(f"*{event.anchor[:60]} names nothing that stands before it{_place(event)}")
            value, size = self._anchors[event.anchor]
            self._count(size, event)
            return value
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent), "the parser gives no other here"
        if event.tag is not None and event.tag != "!":
            raise ValueError(f"tags such as {event.tag[:60]} are not read{_place(event)}")
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and mappings lie more than {MAX_DEPTH} deep in each other{_place(event)}")
        before = self._values
        self._count(1, event)
        if isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            value = _scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _sequence(self, depth: int) -> list[Any]:
        values = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, depth + 1))
        return values

    def _mapping(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        twice = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise ValueError(f"a key must be a text, not a list or mapping{_place(event)}")
            if key in values:
                twice.append(f"{key[:60]}: given twice{_place(event)}")
            values[str(key)] = self._value(next(self._events), depth + 1)
        if twice:
            raise ValueError("; ".join(twice[:3]))
        return values

    def _count(self, n: int, event: yaml.Event) -> None:
        self._values += n
        if self._values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values{_place(event)}")


def _scalar(event: yaml.ScalarEvent) -> str:
    text = event.value
    if not _is_text(text):
        raise ValueError(f"{text[:60]!r} holds what is no character{_place(event)}")
    if event.style is not None or event.tag == "!":  # quoted, or a block
        return str(text)
    return Scalar(text, _meaning(text))


def _meaning(text: str) -> Any:
    """What a plain scalar means by the core schema; a text means itself."""
    if len(text) > MAX_NUMBER:
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text) or _NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _is_text(text: str) -> bool:
    """Whether `text` can be written to a file: no lone surrogates, and no NUL, which no file's name may have."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _place(event: yaml.Event) -> str:
    mark = event.start_mark
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
