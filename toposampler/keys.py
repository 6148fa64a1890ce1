"""What may be done with a key of a configuration beside setting it: it is stated at the field that declares the key.

    learning_rate: float = Field(2e-4, gt=0, json_schema_extra=may(branch=True, search={"loguniform": [1e-4, 1e-2]}))

| statement | the key may |
|---|---|
| `resume` | have another value when a run is resumed: it says where the run works, not what is computed |
| `lengthen` | have a larger value when a run is resumed, if its steps so far would have been the same with it |
| `branch` | have another value in a run that continues from another run's checkpoint: it is read anew at every step; |
| | what may change on resume may change here too |
| `search` | be searched by a sweep: it says what is learned, and how, not for how long, on what data, by what seed; |
| | a range, written as in a SWEEP.yaml, is also what `ready` stands for; its `when` names keys of the same section |

What is not stated may not be done. A statement on a field that holds a section holds for all keys below it, unless they
state otherwise. A class that declares a field anew keeps the statements of its base. Population based training moves
the keys that may be searched and branched.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from pydantic import BaseModel

_PLACE = "may"

OLD_NAMES = {  # old spelling: new
    "initialisation": "initialization",  # old spelling
    "neighbours": "neighbors",  # old spelling
    "standardise": "standardize",  # old spelling
}
"""keys by the names that they had until 2026; files and commands that have these stay valid"""

Range = Mapping[str, Any]
"""a range as it is written in a SWEEP.yaml: {"loguniform": [1e-4, 1e-2]}"""


def may(
    *,
    resume: bool | None = None,
    lengthen: bool | None = None,
    branch: bool | None = None,
    search: bool | Range | None = None,
) -> dict[str, Any]:
    """The `json_schema_extra` of a field that states this of its key; None: what is stated of the section."""
    stated = {"resume": resume, "lengthen": lengthen, "branch": branch, "search": search}
    return {_PLACE: {name: value for name, value in stated.items() if value is not None}}


def may_resume(config: BaseModel, key: str) -> bool:
    """Whether a run, or a sweep, may be resumed with another value of the dotted `key` of `config`."""
    return bool(_stated(config, key).get("resume"))


def may_lengthen(config: BaseModel, key: str) -> bool:
    """Whether a run may be resumed with a larger value of the dotted `key` of `config`, if no step so far differs."""
    return bool(_stated(config, key).get("lengthen"))


def may_branch(config: BaseModel, key: str) -> bool:
    """Whether the dotted `key` of `config` may differ between a run and the one whose checkpoint it continues from."""
    stated = _stated(config, key)
    return bool(stated.get("resume") or stated.get("branch"))


def may_search(config: BaseModel, key: str) -> bool:
    """Whether a sweep may search the dotted `key` of `config`."""
    return bool(_stated(config, key).get("search"))


def new_name(key: str, known: Container[str]) -> str:
    """The dotted `key`, or the name that it has today if only that is `known`."""
    today = ".".join(OLD_NAMES.get(part, part) for part in key.split("."))
    return today if key not in known and today in known else key


def with_new_names(content: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """`content` with the names that its keys have today, if these are `known`.

    Raises ValueError if a key is given by both names.
    """
    for old in content:
        today = new_name(old, known)
        if today != old and today in content:
            raise ValueError(f"{today} is given twice: {old} is its old name; give one of them")
    return {new_name(key, known): value for key, value in content.items()}


def has_key(config: BaseModel, key: str) -> bool:
    """Whether `config` has the dotted `key`."""
    section: Any = config
    for part in key.split("."):
        if not isinstance(section, BaseModel):
            return isinstance(section, Mapping)
        if part not in type(section).model_fields:
            return False
        section = getattr(section, part)
    return True


def ready_ranges(section: BaseModel, prefix: str = "") -> dict[str, dict[str, Any]]:
    """The ranges stated by the keys below `section`, by dotted keys that start with `prefix`.

    A `when` on a key that has no range of its own is settled here: it holds in `section`, and is dropped, or does not
    hold, and the range is.
    """
    own = type(section)
    stated = {name: _of_field(own, name).get("search") for name in own.model_fields}
    ranges: dict[str, dict[str, Any]] = {}
    for name, written in stated.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            ranges |= ready_ranges(value, f"{prefix}{name}.")
        if not isinstance(written, Mapping):
            continue
        conditions = written.get("when", {})
        fixed = [other for other in conditions if not isinstance(stated[other], Mapping)]
        if all(getattr(section, other) in conditions[other] for other in fixed):
            when = {f"{prefix}{other}": allowed for other, allowed in conditions.items() if other not in fixed}
            kind = {key: content for key, content in written.items() if key != "when"}
            ranges[f"{prefix}{name}"] = kind | ({"when": when} if when else {})
    return ranges


def _stated(config: BaseModel, key: str) -> dict[str, Any]:
    """All that is stated of the dotted `key` of `config`: nothing, if it has no such key."""
    if not has_key(config, key):
        return {}
    stated: dict[str, Any] = {}
    section: Any = config
    for part in key.split("."):
        if not isinstance(section, BaseModel):  # below a field that holds a mapping
            break
        stated |= _of_field(type(section), part)
        section = getattr(section, part)
    return stated


def _of_field(section: type[BaseModel], name: str) -> dict[str, Any]:
    """What the class `section` and its bases state of their field `name`, the nearest class last."""
    stated: dict[str, Any] = {}
    for base in reversed(section.__mro__):
        field = base.model_fields.get(name) if issubclass(base, BaseModel) else None
        if field is not None and isinstance(field.json_schema_extra, dict):
            found = field.json_schema_extra.get(_PLACE, {})
            assert isinstance(found, dict)
            stated |= found
    return stated
