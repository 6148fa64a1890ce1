"""The layers of the package: a module imports from its own layer or from lower ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    ["nn", "losses", "topology", "plots", "config", "reader", "conversion", "keys", "registry", "errors", "records"],
    ["data", "metrics", "priors"],
    ["systems"],
    ["plugins", "training", "tracking", "rejection", "sampling", "evaluation", "reporting", "exporting"],
    ["distributed", "lookup", "evaluate_model", "api", "fitted"],
    ["tuning", "demo"],
    ["commands", "__main__"],
]
LAYERS[0] += ["background", "files", "extras", "packaged", "schedules", "storage"]
LAYER = {place: number for number, places in enumerate(LAYERS) for place in places}
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
    own = LAYER[place(path)]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "toposampler" and len(parts) > 1 and parts[1] != "__version__":
            assert LAYER[parts[1]] <= own, f"{path} imports {name} from a higher layer"
        assert parts[0] not in {"ray_jobs", "tuning", "benchmarks", "tests"}, f"{path} imports {name}"


def circles(arrows: Mapping[str, Set[str]]) -> list[set[str]]:
    """The groups of places that reach each other by `arrows` (place: the places it imports): none, if there is none."""
    reached = {start: set(ends) for start, ends in arrows.items()}
    for _ in arrows:
        reached = {start: ends.union(*(reached.get(end, ()) for end in ends)) for start, ends in reached.items()}
    groups = [{end for end in ends if start in reached.get(end, ())} for start, ends in reached.items()]
    return [group for group in groups if group]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer[0])
def test_places_of_a_layer_do_not_import_each_other_in_a_circle(layer: list[str]) -> None:
    arrows: dict[str, set[str]] = {name: set() for name in layer}
    for path in MODULES:
        if (own := place(path)) in arrows:
            parts = [name.split(".") for name in imported(path)]
            arrows[own] |= {p[1] for p in parts if p[0] == "toposampler" and len(p) > 1 and p[1] in layer} - {own}
    assert circles(arrows) == []


def test_a_circle_is_seen() -> None:
    assert circles({"training": {"tracking"}, "tracking": {"rejection"}, "rejection": set()}) == []
    found = circles({"training": {"tracking"}, "tracking": {"rejection"}, "rejection": {"training"}, "sampling": set()})
    assert found == 3 * [{"training", "tracking", "rejection"}]


@pytest.mark.parametrize(("package", "homes"), [("ray", {"distributed", "tuning"}), ("mlflow", {"tracking"})])
def test_only_one_place_knows_of_ray_and_of_mlflow(package: str, homes: set[str]) -> None:
    users = {place(path) for path in MODULES if any(name.split(".")[0] == package for name in imported(path))}
    assert users == homes


def test_four_modules_of_a_sweep_know_of_tune() -> None:
    users = {path.stem for path in MODULES if any(name.startswith("ray.tune") for name in imported(path))}
    assert users == {"engine", "schedulers", "trainable", "workers"}


def test_losses_know_torch_alone() -> None:
    known = {"torch", "toposampler.losses", "typing", "math", "__future__"}
    for path in (ROOT / "toposampler" / "losses").glob("*.py"):
        for name in imported(path):
            assert any(name == k or name.startswith(f"{k}.") for k in known), f"{path} imports {name}"


def test_the_picture_in_architecture_md_names_every_place() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in MODULES:
        assert f"{place(path)}/" in page or f"{place(path)}.py" in page, f"ARCHITECTURE.md does not name {path}"
