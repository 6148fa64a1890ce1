"""What is used of Ray and Optuna beyond their public interfaces: in one place, listed, and there in what is installed.

A newer Ray or Optuna that has changed one of these fails here, by its name.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

ROOT = Path(__file__).parent.parent
PLACE = "toposampler/distributed/ray_private.py"
LISTED = {"_memory", "_private", "_private.state", "_register_sigint_handler"}
"""private names in `PLACE`; nowhere else is there one"""
PACKAGES = ("ray", "optuna")
MODULES = [path for folder in ("toposampler", "ray_jobs", "tuning") for path in sorted((ROOT / folder).rglob("*.py"))]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(path: Path) -> Iterator[str]:
    """The private names of Ray and Optuna in a module.

    Those in an import; those of an attribute or an argument in a module that imports either, unless the attribute is
    of the module's own classes (`self._x`, or a name that the module itself defines); those of a method in a class
    that inherits from one that is imported from them.
    """
    tree = ast.parse(path.read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                imported |= {alias.asname or alias.name.split(".")[0] for alias in node.names}  # type: ignore[attr-defined]
                private = [part for part in name.split(".") if is_private(part)]
                if private:
                    start = name.split(".").index(private[0])
                    module = node.module if isinstance(node, ast.ImportFrom) and node.module else name
                    yield ".".join(module.split(".")[start:])
    if not imported:
        return
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and not _is_self(node.value)
            and node.attr not in own
        ):
            yield node.attr
        if isinstance(node, ast.Call):
            yield from (key.arg for key in node.keywords if key.arg and is_private(key.arg))
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            yield from filter(is_private, keys)
        if isinstance(node, ast.ClassDef) and {getattr(base, "id", None) for base in node.bases} & imported:
            methods = [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
            yield from filter(is_private, (name for name in methods if not _is_called(tree, name)))


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_called(tree: ast.AST, name: str) -> bool:
    """Whether the module itself uses the method: then it is its own, and not one that a base calls."""
    return any(isinstance(node, ast.Attribute) and node.attr == name for node in ast.walk(tree))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_outside_of_the_list(path: Path) -> None:
    found = set(private_names(path))
    assert found == (LISTED if str(path.relative_to(ROOT)) == PLACE else set())


def test_the_search_finds_them(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import ray\nimport ray._private.utils\nfrom ray.train.v2._internal.x import y\nfrom ray import Z\n"
        "ray._a.b()\ny()._c\nf(_d=1)\nclass A(Z):\n    def _e(self): self._own = self._f()\n    def _f(self): pass\n"
    )
    assert set(private_names(module)) == {"_private.utils", "_internal.x", "_a", "_c", "_d", "_e"}


def test_the_installed_ray_has_them() -> None:
    import inspect

    import ray
    from ray._private import state, worker
    from ray.train.torch import TorchTrainer

    assert inspect.signature(worker.print_to_stdstream).parameters.keys() == {"data", "ignore_prefix"}
    assert callable(state.available_resources_per_node)
    assert '"_memory"' in inspect.getsource(ray.init)  # one of its `**kwargs`
    assert inspect.signature(TorchTrainer._register_sigint_handler).parameters.keys() == {"self", "controller"}


@pytest.mark.parametrize("variables", [{}, {"TMPDIR": "/a"}, {"TMPDIR": "/a", "RAY_TMPDIR": "/b"}])
def test_the_folder_of_ray_is_the_one_it_uses(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_ray_temp_dir

    from toposampler.distributed.cluster import ray_folder

    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setitem(os.environ, name, value)
    assert ray_folder() == get_default_ray_temp_dir()


def test_optuna_opens_a_trial_by_its_number_with_public_means(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    for name in ("one", "two"):  # ids go on over all studies, numbers begin anew in each
        study = optuna.create_study(study_name=name, storage=storage)
        study.ask()
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("two"), 0)
    assert optuna.Trial(study, trial_id).number == 0
    assert trial_id != 1
