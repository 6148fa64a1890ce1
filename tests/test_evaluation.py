"""The whole suite: what a draw tells, how draws are put together, and the command that shows and writes it."""

from __future__ import annotations

import csv
import json
import math
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from processes import assert_nothing_left, start
from torch import nn

from toposampler.commands import evaluation
from toposampler.data import Dataset
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.lines import LinesConfig
from toposampler.errors import UserError
from toposampler.evaluation.halves import halves, sample_count
from toposampler.evaluation.images import ImageMetrics, StackedMetrics
from toposampler.evaluation.job import Subject, sampled
from toposampler.evaluation.models import by_seed, described
from toposampler.evaluation.results import Estimate, Row, as_csv, as_json, over_seeds, row
from toposampler.evaluation.suite import Findings, Suite
from toposampler.evaluation.table import generators, table, text, warnings
from toposampler.lookup import held
from toposampler.metrics.catalog import KINDS, direction, is_detail, kind_of
from toposampler.metrics.classifier import Classifier
from toposampler.metrics.features import feature_metrics
from toposampler.rejection.training import train_weights
from toposampler.training import RunConfig, load_model, train

LINES = LinesConfig(n=1200).load()
LEVELS = torch.linspace(-0.9, 0.9, 10)
"""gray of each class of `grays`"""


def grays(classes: torch.Tensor, channels: int = 1) -> Dataset:
    """Images (n, channels, 8, 8), each channel one of ten grays by its class, and a little noise."""
    noise = 0.01 * torch.randn(len(classes), channels, 8, 8, generator=torch.Generator().manual_seed(len(classes)))
    x = LEVELS[classes].view(len(classes), channels, 1, 1) + noise
    labels = classes.view(len(classes), channels) @ 10 ** torch.arange(channels - 1, -1, -1)
    return Dataset(x, labels, torch.bincount(labels, minlength=10**channels).double() / len(labels))


@pytest.fixture
def classifier() -> Classifier:
    """One that tells the ten grays apart by the nearest level."""
    pixels, logits = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
    pixels.weight.data = torch.eye(64)
    logits.weight.data = (1000 * 2 * LEVELS / 64)[:, None].expand(10, 64).contiguous()
    logits.bias.data = -1000 * LEVELS.square()
    return Classifier(nn.Sequential(nn.Flatten(), pixels, logits).requires_grad_(False), 1.0, 100)


class TestHalves:
    def test_they_are_disjoint_and_keep_what_is_known_of_the_data(self) -> None:
        data = Dataset(torch.arange(21.0).view(21, 1), torch.arange(21) % 2, torch.tensor([0.5, 0.5]))
        first, second = halves(data, 10, seed=3)
        assert len(set(first.x[:, 0].tolist()) | set(second.x[:, 0].tolist())) == 20
        for half in (first, second):
            assert half.weights is data.weights
            assert torch.equal(half.labels, half.x[:, 0].long() % 2)
        assert not torch.equal(halves(data, 10, seed=4)[0].x, first.x)

    def test_as_many_samples_as_half_of_the_data(self) -> None:
        assert sample_count(LINES, None) == sample_count(LINES, 600) == 600
        assert sample_count(LinesConfig().load(), None) == 10_000
        with pytest.raises(UserError, match="-n 601: it must be at least 10 and at most 600, half of the 1,200 real"):
            sample_count(LINES, 601)
        for n in (None, 6, 13):
            with pytest.raises(
                UserError, match=r"^an evaluation needs at least 20 real samples, and the data has 13: "
            ):
                sample_count(Dataset(torch.zeros(13, 2)), n)
        assert sample_count(Dataset(torch.zeros(20, 2)), None) == 10


class TestSuite:
    def test_real_data_are_as_good_as_samples_can_be(self) -> None:
        real, others = halves(LINES, 600, seed=0)
        metrics = Suite(LINES, None).of_data(others, real, seed=0).metrics
        assert metrics["off_manifold_0.05"] == 0
        assert metrics["memorized_q0.05"] == pytest.approx(0.05, abs=0.04), "they are no copies of themselves"
        assert metrics["closer_than_test"] == pytest.approx(0.5, abs=0.05)
        assert metrics["precision_k3"] > 0.9
        assert metrics["recall_k3"] > 0.9
        assert abs(metrics["mmd2_600"]) < 0.01
        assert 0 < metrics["wasserstein_2_600"] < 0.2

    def test_copies_of_training_points_are_found(self) -> None:
        real, others = halves(LINES, 600, seed=0)
        ids = torch.zeros(600, dtype=torch.long)
        metrics = Suite(LINES, None).of_samples(others.x, ids, None, real, seed=0).metrics
        assert metrics["memorized_q0.05"] == 1
        assert metrics["closer_than_test"] > 0.95

    def test_copies_are_found_where_the_data_have_points_twice(self) -> None:
        twice = Dataset(torch.cat((LINES.x[:600], LINES.x[:600])), torch.zeros(1200, dtype=torch.long), torch.ones(1))
        real, others = halves(twice, 600, seed=0)
        copies, fresh = (
            Suite(twice, None).of_samples(x, torch.zeros(600, dtype=torch.long), None, real, seed=0).metrics
            for x in (others.x, LINES.x[600:])
        )
        assert copies["memorized_q0.05"] == 1
        assert fresh["memorized_q0.05"] == pytest.approx(0.05, abs=0.04)

    def test_data_that_are_mostly_equal_have_finite_metrics(self) -> None:
        mostly = LINES.x[:300] * (torch.arange(300) % 5 == 0)[:, None]
        data = Dataset(mostly, torch.zeros(300, dtype=torch.long), torch.ones(1))
        real, others = halves(data, 150, seed=0)
        metrics = Suite(data, None).of_data(others, real, seed=0).metrics
        assert abs(metrics["mmd2_150"]) < 0.05
        assert all(math.isfinite(value) for value in metrics.values())
        same = Dataset(torch.ones(40, 2), torch.zeros(40, dtype=torch.long), torch.ones(1))
        assert "mmd2_20" not in Suite(same, None).of_data(*halves(same, 20, seed=0), seed=0).metrics

    def test_a_dropped_component_shows_in_the_table(self) -> None:
        real, others = halves(LINES, 500, seed=0)
        kept = LINES.x[LINES.labels != 0][:500]
        ids = torch.arange(500).sort().values // 250
        suite = Suite(LINES, None)
        rows = [
            row("real", [suite.of_data(others, real, seed=0)]),
            row("dropped", [suite.of_samples(kept, ids, torch.tensor([0.5, 0.5]), real, seed=0)]),
        ]
        lines = list(table(rows))
        start = lines.index("\non the support, and all of it")
        names, better, of_real, of_dropped = (line.split() for line in lines[start + 1 : start + 5])
        assert dict(zip(names, better[1:], strict=True)) == {name: direction(name) for name in names}
        place = names.index("coverage_0.05_min")
        assert float(of_real[1:][place]) > 0.8
        assert of_dropped[1:][place] == "0"
        assert of_dropped[1:][names.index("off_manifold_0.05")] == "0"
        assert rows[1].metrics["mmd2_500"].mean > 10 * abs(rows[0].metrics["mmd2_500"].mean)
        assert all(len(line) <= 120 for line in lines)

    def test_images_are_seen_by_class(self, classifier: Classifier) -> None:
        real = grays(torch.arange(400) % 2)
        samples = grays(torch.arange(200) // 150)  # three quarters of them of class 0
        ids = torch.cat((torch.zeros(100, dtype=torch.long), torch.full((100,), 4)))  # 4 makes both
        metrics, seen = ImageMetrics(classifier).measure(samples.x, ids, halves(real, 200, seed=0)[0])
        assert metrics["confident_0.8"] == metrics["quality_0.9"] == 1
        assert metrics["jsd_nats_conf0.8"] == pytest.approx(0.0338, abs=5e-4)  # of (3/4, 1/4) and (1/2, 1/2)
        assert metrics["precision_k3_classifier"] > 0.6
        assert [(m.generator, m.share, m.majority, m.purity) for m in seen.makers] == [(0, 0.5, 0, 1), (4, 0.5, 0, 0.5)]
        assert metrics["purity"] == 0.75
        assert seen.quality[0] == 1
        assert metrics["msd_class_1"] > 0
        assert metrics["msd_images_class_1"] == 50
        assert metrics["msd_ratio_class_1"] == seen.msd_ratio[1] == pytest.approx(1, abs=0.4)
        assert "msd_ratio_class_2" not in metrics, "the data has no class 2"
        assert {name for name in metrics if name.startswith("fd_")} == {"fd_classifier_200"}
        dropped, _ = ImageMetrics(classifier).measure(samples.x[:150], None, halves(real, 150, seed=0)[0])
        assert dropped["msd_ratio_class_1"] == dropped["msd_ratio_min"] == 0
        assert dropped["recall_k3_classifier"] < 0.6

    def test_stacked_digits_are_counted_by_their_modes(self, classifier: Classifier) -> None:
        digits = torch.cartesian_prod(torch.arange(5), torch.arange(4), torch.arange(3))
        real = grays(digits.repeat(2, 1), channels=3)
        metrics, _ = StackedMetrics(classifier).measure(grays(digits, channels=3).x, None, real)
        assert metrics["modes_of_1000"] == 60
        few, _ = StackedMetrics(classifier).measure(grays(digits[:20].repeat(3, 1), channels=3).x, None, real)
        assert few["modes_of_1000"] == 20
        assert few["mode_kl_nats"] > metrics["mode_kl_nats"] + 1
        assert few["fd_classifier_60"] > metrics["fd_classifier_60"]


def students(values: list[float]) -> tuple[float, float]:
    """Student's 95 % interval of two or three values, by hand."""
    n, mean = len(values), sum(values) / len(values)
    quantile = {2: 12.706205, 3: 4.302653}[n]  # t(0.975; n - 1), as tables have it
    half = quantile * math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return mean - half, mean + half


class TestResults:
    def test_the_interval_is_students_and_holds_the_mean(self) -> None:
        value = Estimate([1.0, 2.0, 3.0])
        assert value.mean == 2
        assert value.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t(0.975; 2) sd / sqrt(3), sd = 1
        assert tuple(value.interval.values()) == pytest.approx(students(value.values))
        assert Estimate([1.0]).interval == {}

    def test_about_95_of_100_intervals_hold_the_truth(self) -> None:
        values = torch.randn(400, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        held = [(e := Estimate(five).interval)["low"] < 0 < e["high"] for five in values.tolist()]
        assert sum(held) / len(held) == pytest.approx(0.95, abs=0.03)

    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            ([0.012, 0.0124, 0.0125], "0.01230 ± 0.00066"),
            ([4.0, 4.0], "4"),
            ([0.25, 0.25 + 1e-16], "0.25"),
            ([0.5], "0.5"),
            ([900, 1000], "950 ± 635"),
        ],
    )
    def test_a_value_has_two_digits_of_its_uncertainty(self, values: list[float], shown: str) -> None:
        assert text(Estimate(values)) == shown

    def test_a_mean_within_its_own_interval_of_0_is_warned_of_with_what_makes_it_smaller(self) -> None:
        draws = [Findings({}, (torch.zeros(1), torch.zeros(1)))]
        noisy = Estimate([0.0, 0.03])  # 0.015 ± 0.19
        metrics = {"prior_tv": noisy, "score": Estimate([0.5, 0.5]), "mmd2_40": noisy, "mode_mass_0": noisy}
        few, seeds = warnings([Row("a", metrics, draws), Row("b", metrics, draws), Row("a, 2 seeds", metrics, [])])
        # t(0.975; 10) sd / sqrt(11) = 2.228 * 0.0212 / 3.317 = 0.01425, and of 10 draws 0.01518
        assert few == (
            "few draws: the ± is larger than the mean of prior_tv (a, b); --draws 11 would do, if they scatter alike"
        )
        assert seeds == ("few seeds: the ± is larger than the mean of prior_tv (a, 2 seeds); give models of more seeds")
        assert list(warnings([Row("a", {"score": Estimate([0.5, 0.51])}, draws)])) == []
        assert "at least --draws 100" in next(warnings([Row("a", {"prior_tv": Estimate([-1.0, 1.001])}, draws)]))

    def test_models_count_once_however_many_their_draws(self) -> None:
        suite, (real, others) = Suite(LINES, None), halves(LINES, 50, seed=0)
        draws = [suite.of_data(others, real, seed) for seed in (0, 1)]
        rows = [row("a", draws[:1] * 3), row("b", draws[1:])]
        together = over_seeds("a, 2 seeds", rows)
        name = "sliced_wasserstein_2"
        assert together.metrics[name].values == [draw.metrics[name] for draw in draws]
        lines = {
            line["row"]: line
            for line in csv.DictReader(as_csv([*rows, together]).splitlines())
            if line["metric"] == name
        }
        for of in (rows[0], together):
            values, line = of.metrics[name].values, lines[of.name]
            assert float(line["mean"]) == pytest.approx(sum(values) / len(values))
            assert (float(line["low"]), float(line["high"])) == pytest.approx(students(values))
        assert lines["b"]["low"] == lines["b"]["high"] == "", "of one draw"
        found = json.loads(as_json([*rows, together], {"seed": 0}))
        assert found["seed"] == 0
        assert [len(of["metrics"][name]["values"]) for of in found["rows"]] == [3, 1, 2]
        assert list(generators(rows)) == []


def test_every_metric_is_of_one_kind_and_every_kind_is_measured(classifier: Classifier) -> None:
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    labels, names = torch.arange(60) % 2, {"acceptance_rate"}  # this needs a sampler
    ids, prior = torch.arange(30) % 2, torch.tensor([0.5, 0.5])
    plain = Dataset(points, labels, torch.tensor([0.5, 0.5]))
    for data in (LinesConfig(n=60).load(), GaussiansConfig(n=60).load(), plain):
        half, _ = halves(data, 30, seed=0)
        names |= Suite(data, None).of_samples(half.x, ids, prior, half, seed=0).metrics.keys()
    half, _ = halves(grays(labels), 30, seed=0)
    names |= ImageMetrics(classifier).measure(half.x, ids, half)[0].keys()
    digits = torch.arange(60)[:, None] % 3 * torch.ones(3).long()
    names |= StackedMetrics(classifier).measure(grays(digits, 3).x, None, grays(digits, 3))[0].keys()
    for network in ("inception", "dinov2"):  # whose weights are the user's
        names |= feature_metrics(network, *torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))).keys()
    kinds = {name: [kind.name for kind in KINDS if kind.pattern.fullmatch(name)] for name in names}
    assert {name: found for name, found in kinds.items() if len(found) != 1} == {}
    assert {kind.name for kind in KINDS} == {found[0] for found in kinds.values()}
    assert {name for name in names if kind_of(name).block is None} >= {name for name in names if is_detail(name)}


def trained(folder: Path, name: str, seed: int = 0, n: int = 100) -> Path:
    """A run folder."""
    training = {"batch_size": 8, "generator_steps": 1, "evaluation_samples": 100}
    content = {"name": name, "output": str(folder), "seed": seed, "training": training}
    system = {"name": "dmgan_pl", "n_generators": 3, "latent": {"dim": 4}}
    train(RunConfig.model_validate({**content, "data": {"name": "lines", "n": n}, "system": system}))
    return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs that differ by their seed, and one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"a": trained(folder, "a"), "b": trained(folder, "b", seed=1), "other": trained(folder, "other", n=120)}
    (made["b"] / "tracking.json").write_text(
        json.dumps({"uri": f"sqlite:///{folder}/gone.db", "experiment": "e", "run_id": "r"})
    )
    return made


class TestModels:
    def test_other_data_are_refused(self, runs: dict[str, Path]) -> None:
        places = [(name, runs[name]) for name in ("a", "other")]
        with pytest.raises(
            UserError, match=r"other was trained on other data than a \(lines, SHA-256 \w{16}, not lines"
        ):
            described(places)

    def test_seeds_are_put_together_and_equal_names_told_apart(self, runs: dict[str, Path]) -> None:
        models = described([("a", runs["a"]), ("again", runs["a"]), ("b", runs["b"])])
        assert [model.name for model in models] == ["a", "a (2)", "b"]
        assert [[model.given for model in group] for group in by_seed(models)] == [["a", "b"]]


def test_a_prior_is_judged_where_generators_are_drawn_from_it(runs: dict[str, Path]) -> None:
    kept, rejected = Subject("a", runs["a"], "jacobian", 0.8), Subject("a", runs["a"], "critic")
    assert sampled(kept, 20, seed=0).prior.tolist() == pytest.approx(load_model(runs["a"]).system.prior().tolist())
    assert sampled(kept, 4000, seed=0).acceptance_rate == pytest.approx(0.8, abs=0.03)
    assert sampled(rejected, 20, seed=0).prior is None, "c is rejected with z"


@pytest.fixture
def evaluate(load_job: Callable[[str], ModuleType]) -> Callable[..., int]:
    """The command, in this process alone."""

    def run(*arguments: object) -> int:
        return load_job("evaluate").main([*map(str, arguments), "--workers", "1"])

    return run


@pytest.mark.usefixtures("drawn")
def test_the_command_shows_and_writes_everything(
    runs: dict[str, Path], tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = (runs["a"], runs["b"], "-n", 40, "--draws", 2, "--out", out, "--rejection", "jacobian", "--keep", 0.8)
    assert evaluate(*arguments) == 0
    said = capsys.readouterr()
    names = ["real", "a", "a jacobian 0.8", "b", "b jacobian 0.8", "a, 2 seeds"]
    block = said.out.split("\nmasses\n")[1].splitlines()[2:8]
    assert [line.startswith(name) for line, name in zip(block, names, strict=True)] == [True] * 6
    assert f"warning: the results of a are in the files only: no run on MLflow is known of {runs['a']}" in said.err
    assert "gone.db does not exist" in said.err, "of b, whose MLflow is gone"
    content = json.loads((out / "evaluation.json").read_text())
    assert [of["name"] for of in content["rows"]] == names
    assert content["protocol"] == {"samples": 40, "draws": 2, "seed": 30_000}
    rate = content["rows"][2]["metrics"]["acceptance_rate"]
    assert rate["mean"] == pytest.approx(0.8, abs=0.1)
    assert (rate["low"], rate["high"]) == pytest.approx(students(rate["values"]))
    with (out / "evaluation.csv").open() as file:
        assert {line["row"] for line in csv.DictReader(file)} == {*names}
    figures = {
        f"{kind}_{of}" for kind in ("samples", "nearest") for of in ("a", "b", "a-jacobian-0.8", "b-jacobian-0.8")
    }
    assert {path.stem for path in out.glob("*.png")} == {"metrics", "precision_recall", *figures}
    assert content["metrics"]["prior_tv"] == {"better": "less", "meaning": kind_of("prior_tv").meaning}
    assert content["metrics"].keys() == {name for of in content["rows"] for name in of["metrics"]}
    doing = [
        "loading the data lines",
        "evaluating: 2 draws of 5 rows, processes: 1",
        "drawing the figures",
        "recording",
    ]
    places = [said.err.index(what) for what in doing]
    assert places == sorted(places)
    assert "calibrating rejection jacobian" in said.err


def test_a_run_that_trains_on_meanwhile_is_evaluated_as_it_was(
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its checkpoint is deleted after the draws, before the figures."""
    run, evaluated = trained(tmp_path, "moving"), evaluation.evaluated

    def and_deleted(*arguments: Any) -> list[Row]:
        rows = evaluated(*arguments)
        for checkpoint in (run / "checkpoints").iterdir():
            checkpoint.unlink()
        return rows

    monkeypatch.setattr(evaluation, "evaluated", and_deleted)
    assert evaluate(run, "-n", 40, "--draws", 1, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "samples_moving.png").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"moving", "out"}, "no copy is left"
    capsys.readouterr()
    assert evaluate(run, "-n", 40, "--out", tmp_path / "again") == 2
    assert f"{run / 'checkpoints'} holds none" in capsys.readouterr().err


def test_a_checkpoint_is_held_as_a_link_or_as_a_copy(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (newest,) = (runs["a"] / "checkpoints").iterdir()

    def no_links(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    with held(runs["a"], tmp_path) as path:
        assert path.samefile(newest)
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with held(newest, tmp_path) as path:
        assert not path.samefile(newest)
        assert path.read_bytes() == newest.read_bytes()
    monkeypatch.setattr("shutil.copyfile", no_links)
    with pytest.raises(UserError, match=r"cannot be copied to .*: Invalid cross-device link"), held(newest, tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--draws", 0), "--draws must be at least 1, got 0"),
        (("--minimum-accuracy", 90), "--minimum-accuracy must be from 0 to 1, got 90"),
        (("-n", 51), "-n 51: it must be at least 10 and at most 50, half of the 100 real samples"),
        (("--keep", 0.5), "--keep 0.5 is of use with --rejection only"),
        (("--rejection", "jacobian"), "--rejection jacobian needs --keep"),
        (("--seed", -1), "the seed must be at least 0 and less than 2**63 - 5, got -1"),
        (("--inception", "w.pth", "00"), "--inception sees images of 1 or 3 channels, and the data has shape (2,)"),
        (("--cap", 1, 2), "--cap 1.0 is of use with --rejection only"),
        (("nowhere",), "nowhere does not exist"),
        (("nowhere", "--weights", "w.pt"), "--weights w.pt: they are of one model, so give one MODEL only"),
    ],
)
def test_bad_input_is_told(
    runs: dict[str, Path],
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    message: str,
) -> None:
    assert evaluate(runs["a"], *arguments, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", 51), "-n 51: it must be at least 10"),
        (("--inception", "w.pth", "00"), "--inception sees images of 1 or 3 channels"),
        (("--cap", 0), "the cap must be more than 0, got 0"),
    ],
)
def test_bad_input_is_told_before_weights_are_trained(
    runs: dict[str, Path],
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.setattr("toposampler.rejection.train_weights", lambda *_: pytest.fail("weights are trained"))
    sampler = ("--rejection", "latent_rs", "--weights", tmp_path / "w.pt")
    assert evaluate(runs["a"], *sampler, *arguments, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_a_missing_file_of_inception_is_told_at_once(load_job: Callable[[str], ModuleType], tmp_path: Path) -> None:
    options = Namespace(inception=[tmp_path / "w.pth", "00"], dinov2=None)
    with pytest.raises(UserError, match=r"w.pth cannot be read: No such file"):
        load_job("evaluation").networks_of(options, grays(torch.arange(10)))


def test_each_cap_is_a_row(runs: dict[str, Path], tmp_path: Path, load_job: Callable[[str], ModuleType]) -> None:
    train_weights(load_model(runs["a"]), tmp_path / "w.pt", steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toposampler.rejection.train_weights", partial(train_weights, steps=1))
        options = Namespace(rejection="latent_rs", keep=None, weights=tmp_path / "w.pt", cap=[1.0, 2.0], networks=())
        subjects = list(load_job("evaluation").subjects_of(options, described([("a", runs["a"])])))
        assert [subject.name for subject in subjects] == ["real", "a", "a latent_rs 1.0", "a latent_rs 2.0"]
        rates = [sampled(subject, 500, seed=0).acceptance_rate for subject in subjects[2:]]
    assert rates[0] == pytest.approx(2 * rates[1], rel=0.15), "w is near 1 everywhere"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("whole_metrics")
def test_two_workers_find_what_one_process_finds(
    runs: dict[str, Path], tmp_path: Path, environment: dict[str, str], evaluate: Callable[..., int]
) -> None:
    arguments = [runs["a"], "-n", 40, "--draws", 2, "--out"]
    command = [sys.executable, "ray_jobs/evaluate.py", *map(str, arguments), str(tmp_path / "two"), "--workers", "2"]
    run = start(command, environment)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert "draw 4/4" in said
    assert_nothing_left(environment)
    assert evaluate(*arguments, tmp_path / "one") == 0
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert one == two
