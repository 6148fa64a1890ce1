"""Generations of a race: later settings lie between the best of the earlier ones, and compete with them."""

from __future__ import annotations

import math
import random

import pytest

from toposampler.tuning.generations import between, parents
from toposampler.tuning.spaces import Choice, Number, Space, Whole


def test_parents_are_the_best_third_and_those_that_were_trained_for_longer_come_first() -> None:
    settings = [({"a": i}, steps, score) for i, (steps, score) in enumerate([(9, 3.0), (9, 1.0), (3, 0.1), (9, 2.0)])]
    assert parents(settings) == [{"a": 1}, {"a": 3}]
    assert parents(settings[:2]) == [{"a": 1}, {"a": 0}], "at least two"
    assert len(parents(settings * 2)) == 3


def test_a_setting_between_others_has_numbers_within_theirs_and_choices_of_theirs() -> None:
    space: Space = {
        "rate": Number(1e-4, 1e-2, log=True),
        "share": Number(0.0, 1.0),
        "K": Whole(2, 20),
        "kind": Choice(("a", "b", "c")),
        "only_b": Number(5.0, 6.0, when={"kind": ("b",)}),
    }
    of = [{"rate": 1e-4, "share": 0.2, "K": 4, "kind": "a"}, {"rate": 1e-2, "share": 0.4, "K": 8, "kind": "b"}]
    rng = random.Random(0)
    made = [between(space, of, rng) for _ in range(2000)]
    assert {values["K"] for values in made} == {4, 5, 6, 7, 8}
    assert {values["kind"] for values in made} == {"a", "b"}
    assert all(("only_b" in values) == (values["kind"] == "b") for values in made)
    assert all(5 <= values["only_b"] <= 6 for values in made if "only_b" in values), "drawn, as no parent has it"
    assert 0.2 <= min(values["share"] for values in made) < 0.21
    assert 0.39 < max(values["share"] for values in made) <= 0.4
    # w / (w + v) of two exponentials is uniform in [0, 1]: the logarithms have the mean of both ends.
    assert sum(math.log10(values["rate"]) for values in made) / len(made) == pytest.approx(-3, abs=0.05)
