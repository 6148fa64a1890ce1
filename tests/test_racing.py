"""Racing: closed forms of its intervals, and simulated races whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from toposampler.tuning.racing import Interval, compare, paired, survivors


def test_an_interval_is_that_of_the_paired_t_test() -> None:
    a, b = [1.0, 2.0, 4.0, 3.0], [0.5, 2.5, 2.0, 2.0]
    found = paired(a, b, 0.9)
    oracle = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))


def test_two_seeds_have_cauchys_interval() -> None:
    """With one degree of freedom Student's quantile is tan(pi (p - 1/2)); differences 0 and 2 have error 1."""
    half = math.tan(math.pi * 0.475)
    found = paired([1.0, 5.0], [1.0, 3.0], 0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1 - half, 1 + half))


def test_what_a_seed_does_to_both_does_not_count() -> None:
    seeds = np.array([0.0, 100.0, -50.0])
    assert paired(1 + seeds, seeds, 0.95) == Interval(1.0, 1.0, 1.0)


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        paired([1.0], [0.0], 0.95)


def test_the_best_part_goes_on_with_the_base_and_a_rival() -> None:
    noise = np.array([-1.0, 0.0, 1.0])
    means = np.array([9.0, 3.0, 1.0, 2.0, 5.0, 4.0])
    scores = means[:, None] + np.stack([noise * (-1) ** i for i in range(6)])  # differences of neighbors vary
    assert survivors(scores, 0, 3, 0.95) == [0, 2, 3], "the base is the worst, and goes on"
    assert survivors(scores, 2, 6, 0.95) == [2, 3], "the base is the best: the best of the others is its rival"
    assert survivors(scores, 2, 1, 1e-9) == [2, 3], "all others are worse beyond so little doubt"
    assert survivors(scores, 2, 1, 0.999999) == [1, 2, 3, 5], "0 and 4 are worse by as much with every seed"


def test_a_setting_that_is_worse_beyond_doubt_ends_before_the_cut() -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1.1, 2.1, 3.1], [1.0, 2.3, 3.2], [0.9, 2.1, 3.1]])
    assert survivors(scores, 0, 1, 0.95) == [0, 2, 3], "of the second every seed is worse by .1: no doubt is left"


def test_a_winner_is_better_only_if_its_interval_excludes_0() -> None:
    sure = compare([0.1, 0.2, 0.3], [1.1, 1.2, 1.4], 0.95)
    assert sure.better
    unsure = compare([0.1, 0.9, 0.3], [1.1, 0.2, 1.4], 0.95)
    assert not unsure.better
    assert unsure.difference.mean < 0
    assert unsure.missed == pytest.approx(-unsure.difference.low)
    worse = compare([2.1, 2.2, 2.4], [1.1, 1.2, 1.3], 0.95)
    assert (worse.better, worse.missed) == (False, 0.0)


def race(rng: np.random.Generator, truth: np.ndarray, seeds: int, noise: float) -> int:
    """The winner of a race of three rungs with halving by 3, whose noise falls towards the end; -1: nothing better."""
    left = list(range(len(truth)))
    of_seeds = rng.normal(0, 0.5, seeds)
    for rung in (4.0, 2.0, 1.0):
        scores = truth[left, None] + of_seeds + rng.normal(0, noise * rung, (len(left), seeds))
        if rung > 1:
            left = [left[i] for i in survivors(scores, 0, 3, 0.95)]
    order = np.argsort(scores.mean(axis=1))
    winner = next(left[i] for i in order if left[i] != 0)
    fresh = rng.normal(0, 0.5, 10)
    mine, theirs = (truth[i] + fresh + rng.normal(0, noise, 10) for i in (winner, 0))
    return winner if compare(mine, theirs, 0.95).better else -1


def test_races_find_what_is_better_and_say_so_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    alike = [race(rng, np.full(12, 1.0), 4, 0.3) for _ in range(400)]
    false = np.mean([winner >= 0 for winner in alike])
    assert 0.005 < false < 0.06, "one side of an interval of 95 %: 2.5 % of races say that equals are better"
    truth = np.full(12, 1.0)
    truth[5] = 0.2
    found = [race(rng, truth, 4, 0.2) for _ in range(200)]
    assert np.mean([winner == 5 for winner in found]) > 0.8
