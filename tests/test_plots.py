"""Figures: what they show is what they were given, and each can be written."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from toposampler.plots import (
    barcodes,
    class_bars,
    framed_grid,
    generators_scatter,
    image_grid,
    metric_panels,
    nearest_training_distances,
    precision_recall,
    prior_over_steps,
    quality_curves,
    sample_panels,
    samples_scatter,
    terms_over_steps,
)
from toposampler.plots.barcodes import evenly
from toposampler.plots.comparison import Interval, Operation
from toposampler.plots.scatter import plane
from toposampler.plots.style import color

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("drawn")

REAL = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(40) % 4 * 3  # generators 0, 3, 6, 9


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_writable(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert np.asarray(Image.open(file).convert("L")).std() > 1


def test_generators_are_shown_in_their_colors_within_the_real_frame() -> None:
    fake = REAL[:40].clone()
    fake[0] = 100
    prior = torch.zeros(10)
    prior[[0, 3, 6, 9]] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    figure = generators_scatter(REAL, fake, IDS, prior, prior > 0, "title")
    left, right = figure.axes
    assert legend_of(figure) == ["0: 40.0%", "3: 30.0%", "6: 20.0%", "9: 10.0%"]
    assert left.get_title() == "50 real"
    assert right.get_title() == "40 generated, 2.5% out of view"
    assert left.get_xlim() == right.get_xlim()
    assert -0.5 < left.get_xlim()[0] < 0 < 1 < left.get_xlim()[1] < 1.5
    shown = {k: points.get_offsets() for k, points in zip((0, 3, 6, 9), right.collections, strict=True)}
    assert np.allclose(shown[3], fake[IDS == 3])
    assert_writable(figure)


def test_without_a_prior_the_legend_gives_shares() -> None:
    figure = generators_scatter(REAL, REAL[:40], IDS.clamp(max=6), None, torch.ones(7).bool(), "title")
    assert legend_of(figure) == [f"{k}: {share}%" for k, share in enumerate((25.0, 0.0, 0.0, 25.0, 0.0, 0.0, 50.0))]
    assert figure.axes[1].get_title() == "40 generated"


def test_generators_that_are_not_named_are_gray_and_one_line_of_the_legend() -> None:
    prior = torch.zeros(10)
    prior[[0, 3, 6, 9]] = torch.tensor([0.6, 0.39, 0.007, 0.003])
    named = prior > 0.01
    scatters = (
        generators_scatter(REAL, REAL[:40], IDS, prior, named, "title"),
        samples_scatter(REAL[:40], IDS, "title", "legend", prior, named),
    )
    for figure in scatters:
        assert legend_of(figure) == ["0: 60.0%", "3: 39.0%", "8 others: 1.0%"]
        gray = figure.axes[-1].collections[-1]
        assert np.allclose(gray.get_facecolor()[0, :3], to_rgba("0.7")[:3])
        assert np.allclose(gray.get_offsets(), REAL[:40][(IDS == 6) | (IDS == 9)])
    over_steps = prior_over_steps([0, 9], torch.stack([prior, prior]), None, named, "title")
    assert legend_of(over_steps) == legend_of(scatters[0])


def test_many_dimensions_are_seen_along_two_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 1, 3, 3, generator=generator) * 0.01
    x[:, 0, 1, 1] += torch.linspace(-5, 5, 500)
    x[:, 0, 2, 0] += torch.randn(500, generator=generator)
    figure = generators_scatter(x, x, torch.zeros(500, dtype=torch.long), None, torch.ones(1).bool(), "title")
    assert figure.axes[0].get_xlabel() == "principal component 1 of 9"
    first, second = np.abs(figure.axes[0].collections[0].get_offsets()).max(axis=0)
    assert first == pytest.approx(5, abs=0.1)
    assert second == pytest.approx(float(x[:, 0, 2, 0].abs().max()), abs=0.3)


def test_one_dimension_is_seen_on_a_line() -> None:
    figure = generators_scatter(REAL[:, :1], REAL[:40, :1], IDS, None, torch.ones(10).bool(), "title")
    offsets = figure.axes[0].collections[0].get_offsets()
    assert np.allclose(offsets[:, 0], REAL[:, 0])
    assert not offsets[:, 1].any()
    assert_writable(figure)


def test_samples_scatter() -> None:
    figure = samples_scatter(REAL[:40], IDS, "title", "share")
    assert legend_of(figure) == ["0: 25.0%", "3: 25.0%", "6: 25.0%", "9: 25.0%"]
    assert_writable(figure)


def test_prior_over_steps_draws_every_generator_and_names_the_living() -> None:
    priors = torch.tensor([[0.5, 0.5, 0.0], [0.695, 0.3, 0.005]])
    figure = prior_over_steps([0, 100], priors, torch.tensor([0.7, 0.15, 0.15]), torch.arange(3) < 2, "title")
    lines = figure.axes[0].get_lines()
    assert legend_of(figure) == ["true: 15.0%", "true: 70.0%", "0: 69.5%", "1: 30.0%", "1 other: 0.5%"]
    assert np.allclose([lines[i].get_ydata() for i in (3, 4, 2)], priors.T)
    assert_writable(figure)


def test_prior_over_steps_has_no_masses_of_more_components_than_generators() -> None:
    weights = torch.full((1000,), 0.001)
    figure = prior_over_steps([0, 100], torch.full((2, 2), 0.5), weights, torch.ones(2).bool(), "title")
    assert legend_of(figure) == ["0: 50.0%", "1: 50.0%"]


def test_terms_over_steps_gives_each_term_a_panel() -> None:
    terms = {f"term {i}": [(0, float(i)), (100, float(-i))] for i in range(4)}
    figure = terms_over_steps(terms, "title")
    assert [axes.get_title() for axes in figure.axes] == list(terms)
    assert [axes.get_lines()[0].get_xydata().tolist() for axes in figure.axes] == [
        [list(point) for point in series] for series in terms.values()
    ]
    assert_writable(figure)


def test_the_final_evaluation_is_marked_with_its_value_and_no_line_leads_there() -> None:
    terms = {"a": [(0, 1.0), (90, 0.12)], "b": [(0, 2.0)]}
    figure = terms_over_steps(terms, "title", {"a": (100, 0.0611), "c": (100, 3.0)})
    assert [axes.get_title() for axes in figure.axes] == ["a: 0.0611", "b", "c: 3"]
    lines = [[line.get_xydata().tolist() for line in axes.get_lines()] for axes in figure.axes]
    assert lines == [[[[0, 1], [90, 0.12]], [[100, 0.0611]]], [[[0, 2]]], [[[100, 3]]]]
    assert "red, and the number: the final evaluation" in figure.get_supxlabel()
    assert_writable(figure)


def test_image_grid_puts_each_image_in_its_place() -> None:
    black, white = -torch.ones(1, 8, 8), torch.ones(1, 8, 8)
    figure = image_grid([("a", torch.stack((black, white, black))), ("b", black[None])], "title")
    (axes,) = figure.axes
    canvas = axes.images[0].get_array()
    assert canvas.shape == (17, 26, 3)
    assert [canvas[y, x, 0] for y, x in ((4, 4), (4, 13), (4, 22), (13, 4), (13, 13), (8, 4))] == [0, 1, 0, 0, 1, 1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert_writable(figure)


def test_image_grid_keeps_colors() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert image_grid([("a", red)], "title").axes[0].images[0].get_array()[0, 0].tolist() == [1, 0, 0]


def test_framed_grid_frames_each_image_in_the_color_of_its_generator() -> None:
    figure = framed_grid(torch.zeros(5, 1, 8, 8), torch.tensor([0, 3, 3, 0, 9]), None, "title", columns=3)
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (17, 26, 3)
    assert [frame.get_edgecolor() for frame in axes.patches] == [to_rgba(color(k)) for k in (0, 3, 3, 0, 9)]
    assert [frame.get_xy() for frame in axes.patches][2:4] == [(17.5, -0.5), (-0.5, 8.5)]
    assert legend_of(figure) == ["0: 40.0%", "3: 40.0%", "9: 20.0%"]
    prior = torch.tensor([0.7, *8 * [0.0], 0.3])
    assert legend_of(framed_grid(torch.zeros(2, 1, 8, 8), torch.tensor([0, 9]), prior, "title")) == [
        "0: 70.0%",
        "9: 30.0%",
    ]
    assert_writable(figure)


def test_barcodes_count_components_and_strays() -> None:
    pair = torch.cat((REAL, REAL + 5))
    outlier = torch.cat((pair, torch.tensor([[2.5, -9.0]])))
    clouds = {"one": REAL, "two": pair, "equal": torch.ones(30, 1, 4, 4), "more": outlier}
    figure = barcodes(evenly(clouds), "title")
    titles = ["one: 1 component", "two: 2 components", "equal: 1 component", "more: 2 components, 1 outlier"]
    above, below = figure.axes[:4], figure.axes[4:]
    assert [axes.get_title() for axes in above] == titles
    assert [len(axes.collections[0].get_offsets()) for axes in above] == [30] * 4  # as many of each
    lengths = [[bar.get_width() for bar in axes.patches] for axes in below]
    assert all(len(bars) == 20 and bars == sorted(bars, reverse=True) for bars in lengths)
    blue = [sum(bar.get_facecolor() == to_rgba(color(0)) for bar in axes.patches) for axes in below]
    assert blue == [0, 1, 0, 2]
    assert_writable(figure)


def test_barcodes_of_two_clouds_are_seen_in_the_frame_of_the_real_one() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 5, generator=generator) * torch.tensor([5.0, 1, 0.1, 0.1, 0.1])
    fake = real[:, [1, 0, 2, 3, 4]]  # its own principal axes are the other way round
    figure = barcodes({"real": real, "generated": fake}, "title", view=real)
    left, right = (axes.collections[0].get_offsets() for axes in figure.axes[:2])
    basis, _ = plane(real)
    assert np.allclose(left, real @ basis)
    assert np.allclose(right, fake @ basis)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    low, high = figure.axes[0].get_ylim()
    y = (fake @ basis)[:, 1]
    outside = ((y < low) | (y > high)).float().mean()
    assert outside > 0.01
    assert [text.get_text() for text in figure.axes[1].texts] == [f"{outside:.1%} out of view"]
    assert_writable(figure)


def test_what_a_barcode_does_not_tell_is_not_counted() -> None:
    pair = torch.cat((REAL, REAL + 5))
    figure = barcodes({"real": pair, "generated": pair}, "title", counted=False)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["real", "generated"]
    assert not any(bar.get_facecolor() == to_rgba(color(0)) for bar in figure.axes[2].patches)


def test_quality_curves_show_what_they_are_given() -> None:
    curves = {"real": [1.0, 0.9, 0.8], "samples": [1.0, 0.7, 0.2]}
    figure = quality_curves([0.5, 0.7, 0.9], curves, "title")
    lines = figure.axes[0].get_lines()
    assert [(line.get_label(), list(line.get_ydata())) for line in lines] == list(curves.items())
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    assert_writable(figure)


def test_class_bars_stand_side_by_side_around_their_class() -> None:
    values = {"real": [1.0, 2.0, 3.0], "samples": [0.5, 0.0, 2.5]}
    figure = class_bars(values, "MSD", "title")
    bars = [
        [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in group] for group in figure.axes[0].containers
    ]
    assert [[height for _, height in group] for group in bars] == list(values.values())
    assert np.allclose([[x for x, _ in group] for group in bars], [[-0.2, 0.8, 1.8], [0.2, 1.2, 2.2]])
    assert_writable(figure)


def test_nearest_distances_are_in_units_of_the_real_points_on_a_logarithmic_axis() -> None:
    real = torch.linspace(1, 3, 101)
    figure = nearest_training_distances(torch.tensor([0.0, 0.5, 1.5, 8.0]), real, 0.05, "label", "title")
    assert legend_of(figure) == ["real points", "samples, 25.0% at distance 0", "label"]
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    of_real, samples, limit = axes.get_lines()
    assert np.allclose(of_real.get_xdata(), real / 2)
    assert np.allclose(samples.get_xdata(), [0.125, 0.25, 0.75, 4]), "a copy is where the axis begins"
    assert axes.get_xlim()[0] == pytest.approx(0.125)
    assert limit.get_xdata()[0] == pytest.approx(1.1 / 2)
    assert_writable(figure)


def test_nearest_distances_that_are_all_zero_can_be_drawn() -> None:
    assert_writable(nearest_training_distances(torch.zeros(4), torch.zeros(5), 0.05, "label", "title"))


def test_fifty_generators_have_fifty_colors() -> None:
    assert len({color(k) for k in range(50)}) == 50


def test_figures_leave_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    generators_scatter(
        torch.rand(20, 5, generator=torch.Generator()),
        REAL.new_zeros(4, 5),
        IDS[:4],
        None,
        torch.ones(10).bool(),
        "title",
    )
    assert torch.equal(before, torch.get_rng_state())


def segments(axes: Axes) -> list[list[list[float]]]:
    """The bars of all intervals in `axes`."""
    return [bar.round(6).tolist() for bars in axes.collections for bar in bars.get_segments()]


def test_precision_stands_over_recall_with_its_rate_and_both_intervals() -> None:
    first = Operation(Interval(0.9, 0.05), Interval(0.8, 0.1), 1.0)
    second, single = (
        Operation(Interval(0.99, 0.01), Interval(0.7, 0.2), 0.5),
        Operation(Interval(0.6), Interval(0.5), 0.25),
    )
    figure = precision_recall({"a": [first, second], "b": [single]}, "title")
    axes = figure.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines if line.get_label() in "ab"] == [
        [[0.8, 0.9], [0.7, 0.99]],
        [[0.5, 0.6]],
    ]
    assert segments(axes) == [
        [[0.7, 0.9], [0.9, 0.9]],
        [[0.8, 0.85], [0.8, 0.95]],
        [[0.5, 0.99], [0.9, 0.99]],
        [[0.7, 0.98], [0.7, 1.0]],
    ]
    assert [text.get_text() for text in axes.texts] == ["100%", "50%", "25%"]
    assert legend_of(figure) == ["a", "b"]
    assert_writable(figure)


def test_all_metrics_of_several_models_stand_side_by_side() -> None:
    rows = ["real", "a", "b"]
    metrics = {
        "score": {"real": Interval(0.1, 0.02), "a": Interval(0.5, 0.1), "b": Interval(0.3)},
        "prior_tv": {"a": Interval(0.2, 0.1), "b": Interval(0.1, 0.05)},
    }
    figure = metric_panels(metrics, {"score": "less", "prior_tv": "more"}, rows, "title")
    assert [axes.get_title() for axes in figure.axes] == ["score\nbetter: less", "prior_tv\nbetter: more"]
    score, prior = figure.axes
    assert [label.get_text() for label in score.get_yticklabels()] == rows
    assert segments(score) == [[[0.08, 0], [0.12, 0]], [[0.4, 1], [0.6, 1]]]
    assert segments(prior) == [[[0.1, 1], [0.3, 1]], [[0.05, 2], [0.15, 2]]], "real data have no prior"
    (band,) = score.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((0.08, 0.04))
    assert_writable(figure)


def test_each_system_has_a_panel_in_the_real_frame_with_what_is_off_in_red() -> None:
    fake, off = REAL[:40].clone(), torch.arange(40) < 4
    fake[0] = 100
    figure = sample_panels(REAL, {f"system {k}": (fake, off) for k in range(7)}, "title")
    assert [axes.get_title() for axes in figure.axes] == [f"system {k}" for k in range(7)]
    real, on, red = figure.axes[6].collections
    assert np.allclose(real.get_offsets(), REAL)
    assert np.allclose(on.get_offsets(), fake[4:])
    assert np.allclose(red.get_offsets(), fake[:4])
    assert to_rgba(red.get_facecolor()[0])[:3] == to_rgba("#D55E00")[:3]
    assert figure.axes[6].texts[0].get_text() == "2.5% out of view"
    assert figure.axes[0].get_xlim() == figure.axes[6].get_xlim()
    assert_writable(figure)
