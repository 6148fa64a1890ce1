"""Finished runs side by side: what is read from their folders, the text, and a page that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toposampler.commands.report import columns, main
from toposampler.config import to_yaml
from toposampler.reporting.html import page
from toposampler.reporting.runs import differences, read_runs, results
from toposampler.training import RunConfig

VOID = {"meta", "img", "br", "hr", "link", "input"}
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(make_config: Callable[..., RunConfig], tmp_path: Path) -> MakeRun:
    """The folder of a finished run, as training leaves it."""

    def make(name: str, system: str = "dmgan_pl", prior: list[float] | None = None, **overrides: Any) -> Path:
        folder = tmp_path / name
        (folder / "figures").mkdir(parents=True)
        (folder / "config.yaml").write_text(to_yaml(make_config(system, name=name, **overrides)))
        result = {
            "metrics": {"jsd_nats": 0.25, "mode_mass_0": 0.7, "coverage_k5_component_3": 1.0, "active_generators": 2.0},
            "prior": prior,
            "active_generators": 2,
            "generator_steps": 13333,
            "seconds": 81.4,
            "model": str(folder / "checkpoints" / "step_00013333.pt"),
        }
        (folder / "result.json").write_text(json.dumps(result))
        Image.new("RGB", (3, 2), "red").save(folder / "figures" / "losses.png")
        return folder

    return make


class Page(HTMLParser):
    """Reads a page; every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_results_and_what_differs(make_run: MakeRun) -> None:
    a = make_run("a", prior=[0.7, 0.2999, 0.0001])
    b = make_run("b", system="wgan_gp", seed=5)
    runs = read_runs([str(a), str(b)])
    assert dict(results(runs)) == {
        "jsd_nats": ["0.25", "0.25"],
        "active generators": ["2 of 3", "2 of 1"],
        "generator steps": ["13,333", "13,333"],
        "seconds": ["81", "81"],
    }
    differ = dict(differences(runs))
    assert differ["seed"] == ["0", "5"]
    assert differ["system.name"] == ["dmgan_pl", "wgan_gp"]
    assert differ["system.n_generators"] == ["10", "-"]
    assert "name" not in differ
    assert "training.batch_size" not in differ
    assert [run.shown_masses for run in runs] == ["0.700  0.300  and 1 below 0.001", "1.000"]


def test_the_command_prints_runs_side_by_side(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(make_run("a")), str(make_run("b", seed=5))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["results", "a", "b"]
    assert ["jsd_nats", "0.25", "0.25"] in [line.split() for line in lines]
    assert ["seed", "0", "5"] in [line.split() for line in lines]
    assert "  a  1.000" in lines


def test_runs_that_do_not_fit_go_on_below() -> None:
    table = [("results", [f"{'long' * 8}-{i}" for i in range(4)]), ("jsd", ["1", "2", "3", "4"])]
    lines = list(columns(table))
    assert max(map(len, lines)) <= 100
    assert [line.split()[1:] for line in lines if line.startswith("jsd")] == [["1", "2"], ["3", "4"]]


def test_a_page_holds_all_it_shows(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run("a", prior=[0.75, 0.25]), make_run("b", prior=[1.0])
    out = a.parent / "report.html"
    assert main([str(a), str(b), "--out", str(out)]) == 0
    assert f"report    {out}" in capsys.readouterr().out
    read = Page(out.read_text())
    assert read.open == []
    images = [attributes for tag, attributes in read.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["losses of a", "losses of b"]
    for image in images:
        kind, _, content = str(image["src"]).partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (a / "figures" / "losses.png").read_bytes()
    assert not {"link", "iframe"} & {tag for tag, _ in read.tags}
    text = out.read_text()
    assert re.findall(r"src=\"(?!data:)|url\(|@import", text) == []
    links = [str(attributes["href"]) for tag, attributes in read.tags if tag == "a"]
    assert {link[:1] for link in links} <= {"#", "h"}, "within the page, or to a paper, where the reader clicks"
    names = "http://www.w3.org/2000/svg"  # of a drawing's namespace: no address
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {names, *links}
    assert "prefers-color-scheme: dark" in out.read_text()
    assert "width: 75.00%" in out.read_text()
    assert "training.batch_size: 8" in read.text


def test_names_are_text_in_a_page(make_run: MakeRun) -> None:
    folder = make_run("a")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("experiment: toposampler", "experiment: '<script>x</script>'"))
    name, moved = "<script>x</script><img src=x onerror=alert(1)>", folder.parent / "<script>y<"
    folder.rename(moved)
    result = json.loads((moved / "result.json").read_text())
    result |= {"verdict": name, "warnings": [name], "metrics": {name: 1.0}}
    (moved / "result.json").write_text(json.dumps(result))
    (moved / "report.json").write_text(json.dumps({"data": {"lines": [name, "</script>"], "sha256": "0"}}))
    record = {"step": 1, "time": 1.0, "metrics": {f"eval/{name}": 1.0}}
    (moved / "metrics.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, "step": 2}) + "\n")
    text = page(read_runs([str(moved)]))
    read = Page(text)
    assert text.count("<script") == 2, "the data, and the page's own"
    assert "img" not in {tag for tag, _ in read.tags}
    assert "<script>x</script>" in read.text


def test_a_single_run_has_its_report_beside_its_figures(make_run: MakeRun) -> None:
    folder = make_run("a")
    assert main([str(folder), "--out"]) == 0
    assert (folder / "figures" / "report.html").is_file()


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("a")
    second = first.rename(tmp_path / "elsewhere")
    (tmp_path / "below").mkdir()
    moved = second.rename(tmp_path / "below" / "a")
    again = make_run("a")
    assert [run.label for run in read_runs([str(moved), str(again)])] == [str(moved), str(again)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no result.json: its training has not ended; toposampler train --resume a --output {tmp}"),
        ("{", "result.json is damaged (JSONDecodeError"),
        ("[1]", "result.json is damaged (TypeError"),
        ('{"metrics": {"x": "y"}}', "result.json is damaged (ValueError"),
        ('{"metrics": {}}', "result.json is damaged (KeyError: 'generator_steps'"),
    ],
)
def test_a_run_without_a_good_result_is_one_message(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    folder = make_run("a")
    (folder / "result.json").unlink()
    if content is not None:
        (folder / "result.json").write_text(content)
    assert main([str(folder)]) == 2
    assert message.format(tmp=tmp_path) in (error := capsys.readouterr().err)
    assert error.startswith("error: ")


def test_places_that_cannot_be_reported(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path} is not the folder of a run: it holds no config.yaml" in capsys.readouterr().err
    folder = str(make_run("a"))
    assert main([folder, "--out", str(tmp_path / "report.pdf")]) == 2
    assert "the report is HTML, so give it a name such as" in capsys.readouterr().err
    assert main([folder, "--out", str(tmp_path / "absent" / "report.html")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert main([folder, str(make_run("b")), "--out"]) == 2
    assert "--out needs a FILE.html for the report of several runs" in capsys.readouterr().err
