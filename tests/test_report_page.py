"""Reports in a browser: of a run of points and one of images, of a sweep, of seeds, and of several runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browse
from drawing import draw_figures, leave_out_figures

from toposampler.commands.report import main
from toposampler.config import merge_overrides, validate
from toposampler.training import RunConfig, train
from toposampler.training.config import run_folder

pytestmark = pytest.mark.slow  # training with figures, and a browser

SLIDER = "input[type=range]"
MOST_POINTS, MOST_IMAGES = 5_000_000, 15_000_000
"""bytes of a report"""


def trained(folder: Path, name: str, **overrides: Any) -> Path:
    content = {
        "name": name,
        "output": str(folder),
        "data": {"name": "lines", "n": 500},
        "system": {"name": "dmgan_pl", "n_generators": 4},
        "training": {"batch_size": 16, "generator_steps": 160, "log_every": 20, "evaluate_every": 80},
    }
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    config = validate(RunConfig, merge_overrides(content, {"training.evaluation_samples": 500, **dotted}))
    train(config, progress=False)
    return run_folder(config)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("reports")
    draw_figures()
    yield {
        "points": trained(folder, "points"),
        "other": trained(folder, "other", seed=1, system__n_generators=3).rename(folder / "<script>alert(1)<"),
        "images": trained(folder, "images", data={"name": "digits"}),
        "seeds": trained(folder, "seeds", seeds=3),
    }
    leave_out_figures()


@pytest.fixture(scope="module", params=[1280, 390])
def browser(request: pytest.FixtureRequest) -> Iterator[Page]:
    with browse(request.param) as page:
        yield page


def opened(browser: Page, path: Path) -> None:
    """Open the report at `path`; nothing may go wrong, nor be wider than the window."""
    browser.errors.clear()
    browser.page.goto(path.as_uri())
    browser.page.wait_for_timeout(300)
    assert browser.errors == []
    assert browser.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def seen(browser: Page) -> str:
    """What the first canvas shows."""
    return str(browser.page.evaluate("document.querySelector('#play canvas').toDataURL()"))


def move(browser: Page, place: int) -> None:
    browser.page.eval_on_selector(SLIDER, "(s, at) => { s.value = at; s.dispatchEvent(new Event('input')); }", place)
    browser.page.wait_for_timeout(100)


@pytest.mark.parametrize(("name", "most"), [("points", MOST_POINTS), ("images", MOST_IMAGES)])
def test_the_slider_moves_samples_and_prior(runs: dict[str, Path], browser: Page, name: str, most: int) -> None:
    report = runs[name] / "figures" / "report.html"
    assert report.stat().st_size < most
    opened(browser, report)
    last, prior = seen(browser), browser.page.inner_text(".masses")
    assert browser.page.inner_text(".controls output") == "step 160"
    move(browser, 0)
    assert browser.page.inner_text(".controls output") == "step 0"
    assert seen(browser) != last
    assert len(prior.split()) == 8, "four generators and their masses"
    move(browser, 1000)
    assert seen(browser) == last
    assert browser.errors == []
    result = json.loads((runs[name] / "result.json").read_text())
    words = browser.page.inner_text(".verdict")
    assert words.lower().rstrip(".") == result["verdict"].lower().rstrip(".")
    assert "dmgan_pl" in browser.page.inner_text(".what")


def test_several_runs_stand_side_by_side(runs: dict[str, Path], browser: Page, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    assert main([str(runs["points"]), str(runs["other"]), "--out", str(out)]) == 0
    opened(browser, out)
    assert browser.page.locator("#play canvas").count() == 2
    assert "system.n_generators" in browser.page.inner_text("main")
    assert "<script>alert(1)<" in browser.page.inner_text("h1")
    for axis in ("seconds of training", "real samples seen"):
        browser.page.select_option("select", axis)
        assert axis in (browser.page.locator("#curves svg").first.text_content() or "")
    assert browser.errors == []


def test_seeds_show_their_spread(runs: dict[str, Path], browser: Page) -> None:
    opened(browser, runs["seeds"] / "figures" / "report.html")
    assert browser.page.locator("#members svg").first.locator("circle").count() == 3
    curves = browser.page.inner_text("#curves").lower()
    assert "active generators, in the mean of the members" in curves
    losses = curves.partition("\nlosses\n")[2].partition("active generators")[0]
    assert "critic/real" in losses
    assert "generators" not in losses.split()


def test_the_axes_of_a_sweep_filter(browser: Page, tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    assert main([str(folder), "--out"]) == 0
    opened(browser, folder / "figures" / "report.html")
    assert "system.penalty.weight\t1.00\t8" in browser.page.inner_text("main")  # the importance of the key
    lines = browser.page.locator("#trials polyline.on")
    assert lines.count() == 8
    box = browser.page.locator("#trials svg").bounding_box()
    assert box is not None
    mouse = browser.page.mouse
    mouse.move(box["x"] + 55, box["y"] + 46)
    mouse.down()
    mouse.move(box["x"] + 55, box["y"] + 46 + 100)
    mouse.up()
    assert 0 < lines.count() < 8
    browser.page.click("text=show all")
    assert lines.count() == 8
    assert browser.errors == []


def sweep_folder(place: Path) -> Path:
    """What a sweep of eight trials leaves."""
    folder = place / "sweep"
    (folder / "figures").mkdir(parents=True)
    (folder / "config.yaml").write_text("name: sweep\nbase: base.yaml\n")
    trials = [
        {
            "number": i,
            "values": {"system.penalty.weight": 10.0 ** (i / 4), "training.batch_size": [32, 64][i % 2]},
            "outcome": "finished",
            "objectives": {"score": 1.0 / (i + 1)},
            "steps": 100,
            "note": "",
        }
        for i in range(8)
    ]
    best = {"trial": 7, "values": trials[7]["values"]}
    result = {"metrics": {"score": 0.125}, "generator_steps": 800, "best": best, "front": [7], "trials": trials}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_page_prints_whole(runs: dict[str, Path], browser: Page) -> None:
    """At the width of a sheet no table is cut off, and no control is left."""
    browser.page.set_viewport_size({"width": 700, "height": 990})
    browser.page.emulate_media(media="print")
    opened(browser, runs["points"] / "figures" / "report.html")
    cut = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.page.evaluate(cut) == 0
    assert browser.page.is_hidden(SLIDER)
    assert browser.page.is_hidden("#curves select")
    browser.page.emulate_media(media="screen")
    assert browser.page.is_visible(SLIDER)


def test_a_metric_leads_to_its_definition(runs: dict[str, Path], browser: Page) -> None:
    opened(browser, runs["points"] / "figures" / "report.html")
    browser.page.click("a:text-is('score')")
    assert browser.page.eval_on_selector("dt:target", "e => e.textContent") == "score"
    assert "0 is perfect, 3 the worst" in browser.page.eval_on_selector("dt:target + dd", "e => e.textContent")
