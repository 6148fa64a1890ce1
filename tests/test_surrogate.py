"""A Gaussian process of scores: what it expects of settings, and how they are told to it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from toposampler.tuning.config import load_sweep
from toposampler.tuning.ledger import Entry, ranked
from toposampler.tuning.report import by_expectation
from toposampler.tuning.spaces import Choice, Number, Space, Values, Whole
from toposampler.tuning.surrogate import coordinates, expected

SPACE: Space = {
    "rate": Number(1e-4, 1e-2, log=True),
    "K": Whole(2, 10),
    "kind": Choice(("a", "b")),
    "only_b": Number(5.0, 6.0, when={"kind": ("b",)}),
}


def test_places_count_over_ranges_and_choices_have_columns() -> None:
    settings: list[Values] = [
        {"rate": 1e-3, "K": 10, "kind": "a"},
        {"rate": 1e-4, "K": 4, "kind": "b", "only_b": 5.75},
    ]
    assert coordinates(SPACE, settings) == pytest.approx(
        np.array([[0.5, 1.0, 1, 0, 0.5], [0.0, 0.25, 0, 1, 0.75]]), abs=1e-12
    )


def truth(setting: Values) -> float:
    """Least at a rate of 1e-3 and the kind b."""
    return (np.log10(setting["rate"]) + 3) ** 2 + 0.3 * (setting["kind"] == "a")


def test_the_best_by_expectation_is_better_than_the_best_by_score() -> None:
    rng, noise, errors, gained = random.Random(0), np.random.default_rng(0), [], []
    for _ in range(12):
        settings: list[Values] = []
        for _ in range(40):
            kind = rng.choice("ab")
            setting = {"rate": 10 ** rng.uniform(-4, -2), "K": rng.randint(2, 10), "kind": kind}
            settings.append(setting | ({"only_b": rng.uniform(5, 6)} if kind == "b" else {}))
        scores = [truth(setting) + noise.normal(0, 0.3) for setting in settings]
        means = expected(SPACE, settings, scores)
        assert means == expected(SPACE, settings, scores), "the same in each call"
        true = np.array([truth(setting) for setting in settings])
        errors.append([np.abs(found - true).mean() for found in (np.array(scores), np.array(means))])
        gained.append(true[np.argmin(scores)] - true[np.argmin(means)])
    of_scores, of_means = np.mean(errors, axis=0)
    assert of_means < 0.7 * of_scores, "what is expected is nearer to the truth than a score"
    assert np.mean(gained) > 0, "its best setting is better in truth than the one of the best score"


def test_equal_scores_and_a_space_without_keys_are_expected_as_they_are() -> None:
    settings: list[Values] = [{"rate": 1e-3, "K": 3, "kind": "a"}, {"rate": 1e-4, "K": 4, "kind": "a"}]
    assert expected(SPACE, settings, [0.5, 0.5]) == [0.5, 0.5]
    assert expected({}, [{}, {}], [0.25, 0.75]) == [0.5, 0.5]
    assert expected(SPACE, settings[:1], [0.25]) == [0.25]


def test_a_race_by_a_model_compares_the_setting_that_the_model_expects_most_of(tmp_path: Path) -> None:
    """Scores are least in the middle of the range; one far from it, with poor settings around it, had luck."""
    base = {"name": "b", "data": {"name": "lines", "n": 100}, "system": {"name": "wgan_gp"}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    content = {
        "name": "s",
        "base": "base.yaml",
        "output": str(tmp_path / "runs"),
        "space": {"system.generator.learning_rate": {"loguniform": [1e-4, 1e-2]}},
        "search": {"name": "gp"},
        "trials": 20,
        "scheduler": {"name": "racing", "rungs": 1, "generations": 2},
        "repeats": 1,
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    sweep, entries = load_sweep(tmp_path / "s.yaml"), []
    for i, place in enumerate(np.linspace(0, 1, 21)):
        score = 1 + 4 * (place - 0.5) ** 2 + 0.02 * (-1) ** i - (1.5 if i == 19 else 0)
        values = {"system.generator.learning_rate": 10 ** (2 * place - 4)}
        entries.append(Entry(i, values, "finished", {"score": score}, 10, ""))
    assert ranked(sweep, entries)[0].number == 19
    assert abs(by_expectation(sweep, entries)[0].number - 10) <= 4
    assert by_expectation(sweep, []) == []
