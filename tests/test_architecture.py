"""The floors of the house: a module imports from its own floor or from floors below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    ["nn", "losses", "topology", "plots", "config", "errors", "records", "background", "files"],
    ["data", "metrics", "priors"],
    ["systems"],
    ["training", "tracking", "rejection", "sampling", "evaluation"],
    ["distributed", "api", "fitted"],
    ["tuning"],
    ["commands"],
]
FLOOR = {place: number for number, places in enumerate(FLOORS) for place in places}
MODULES = sorted(
    p for p in (ROOT / "toposampler").rglob("*.py") if p.parent != ROOT / "toposampler" or p.stem != "__init__"
)


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    return path.relative_to(ROOT / "toposampler").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_up(path: Path) -> None:
    own = FLOOR[place(path)]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "toposampler" and len(parts) > 1 and parts[1] != "__version__":
            assert FLOOR[parts[1]] <= own, f"{path} imports {name} from a floor above"
        assert parts[0] not in {"ray_jobs", "tuning", "benchmarks", "tests"}, f"{path} imports {name}"


@pytest.mark.parametrize(("package", "homes"), [("ray", {"distributed", "tuning"}), ("mlflow", {"tracking"})])
def test_only_one_place_knows_of_ray_and_of_mlflow(package: str, homes: set[str]) -> None:
    users = {place(path) for path in MODULES if any(name.split(".")[0] == package for name in imported(path))}
    assert users == homes


def test_the_picture_in_architecture_md_names_every_place() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in MODULES:
        assert f"{place(path)}/" in page or f"{place(path)}.py" in page, f"ARCHITECTURE.md does not name {path}"
