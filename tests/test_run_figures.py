"""The figures of a finished run show the numbers of its result.json, and points along one pair of axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import draw_figures, leave_out_figures
from matplotlib.figure import Figure

from toposampler.config import validate
from toposampler.priors.mixture import MixturePrior
from toposampler.training import RunConfig, train

Finished = tuple[dict[str, Any], dict[str, Figure]]


def finished(folder: Path, x: np.ndarray) -> Finished:
    """The result of a short run in `folder` on the array x, most of whose generators are all but switched off, and its
    figures."""
    initialize, figures = MixturePrior.__init__, dict[str, Figure]()

    def three_active(prior: MixturePrior, n_generators: int) -> None:
        initialize(prior, n_generators)
        prior.zeta.data[3:] = -5.0

    np.save(folder / "x.npy", x)
    training = {"batch_size": 8, "generator_steps": 20, "evaluate_every": 10, "evaluation_samples": 1000}
    content = {"name": "run", "output": str(folder), "system": {"name": "dmgan_pl"}, "training": training}
    config = validate(RunConfig, {**content, "data": {"name": "npy", "path": str(folder / "x.npy")}})
    draw_figures()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MixturePrior, "__init__", three_active)
            patch.setattr(Figure, "savefig", lambda figure, path, **_: figures.update({Path(path).stem: figure}))
            result = train(config)
    finally:
        leave_out_figures()
    assert result is not None
    return result, figures


@pytest.fixture(scope="module")
def of_blobs(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Of three blobs in five dimensions."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.normal(size=(3, 5))
    x = centers[rng.integers(0, 3, 3000)] + 0.4 * rng.normal(size=(3000, 5))
    return finished(tmp_path_factory.mktemp("blobs"), x.astype(np.float32))


def ids_of(figure: Figure) -> set[int]:
    """The generators that a legend names."""
    labels = [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()]
    return {int(label) for label in labels if label.isdigit()}


def farthest(points: np.ndarray, others: np.ndarray) -> float:
    """The largest distance from one of the points (n, 2) to its nearest among others (m, 2)."""
    x, y = (torch.from_numpy(np.asarray(of)) for of in (points, others))
    return float(torch.cdist(x, y).amin(dim=1).max())


def test_figures_show_the_numbers_of_the_result(of_blobs: Finished) -> None:
    result, figures = of_blobs
    metrics = result["metrics"]
    counted = [axes.get_title().partition(", ")[0] for axes in figures["barcodes"].axes[:2]]
    shown = {"real": metrics["components_found_real"], "generated": metrics["components_found"]}
    assert counted == [f"{name}: {k:.0f} component{'s'[: k > 1]}" for name, k in shown.items()]
    assert shown["real"] == 3

    ends = dict(axes.get_title().split(": ") for axes in figures["evaluation"].axes if ": " in axes.get_title())
    assert {name.removeprefix("eval/") for name in ends} == metrics.keys()
    for name, value in ends.items():
        assert float(value) == pytest.approx(metrics[name.removeprefix("eval/")], rel=1e-3, abs=1e-12)
    marks = [
        axes.get_lines()[-1].get_xydata()[-1].tolist()
        for axes in figures["evaluation"].axes
        if ": " in axes.get_title()
    ]
    assert {step for step, _ in marks} == {result["generator_steps"]}

    active = {k for k, mass in enumerate(result["prior"]) if mass > 0.01}
    assert ids_of(figures["prior"]) == ids_of(figures["samples_by_generator"]) == active == {0, 1, 2}
    assert result["active_generators"] == metrics["active_generators"] == 3


def test_all_panels_are_seen_along_the_axes_of_the_real_points(of_blobs: Finished) -> None:
    _, figures = of_blobs
    scatter, barcodes = figures["samples_by_generator"], figures["barcodes"]
    real = barcodes.axes[0].collections[0].get_offsets()
    shown = scatter.axes[0].collections[0].get_offsets()
    assert farthest(real, shown) < 1e-4, "barcodes.png shows points of samples_by_generator.png at the same places"
    generated = [axes.collections[0] for axes in (barcodes.axes[1], figures["samples_by_encoder"].axes[0])]
    every = np.concatenate([points.get_offsets() for points in scatter.axes[1].collections])
    for points in generated:
        assert farthest(points.get_offsets(), every) < 1e-4
    limits = {axes.get_xlim() + axes.get_ylim() for axes in barcodes.axes[:2]}
    assert len(limits) == 1


def test_components_of_images_are_not_counted(tmp_path: Path) -> None:
    result, figures = finished(tmp_path, np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    assert not {name for name in result["metrics"] if name.startswith("components_found")}
    assert [axes.get_title() for axes in figures["barcodes"].axes[:2]] == ["real", "generated"]
    assert "not counted" in figures["barcodes"].get_supxlabel()
