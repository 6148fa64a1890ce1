"""What is installed: configurations found by name, extras, and the content of a wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from processes import ROOT

from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.packaged import find, packaged
from toposampler.training import load_config

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_a_configuration_is_found_by_its_name() -> None:
    by_name = load_config(find("lines_dmgan_pl"))
    assert by_name == load_config(find("lines_dmgan_pl.yaml")) == load_config(ROOT / "configs" / "lines_dmgan_pl.yaml")
    assert find("lines", "sweeps") == ROOT / "tuning" / "lines.yaml"
    assert set(packaged("configs")) == {path.stem for path in (ROOT / "configs").iterdir()}


def test_a_path_that_exists_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines_dmgan_pl").touch()
    monkeypatch.chdir(tmp_path)
    assert find("lines_dmgan_pl") == Path("lines_dmgan_pl")


@pytest.mark.parametrize("path", ["absent/lines_dmgan_pl", "./absent.yaml/", "/lines_dmgan_pl.yaml"])
def test_what_is_plainly_a_path_is_no_name(path: str) -> None:
    assert find(path) == Path(path)


def test_names_of_nothing_are_told_with_close_ones() -> None:
    with pytest.raises(UserError, match=r"^line_dmgan_pl is no file, .*: did you mean lines_dmgan_pl or "):
        find("line_dmgan_pl")
    with pytest.raises(UserError, match=r"^zzz\.yaml is no file, .*: `toposampler train --help` lists what does"):
        find("zzz.yaml")


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    require("yaml", "all")
    with pytest.raises(UserError) as raised:
        require("absent_package", "ray", "a sweep", "go without")
    assert str(raised.value) == (
        "a sweep needs absent_package, which is not installed: pip install '.[ray]' in the checkout, or go without"
    )


def test_all_is_all_extras_and_dev_and_the_image_have_them() -> None:
    (names,) = re.findall(r"^toposampler\[(.*)\]$", "\n".join(EXTRAS["all"]), re.MULTILINE)
    assert set(names.split(",")) == set(EXTRAS) - {"all", "dev", "postgresql"}
    assert "toposampler[all]" in EXTRAS["dev"]
    in_the_image = set(re.findall(r'o\["(\w+)"\]', (ROOT / "k8s/image/Dockerfile").read_text()))
    assert in_the_image == set(names.split(",")) - {"onnx", "demo"}  # clusters train; the rest is for where people are


def test_every_extra_that_code_asks_for_exists() -> None:
    asked = {
        name
        for path in (ROOT / "toposampler").rglob("*.py")
        for name in [
            *re.findall(r"""require\([^,()]+, (?:extra=)?"(\w+)\"""", path.read_text()),
            *re.findall(r"how_to_install\(['\"](\w+)['\"]\)", path.read_text()),
        ]
    }
    assert asked == {"ray", "mlflow", "images", "topology", "tables", "onnx", "demo"}


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_its_configurations_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in site.iterdir()} == {
        "toposampler",
        f"toposampler-{PROJECT['version']}.dist-info",
    }
    scripts = (site / f"toposampler-{PROJECT['version']}.dist-info" / "entry_points.txt").read_text()
    assert "toposampler = toposampler.commands.main:main" in scripts
    configs = {path.name for path in (site / "toposampler" / "configs").iterdir()}
    assert configs == {path.name for path in (ROOT / "configs").iterdir()}
    static = Path("toposampler") / "reporting" / "static"
    assert {path.name for path in (site / static).iterdir()} == {path.name for path in (ROOT / static).iterdir()}
    assert (site / "toposampler" / "metrics.md").read_text() == (ROOT / "docs" / "metrics.md").read_text()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    commands = {"train lines_dmgan_pl --dry-run": "name: lines-dmgan-pl", "sweep lines --dry-run": "asha"}
    for command, said in commands.items():
        typed = [sys.executable, "-m", "toposampler", *command.split()]
        run = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert said in run.stdout
        assert str(ROOT) not in run.stdout
