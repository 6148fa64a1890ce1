"""Tables in README and docs: those of the committed results, and no table of numbers that nothing makes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from processes import ROOT


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import tables

        yield tables


def test_documents_have_the_tables_of_the_results(tables: ModuleType) -> None:
    marked = [path for path in tables.documents() if "<!-- table" in path.read_text()]
    assert len(marked) > 5
    for path in marked:
        assert tables.put(path.read_text()) == path.read_text(), f"{path.name}: python benchmarks/tables.py --write"


def test_every_table_can_be_made(tables: ModuleType) -> None:
    for name, table in tables.TABLES.items():
        head, rule, *rows = table.lines()
        assert set(rule) == {"|", "-"}, name
        assert rows, name
        assert {line.replace("\\|", "").count("|") for line in (head, *rows)} == {rule.count("|")}, name


def test_tables_of_numbers_without_marks_are_listed_with_a_reason(tables: ModuleType) -> None:
    found = [
        (str(path.relative_to(ROOT)), head) for path in tables.documents() for head in tables.outside(path.read_text())
    ]
    used = set()
    for document, head in found:
        fits = [one for one in tables.OUTSIDE if one.document == document and head.startswith(one.begins)]
        assert fits, f"{document}: give the table {head} marks (benchmarks/tables.py), or a reason in OUTSIDE"
        used.update(fits)
    assert used == set(tables.OUTSIDE), "in OUTSIDE, but no longer in the document"


NUMBERS = "| system | score |\n|---|---|\n| wgan_gp | 0.12 ± 0.03 |\n| dmgan | - |\n"


def test_a_wrong_table_is_replaced_and_all_else_is_kept(tables: ModuleType) -> None:
    before, after = "# Title\n\n<!-- table: lines -->\n", "<!-- end -->\n\nText.\n"
    put = tables.put(before + NUMBERS + after)
    assert put == before + "\n".join(tables.TABLES["lines"].lines()) + "\n" + after
    assert tables.put(put) == put


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: line -->\n<!-- end -->\n", "with a NAME of summary, lines"),
        ("- a list\n  <!-- table: lines -->\n<!-- end -->\n", "a line of its own"),
        ("<!-- table: lines -->\nText.\n", "has no <!-- end -->"),
        ("<!-- table: lines -->\n<!-- table: sweep -->\n<!-- end -->\n", "the table lines must end first"),
        ("Text.\n<!-- end -->\n", "without <!-- table: NAME --> before it"),
    ],
)
def test_wrong_marks_are_refused(tables: ModuleType, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tables.put(text)


def test_what_is_a_table_of_numbers(tables: ModuleType) -> None:
    keys = "| key | meaning |\n|---|---|\n| `seeds` | 8 at once, or as many as are asked for |\n"
    marked = f"<!-- table: lines -->\n{NUMBERS}<!-- end -->\n"
    assert list(tables.outside(f"{keys}\n{marked}\nText.\n\n{NUMBERS}")) == ["| system | score |"]
    assert list(tables.outside(f"- a list\n\n  {NUMBERS.replace('| w', '  | w')}")) == ["| system | score |"]


def test_the_command(tables: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tables.py", "sweep", "scaling_ray"])
    tables.main()
    printed = capsys.readouterr().out
    assert printed.splitlines()[:2] == tables.TABLES["sweep"].lines()[:2]
    assert "\n\n|  | milliseconds" in printed
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    tables.main()
    assert "docs/lines.md" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("lines"))
    monkeypatch.setattr(sys, "argv", ["tables.py", "sweeps"])
    with pytest.raises(SystemExit):
        tables.main()
    assert "there is no table sweeps; choose from summary" in capsys.readouterr().err


def test_the_command_writes(
    tables: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "ARCHITECTURE.md"):
        (root / name).write_text("<!-- table: sweep -->\n<!-- end -->\n" if name == "README.md" else "Text.\n")
    monkeypatch.setattr(tables, "ROOT", root)
    monkeypatch.setattr(sys, "argv", ["tables.py", "--write"])
    tables.main()
    assert "| TPE with ASHA, 32,000" in (root / "README.md").read_text()
    assert (root / "ARCHITECTURE.md").read_text() == "Text.\n"
    assert capsys.readouterr().out == "README.md: new tables\n"
    (root / "README.md").write_text("<!-- end -->\n")
    with pytest.raises(SystemExit, match=r"README\.md: <!-- end --> without"):
        tables.main()
