"""The share of an objective that a key of a sweep explains."""

from __future__ import annotations

import pytest

from toposampler.reporting.importance import importance


def test_a_key_explains_all_nothing_or_half() -> None:
    values = [{"all": 10.0**i, "none": [1, 2, 2, 1][i % 4], "name": "ab"[i >= 4]} for i in range(8)]
    found = importance(values, [float(i**3) for i in range(8)])  # ranks alone count
    assert found["all"] == (pytest.approx(1), 8)
    assert found["none"][0] == pytest.approx(0, abs=1e-12)
    assert found["name"][0] == pytest.approx(4**2 / 4 / (63 / 12))  # means of ranks 2 from the middle; variance 63 / 12
    assert list(found) == ["all", "name", "none"]


def test_constant_keys_rare_keys_and_equal_objectives_are_left_out() -> None:
    values = [{"constant": 1, "x": i} | ({"rare": i} if i < 3 else {}) for i in range(6)]
    assert list(importance(values, [3.0, 1.0, 2.0, 5.0, 4.0, 6.0])) == ["x"]
    assert importance(values, [1.0] * 6) == {}
    assert importance([], []) == {}
