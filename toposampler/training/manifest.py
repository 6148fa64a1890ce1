"""The manifest of a model directory: what `model.json` may hold, with bounds, and its own check sum.

Everything in it is checked before anything is done with it: a model may come from anywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from toposampler.errors import UserError

SCHEMA = 2
READABLE = (1, 2)
MANIFEST, CONFIG, WEIGHTS, SAMPLES = "model.json", "config.json", "weights.safetensors", "samples.png"
LARGEST_JSON = 4 * 2**20
"""bytes of a JSON file of a model, at most: the largest written so far have some ten thousand"""
MOST_VALUES = 2**31
"""numbers in one sample, at most"""


def _of_one_sample(shape: list[int]) -> list[int]:
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"a sample has at most {MOST_VALUES:,} numbers")
    return shape


Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Shape = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8), AfterValidator(_of_one_sample)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(_Part):
    """What a model was trained on."""

    name: Text
    sha256: Digest


class OwnNetwork(_Part):
    """A network that is not the package's: what it was made by, as `module:function`, and the SHA-256 of its source."""

    name: Text
    sha256: Digest | None
    """None: there is no source that could be read"""

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256 or 'unknown: its source could not be read'})"


class Manifest(_Part):
    """The content of `model.json`."""

    version: int = Field(alias="schema", ge=1)
    license: Text | None
    """of the weights, an SPDX identifier; None: its owner has not said"""
    data: Data
    system: Text
    shape: Shape
    """of one sample"""
    step: int = Field(ge=0, lt=2**53)
    """generator steps it was trained for"""
    evaluation: Annotated[dict[Text, float], Field(max_length=100_000)] | None
    """metrics of this model by name; None: it was not evaluated"""
    files: dict[Text, Digest] = Field(min_length=3, max_length=100)
    """SHA-256 of each other file"""
    networks: dict[Literal["generator", "critic"], OwnNetwork] = Field({}, max_length=2)
    """by role, `generator` and `critic`, where they are not the package's; since schema 2"""
    sha256: Digest | None = None
    """of all the rest, as `check_sum` makes it; since schema 2"""


def check_license(name: str) -> str:
    """`name` if a manifest can hold it as a license. Raises UserError."""
    try:
        return TypeAdapter(Text).validate_python(name)
    except ValidationError:
        raise UserError(
            f"--license {name[:80]!r}: a license is an SPDX identifier such as CC-BY-4.0, of 1 to 255 characters "
            "without control characters"
        ) from None


def check_sum(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest without its own `sha256`, as canonical JSON: sorted keys, no spaces."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `content`, the fields of a manifest but for schema and check sum, to `folder`."""
    whole = {"schema": SCHEMA, **content}
    (folder / MANIFEST).write_text(json.dumps({**whole, "sha256": check_sum(whole)}, indent=2))


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises UserError if there is none, if it was altered or written by a newer version, or if a value in it is not what
    it must be.
    """
    path = folder / MANIFEST
    try:
        content = parsed_json(content_of(path, LARGEST_JSON), path)
    except FileNotFoundError:
        raise UserError(f"{folder} is not a model directory: it has no {MANIFEST}") from None
    schema = content.get("schema")
    if type(schema) is not int:
        raise UserError(f"{path} is not the manifest of a model: it has no schema version")
    if schema not in READABLE:
        raise UserError(f"{path} has schema {schema}; this version reads schemas {' and '.join(map(str, READABLE))}")
    if schema > 1 and content.get("sha256") != (found := check_sum(content)):
        raise UserError(f"{path} was altered: its content has SHA-256 {found}, and it names {content.get('sha256')}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path} is not the manifest of a model:\n{told(error)}") from None
    if lacking := {CONFIG, WEIGHTS, SAMPLES} - manifest.files.keys():
        raise UserError(f"{path}: files lacks {', '.join(sorted(lacking))}")
    return manifest


def content_of(path: Path, most: int | None = None) -> bytes:
    """What is in the file `path` of a model, of at most so many bytes.

    Raises FileNotFoundError if there is none; UserError if it is a link, a folder or a pipe, is larger, or cannot be
    read.
    """
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise UserError(f"{path} is a symbolic link; a model's files lie in its own directory")
        if not stat.S_ISREG(status.st_mode):  # of which a pipe would be waited for
            raise UserError(f"{path} is not a file")
        if most is not None and status.st_size > most:
            raise UserError(f"{path} has {status.st_size:,} bytes; a model's has at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'out of memory'}") from None


def parsed_json(text: bytes, path: Path) -> dict[str, Any]:
    """The object that the JSON `text` of the file `path` holds. Raises UserError if it is none."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise UserError(f"{path} cannot be read: it is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, not {type(content).__name__}")
    return content


def told(error: ValidationError) -> str:
    """A line for each of the first faults of what was stored: where, what is wrong, what was found."""
    lines = []
    for fault in error.errors()[:5]:
        place = ".".join(str(part)[:80] for part in fault["loc"]) or "content"
        message = fault["msg"].removeprefix("Value error, ")
        lines.append(f"  {place}: {message[0].lower() + message[1:]} (got {repr(fault['input'])[:80]})")
    return "\n".join(lines)
