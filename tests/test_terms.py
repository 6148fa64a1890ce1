"""Words that must not come back: metaphors and translations where the field has a term. One list, with the term."""

from __future__ import annotations

import re

import pytest
from processes import ROOT

TERMS = {
    r"\bgo(es|ing)? on (with|from|where)\b|\bgone on with\b": "resume, continue",
    r"\btold apart\b": "distinguished",
    r"\bunless told\b": "unless set, unless asked",
    r"\bthe house\b|\bhouse's\b": "the package",
    r"\bsuperfluous\b": "not needed",
    r"\b(comes?|came) apart\b": "is disconnected",
    r"\blooks on\b": "evaluates",
    r"\bstrays?\b": "outlier, off-manifold sample",
    r"\blikeliest\b": "argmax, most probable",
    r"\bwithout (an )?ending\b": "without an extension",
    r"\bjudged? by\b": "evaluated by, scored by",
    r"\bstands? on floors\b|\bfloors? (below|above)\b": "layer",
    r"\bhears of\b": "gets a gradient for",
    r"\bevery other code than\b": "every failure",
}
BRITISH = re.compile(
    r"colour|neighbour|behaviour|centre|\bgreys?\b|licence|judgement|labelled|modelled|artefact"
    r"|(normal|initial|optim|regular|standard|memor|recogn|minim|maxim|penal|general|serial|visual|summar|random)is(e|ing|ation)",
    re.IGNORECASE,
)
"""spelling is American, as torch's is; a line that needs another, for what is older, says `old spelling`"""
PLACES = ("README.md", "ARCHITECTURE.md", "docs", "k8s", "toposampler", "ray_jobs", "tuning", "benchmarks")
TEXTS = sorted(
    path
    for place in PLACES
    for path in [ROOT / place, *(ROOT / place).rglob("*")]
    if path.suffix in (".py", ".md", ".yaml", ".js", ".css", ".html")
    if not {"_build", "generated", "__pycache__"} & set(path.parts)
)


@pytest.mark.parametrize("pattern", TERMS)
def test_the_fields_term_is_used(pattern: str) -> None:
    """A phrase may be broken over two lines."""
    word = re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}: {match[0]!r}"
        for path in TEXTS
        for text in [path.read_text()]
        for match in word.finditer(text)
    ]
    assert not found, f"say {TERMS[pattern]}:\n" + "\n".join(found)


def test_spelling_is_american() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word[0]!r}"
        for path in [*TEXTS, *sorted((ROOT / "tests").glob("*.py"))]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if not re.search(r"old spelling|[\"-]licence", line)  # a name in model.json, and an option
        if path.name != "test_terms.py"
        for word in BRITISH.finditer(line)
    ]
    assert not found, "\n".join(found)
