"""The sampler: epochs are permutations, and a restored sampler goes on exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toposampler.data import Sampler

torch.set_num_threads(1)

SIZES = st.integers(1, 40)
COUNTS = st.lists(st.integers(1, 100), min_size=1, max_size=6)


@settings(deadline=None)
@given(n=SIZES, seed=st.integers(0, 2**63), before=COUNTS, after=COUNTS)
def test_a_restored_sampler_goes_on_exactly(n: int, seed: int, before: list[int], after: list[int]) -> None:
    sampler = Sampler(n, seed)
    for count in before:
        sampler.next(count)
    restored = Sampler(n, seed)
    restored.load_state_dict(sampler.state_dict())
    for count in after:
        assert torch.equal(sampler.next(count), restored.next(count))


@settings(deadline=None)
@given(n=SIZES, seed=st.integers(0, 2**63), counts=COUNTS)
def test_the_order_does_not_depend_on_how_it_is_cut(n: int, seed: int, counts: list[int]) -> None:
    cut, whole = Sampler(n, seed), Sampler(n, seed)
    assert torch.equal(torch.cat([cut.next(count) for count in counts]), whole.next(sum(counts)))


@settings(deadline=None)
@given(n=SIZES, seed=st.integers(0, 2**63))
def test_each_epoch_is_a_permutation(n: int, seed: int) -> None:
    drawn = Sampler(n, seed).next(3 * n)
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn.view(3, n).sort(dim=1).values, torch.arange(n).expand(3, n))


def test_epochs_and_seeds_differ() -> None:
    sampler = Sampler(1000, seed=0)
    first, second, other = sampler.next(1000), sampler.next(1000), Sampler(1000, seed=1).next(1000)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(second, other)


def test_what_was_drawn_does_not_change_the_order() -> None:
    sampler = Sampler(10, seed=0)
    sampler.next(4).zero_()
    assert torch.equal(sampler.order, Sampler(10, seed=0).order)


def test_a_state_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="position 20 lies outside a data set of 10 samples"):
        Sampler(10, seed=0).load_state_dict({"epoch": 0, "position": 20})
