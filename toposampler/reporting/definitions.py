"""What each metric of a report means, from docs/metrics.md, which comes with the package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape

from toposampler.packaged import PACKAGE

NAME = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
PARTS = (  # of a name in the document, what stands there in a metric's own name
    (r"\*", ".+"),
    (r"_[NK]\b", r"_\\d+"),
    (r"(?<![a-z])\d+(\\\.\d+)?(?![a-z])", r"[\\d.]+"),
)


@cache
def definitions() -> tuple[tuple[tuple[str, ...], str], ...]:
    """The rows of the document's tables: the names, and the meaning as Markdown."""
    inside = PACKAGE / "metrics.md"
    text = (inside if inside.is_file() else PACKAGE.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = (line.strip("| \n").split(" | ", 1) for line in text.splitlines() if line.startswith("| `"))
    return tuple((tuple(NAME.findall(names)), meaning) for names, meaning in rows)


def place(metric: str) -> int | None:
    """The number of the row that defines `metric`; None: it is not the package's."""
    for i, (names, _) in enumerate(definitions()):
        if any(_pattern(name).fullmatch(metric) for name in names):
            return i
    return None


def anchors(metrics: Iterable[str]) -> dict[str, str]:
    """The id of the definition of each of `metrics` that has one."""
    return {metric: f"metric-{row}" for metric in metrics if (row := place(metric)) is not None}


def listed(metrics: Iterable[str]) -> Iterator[str]:
    """The definitions of `metrics` as lines of HTML, each with its id."""
    yield '<dl class="definitions">'
    for i in sorted({row for metric in metrics if (row := place(metric)) is not None}):
        names, meaning = definitions()[i]
        heads = ", ".join(f"<code>{escape(name)}</code>" for name in names)
        yield f'<dt id="metric-{i}">{heads}</dt><dd>{as_html(meaning)}</dd>'
    yield "</dl>"


def as_html(markdown: str) -> str:
    """A line of Markdown with code and links; links within the documentation become their text."""
    text = NAME.sub(r"<code>\1</code>", escape(markdown, quote=False))
    return LINK.sub(lambda at: f'<a href="{at[2]}">{at[1]}</a>' if at[2].startswith("https:") else at[1], text)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\*", "*")
    for part, stands in PARTS:
        pattern = re.sub(part, stands, pattern)
    return re.compile(pattern)
