"""A report links each metric to its definition, which is that of docs/metrics.md."""

from __future__ import annotations

import re

import pytest

from toposampler.metrics.catalog import KINDS, NUMBER
from toposampler.reporting.definitions import anchors, as_html, definitions, listed, place
from toposampler.reporting.tables import table

NAMES = [NUMBER.sub(lambda number: "0.05" if number[0] == "{tau}" else "12", kind.name) for kind in KINDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_defined(name: str) -> None:
    assert place(name) is not None, f"docs/metrics.md has no row for {name}"


def test_a_definition_is_that_of_its_metric_alone() -> None:
    rows = {name: definitions()[row] for name in NAMES if (row := place(name)) is not None}
    assert rows["score"][0] == ("score",)
    assert "nearest" in rows["jsd_nats_nn1"][1]
    assert "natural logarithm" in rows["jsd_nats"][1]
    assert rows["kid_12"] != rows["kid_classifier_12"]
    assert rows["coverage_k5"] != rows["coverage_k5_min"]
    assert place("mine") is None
    assert place("score_of_mine") is None


def test_links_lead_to_definitions() -> None:
    shown = ["score", "kid_12", "mine"]
    text = "\n".join([*table(("", "value"), [(name, "1") for name in shown], links=anchors(shown)), *listed(shown)])
    targets = re.findall(r'href="#([^"]+)"', text)
    assert len(targets) == 2
    assert set(targets) == set(re.findall(r'id="([^"]+)"', text))


def test_markdown_becomes_text_with_code_and_outside_links() -> None:
    text = as_html("a < b: `x_*`, [paper](https://arxiv.org/abs/1), [below](#the-suite)")
    assert text == 'a &lt; b: <code>x_*</code>, <a href="https://arxiv.org/abs/1">paper</a>, below'
