"""The documentation: its Python runs as printed, a page for each system, messages that the program really gives."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import ROOT

import toposampler
import toposampler.training
from toposampler.commands.systems import known

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
TINY = {"training__generator_steps": 4, "training__batch_size": 8, "training__evaluation_samples": 100}
STRINGS = re.compile(r"f?\"(?:[^\"\\\n]|\\.)*\"")


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A module to run blocks in, in a folder of its own, where `fit` takes four steps on 200 rows."""
    monkeypatch.chdir(tmp_path)
    fit = toposampler.fit

    def short(data, data__labels=None, **keys):  # type: ignore[no-untyped-def]
        labels = {} if data__labels is None else {"data__labels": data__labels[:200]}
        return fit(data[:200], **labels, **{**keys, **TINY})

    load_config = toposampler.training.load_config
    keys = ["--data.n=200", *(f"--{key.replace('__', '.')}={value}" for key, value in TINY.items())]
    monkeypatch.setattr(toposampler, "fit", short)
    monkeypatch.setattr(toposampler.training, "load_config", lambda path, given: load_config(path, [*given, *keys]))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    module = ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, "tutorial", module)  # where networks of their own are imported from
    return module


@pytest.mark.parametrize("path", [path for path in TUTORIALS if blocks(path)], ids=lambda path: path.stem)
def test_a_tutorial_runs_as_printed(path: Path, module: ModuleType) -> None:
    for block in blocks(path):
        exec(compile(block.replace("steps = 6, 3000", "steps = 6, 4"), path.name, "exec"), module.__dict__)


def test_each_system_has_a_page_with_its_equations() -> None:
    pages = {path.stem: path.read_text() for path in (DOCS / "systems").glob("*.md")}
    assert set(pages) == set(known()["system"])
    for name, page in pages.items():
        assert page.startswith(f"# {name}\n")
        assert page.count("$$") == 2
        assert f"generated/systems/{name}.md" in page


def test_messages_of_the_faq_are_the_programs() -> None:
    """A message is split among string literals of one call: they are read one after the other."""
    sources = [path.read_text() for path in (ROOT / "toposampler").rglob("*.py")]
    said = " ".join("".join(text[text.index('"') + 1 : -1] for text in STRINGS.findall(source)) for source in sources)
    messages = re.findall(r"^\*\*(.+?)\.?\*\*", (DOCS / "faq.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(messages) > 10
    for message in messages:
        assert " ".join(message.split()) in said, message


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_own_loop_finds_the_mixture_weights_as_printed() -> None:
    (loop,) = [block for block in blocks(DOCS / "tutorials" / "network.md") if "adam_r" in block]
    found: dict[str, Any] = {}
    exec(loop, found)
    r = found["zeta"].softmax(0)
    largest = r.sort(descending=True).values
    assert largest[:3].tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert largest[3:].max() < 1e-3
