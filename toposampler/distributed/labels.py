"""Labels of nodes: what `cluster.label_selector` asks for, by Ray's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping


def has_labels(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node with these `labels` is one that `selector` asks for.

    A value asked for is `VALUE`, `!VALUE`, `in(VALUE,...)` or `!in(VALUE,...)`; a label that a node lacks is unlike any
    value (`src/ray/common/scheduling/label_selector.cc` of Ray 2.60).
    """
    return all(_has(labels.get(key), asked) for key, asked in selector.items())


def _has(value: str | None, asked: str) -> bool:
    other = asked.removeprefix("!")
    found = re.fullmatch(r"in\((.*)\)", other)
    values = re.split(r",\s*", found[1]) if found else [other]
    return (value in values) != asked.startswith("!")


def label_text(labels: Mapping[str, str]) -> str:
    """Labels as text: `zone=a, rack=!3`."""
    return ", ".join(f"{key}={value}" for key, value in labels.items())
