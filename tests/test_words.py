"""The words of a run: which component samples are on, and the sentence and warnings that come of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.metrics.findings import Findings, find
from toposampler.records import Record
from toposampler.reporting.intervals import headline, interval
from toposampler.reporting.words import number, percent, verdict, warnings

CENTERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
MASSES = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def blobs(n: int, seed: int, masses: Tensor = MASSES) -> tuple[Tensor, Tensor]:
    """Points (n, 2) of three blobs, and their components (n,)."""
    rng = torch.Generator().manual_seed(seed)
    components = torch.multinomial(masses, n, replacement=True, generator=rng)
    return CENTERS[components] + 0.3 * torch.randn(n, 2, generator=rng), components


@pytest.fixture(scope="module")
def data() -> Dataset:
    x, labels = blobs(2000, 0)
    return Dataset(x, labels, MASSES)


def found(data: Dataset, x: Tensor, ids: Tensor, prior: list[float] | None) -> Findings:
    return find(data, x, ids, None if prior is None else torch.tensor(prior), seed=0)[0]


def test_a_good_run_is_one_sentence_without_warnings(data: Dataset) -> None:
    x, components = blobs(2000, 1)
    ids = torch.where(components == 0, torch.arange(2000) % 2 * 3, components)  # generators 0 and 3 share component 0
    findings = found(data, x, ids, [0.3, 0.302, 0.1, 0.298])
    said = verdict(findings)
    assert said == (
        "3 components in the data, 4 generators on them: {0, 3} .60, {1} .30, {2} .10; nothing between them; weights "
        "right within .002"
    )
    assert list(warnings(findings, (), 2000)) == []
    assert [round(c.samples, 1) for c in findings.components] == [0.6, 0.3, 0.1]
    assert 0.0 < findings.copies < 0.15, "fresh draws: 0.05"


def test_points_without_labels_have_the_components_that_gaps_show(data: Dataset) -> None:
    x, components = blobs(1000, 1)
    findings = found(replace(data, labels=None, weights=None), x, components, None)
    assert findings.source == "points"
    assert verdict(findings).startswith("3 components in the data, 3 generators on them: {")


def test_what_lies_between_is_named_with_its_makers(data: Dataset) -> None:
    x, components = blobs(2000, 1)
    x[:40] = torch.tensor([5.0, 0.0])
    x[40:50] = torch.tensor([-9.0, -9.0])  # off the data, and between nothing
    components[:40] = 1
    findings = found(data, x, components, [0.6, 0.3, 0.1])
    assert findings.between is not None
    (pair,) = findings.between
    assert (pair.components, pair.share, pair.generators) == ((0, 1), 0.02, (1,))
    assert findings.off == pytest.approx(0.025, abs=0.005)
    assert "2 % of the samples between them" in verdict(findings)
    assert "2 % of the samples lie between components 0 and 1, made by generator 1" in list(warnings(findings))


def test_a_generator_on_two_components_and_one_that_is_missing(data: Dataset) -> None:
    x, components = blobs(2000, 1, torch.tensor([0.6, 0.4, 0.0]))
    findings = found(data, x, torch.zeros_like(components), None)
    assert verdict(findings).startswith("3 components in the data, one generator with masses .")
    assert "component 2 is missing" in verdict(findings)
    said = " / ".join(warnings(findings))
    assert "generator 0 is on two components: 0 with 59 % of its samples and 1 with 41 %" in said
    assert "component 2 is missing: 10 % of the data, 0 % of samples" in said


def test_components_of_one_fault_are_named_together(data: Dataset) -> None:
    point = CENTERS[:1].expand(2000, -1)
    collapsed = found(data, point, torch.zeros(2000, dtype=torch.int64), None)
    assert "components 1 and 2 are missing" in verdict(collapsed)
    said = [line for line in warnings(collapsed) if "missing" in line or "holes" in line]
    assert said[0] == "components 1 and 2 are missing: 40 % of the data, 0 % of samples"
    assert [line.split(":")[0] for line in said[1:]] == ["component 0 has holes"]


def test_copies_holes_and_few_samples_are_warned_of(data: Dataset) -> None:
    copies = found(data, data.x, torch.zeros(2000, dtype=torch.int64), None)
    assert copies.copies > 0.9
    assert any("may be memorized" in said for said in warnings(copies))
    point = CENTERS[torch.arange(300) % 3]
    collapsed = found(data, point, torch.arange(300) % 3, None)
    said = " / ".join(warnings(collapsed, (), 400))
    assert "only 300 samples were evaluated" in said
    assert "component 2 of the data has fewer than 50 points" in said
    wide = Dataset(torch.rand(2000, 2) * 10)
    holes = found(wide, torch.rand(2000, 2) * torch.tensor([10.0, 3.0]), torch.zeros(2000, dtype=torch.int64), None)
    assert any("the data has holes: only 3" in said for said in warnings(holes))


def test_a_prior_that_still_moves_is_warned_of(data: Dataset) -> None:
    x, components = blobs(1000, 1)
    findings = found(data, x, components, [0.6, 0.3, 0.1])
    records = [Record(step, 0.0, {"mass/0": mass, "mass/1": 1 - mass}, 0) for step, mass in ((90, 0.5), (100, 0.55))]
    assert any(
        "the prior still moves: generator 0 went from .50 to .55" in said for said in warnings(findings, records)
    )
    still = [Record(100, 0.0, {"mass/0": 0.51, "mass/1": 0.49}, 0)]
    assert not any("still moves" in said for said in warnings(findings, records[:1] + still))


@pytest.mark.parametrize(
    ("value", "shown"), [(0.59, ".59"), (0.1, ".10"), (0.002, ".002"), (1.0, "1.00"), (0.0, ".00"), (0.0213, ".021")]
)
def test_shares_are_written_as_papers_do(value: float, shown: str) -> None:
    assert number(value) == shown


def test_percents_have_two_digits() -> None:
    shown = [percent(x) for x in (0, 0.0002, 0.0123, 0.5, 0.999, 1)]
    assert shown == ["0 %", "0.02 %", "1.2 %", "50 %", "99.9 %", "100 %"]


def test_an_interval_is_wilson_s_of_shares_alone() -> None:
    assert interval("off_manifold_0.05", 0.0, 100) == pytest.approx((0.0, 0.03699), abs=1e-4)
    assert interval("off_support_nn99", 0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)
    assert interval("energy_distance_root", 0.1, 100) is None
    assert headline({"jsd_nats": 0.1, "score": 1.0, "coverage_k5": 0.9}) == ["score", "coverage_k5", "jsd_nats"]
