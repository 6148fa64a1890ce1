"""The command `toposampler` as users type it: its help, what it costs, output that nobody reads, missing packages."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from pathlib import Path

import pytest
from processes import ROOT

import toposampler
from toposampler.commands import systems, train
from toposampler.commands.ending import ending
from toposampler.commands.main import COMMANDS, main
from toposampler.commands.usage import WIDTH
from toposampler.config import Section, describe
from toposampler.data import DATA
from toposampler.errors import UserError
from toposampler.systems import SYSTEMS
from toposampler.training import Model, RunConfig, load_config
from toposampler.training.config import run_folder

HEAVY = {
    "gudhi", "matplotlib", "mlflow", "numba", "optuna", "pandas", "PIL", "pyarrow", "ray", "scipy", "sklearn",
    "torchvision",
}  # fmt: skip
LOOK = """
import contextlib, io, sys
from toposampler.commands.main import main
for command in sys.argv[1:]:
    sys.argv[0] = f"ray_jobs/{command.split()[0]}.py"  # the longest way to call one
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(command.split())
    print(max(map(len, said.getvalue().splitlines())), *{name.partition(".")[0] for name in sys.modules})
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def python(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_help_and_dry_run_import_nothing_heavy_and_are_100_columns_wide() -> None:
    light = ["--help", "train --help", "promote --help", "report --help", "export --help", "demo --help"]
    with_torch = [
        "train lines_dmgan_pl --help",
        "sample --help",
        "evaluate --help",
        "sweep --help",
        "systems",
        "systems dmgan_pl",
    ]
    dry_runs = ["train lines_dmgan_pl --dry-run", "train ring_toposampler --dry-run"]
    run = python("-c", LOOK, *light, *with_torch, *dry_runs)
    assert run.returncode == 0, run.stderr
    looks = [line.split() for line in run.stdout.splitlines()]  # what was imported adds up
    for command, (longest, *imported) in zip([*light, *with_torch, *dry_runs], looks, strict=True):
        assert HEAVY.isdisjoint(imported), command
        assert command not in light or "torch" not in imported, command
        assert command in dry_runs or int(longest) <= WIDTH, command


@pytest.mark.parametrize(
    "command", ["-m toposampler --help", "ray_jobs/train.py --help", "-m toposampler train lines_dmgan_pl --dry-run"]
)
def test_a_reader_that_goes_away_is_no_fault(command: str) -> None:
    script = f"{shlex.quote(sys.executable)} {command} | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) in [(141, ""), (0, "")]


def test_the_help_names_what_was_typed() -> None:
    assert "    python ray_jobs/train.py CONFIG [--key" in python("ray_jobs/train.py", "--help").stdout
    assert "    python -m toposampler promote MODEL --name" in python("-m", "toposampler", "promote", "--help").stdout
    assert "usage: python ray_jobs/promote.py " in python("ray_jobs/promote.py", "--help").stdout


def test_every_command_has_a_line_and_wrong_ones_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out.split("commands:\n")[1].splitlines()
    listed = [line.split()[0] for line in told if line[2] != " "]  # others go on with the line before
    assert listed == list(COMMANDS)
    assert main([]) == 2
    assert main(["trian"]) == 2
    assert "there is no command 'trian'. Did you mean train?" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"toposampler {toposampler.__version__}\n")
    assert version("toposampler") == toposampler.__version__


def test_the_console_script_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["toposampler"]
    monkeypatch.setattr("sys.argv", ["toposampler", "--version"])
    assert EntryPoint("toposampler", declared, "console_scripts").load()() == 0
    assert capsys.readouterr().out == f"toposampler {toposampler.__version__}\n"


def test_a_configuration_shows_the_keys_it_may_hold_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([str(ROOT / "configs" / "lines_wgan_gp.yaml"), "--help"]) == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")}
    config = load_config(ROOT / "configs" / "lines_wgan_gp.yaml")
    for name, section in config:
        if isinstance(section, Section):
            assert {key for key in shown if key.startswith(f"--{name}.")} == {
                f"--{name}.{key}" for key, *_ in describe(type(section))
            }
    assert {"--name", "--output", "--seed"} < shown
    assert "--system.n_generators" not in shown
    assert train.main(["--help", "lines_wgan"]) == 2
    assert "did you mean lines_wgan_gp" in capsys.readouterr().err


def test_systems_lists_all_and_shows_the_keys_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert systems.main([]) == 0
    out, heading, networks = capsys.readouterr().out.partition("system.generator_network, system.critic_network\n")
    assert heading
    assert networks.startswith("  default, mlp, conv, resnet, module:function\n")
    pages = [page.model_fields["name"].default for page in (*SYSTEMS, *DATA)]
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and not line.startswith("   ")}
    assert listed == set(pages)
    assert "WGAN-GP: Improved Training of Wasserstein GANs." in out
    for page in (*SYSTEMS, *DATA):
        assert systems.main([page.model_fields["name"].default]) == 0
        out = capsys.readouterr().out
        for key, default, _ in describe(page):
            assert f".{key} [{default}"[:WIDTH] in " ".join(out.split())
        assert max(map(len, out.splitlines())) <= WIDTH
    assert systems.main(["dmgan_lp"]) == 2
    assert "there is no system and no data set 'dmgan_lp': did you mean dmgan_pl" in capsys.readouterr().err


WITHOUT = """
import sys
import tomllib
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {absent} else found(name, package)
from toposampler.commands.main import main
sys.exit(main(sys.argv[1:]))
"""
EXTRAS = {"gudhi", "mlflow", "optuna", "pandas", "pyarrow", "ray", "torchvision"}
SMALL = [
    "--data.n", "200", "--training.generator_steps", "4", "--training.evaluation_samples", "200",
    "--training.batch_size", "8",
]  # fmt: skip


def without(absent: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command `arguments` where the packages `absent` are not installed."""
    return python("-c", WITHOUT.format(absent=absent), *arguments)


def test_the_core_alone_trains(tmp_path: Path) -> None:
    run = without(EXTRAS, "train", "lines_dmgan_pl", "--output", tmp_path, *SMALL)
    assert run.returncode == 0, run.stderr
    assert "Ray is not installed (pip install 'toposampler[ray]'): as with --local, this process trains" in run.stderr
    assert "not recorded on MLflow, which is not installed: pip install 'toposampler[mlflow]'" in run.stderr
    assert "mtop_div is left out: it needs gudhi, which is not installed" in run.stderr
    told = ("loading the data lines", "at step 0 of 4", "evaluating 200 samples", "drawing the figures", "done after")
    assert sorted(told, key=run.stderr.index) == list(told), "what is done is said while it is done"
    result = json.loads((tmp_path / "lines-dmgan-pl" / "result.json").read_text())
    assert result["generator_steps"] == 4
    assert not any(name.startswith("mtop_div") for name in result["metrics"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train lines_dmgan_pl --cluster.num_workers 2", "cluster.num_workers 2 needs ray, which is not installed: "
         "pip install 'toposampler[ray]', or --local trains in this process, with cluster.num_workers 1"),
        ("train lines_dmgan_pl --output {tmp} --tracking.uri http://h", "recording the run on MLflow needs mlflow, "
         "which is not installed: pip install 'toposampler[mlflow]', or --tracking.enabled false trains without it"),
        ("train lines_dmgan_pl --submit http://h:8265", "--submit needs ray, which is not installed"),
        ("sweep lines", "a sweep needs ray, which is not installed: pip install 'toposampler[ray]'"),
        ("evaluate m --workers 2", "--workers 2 needs ray, which is not installed: pip install 'toposampler[ray]', or "
         "--workers 1 evaluates in this process"),
        ("promote m --name n", "this needs mlflow, which is not installed: pip install 'toposampler[mlflow]'"),
        ("sample models:/m@a --out {tmp}/x.npy", "models:/m@a needs mlflow, which is not installed"),
    ],
)  # fmt: skip
def test_what_needs_a_missing_package_names_it_and_how_to_install_it(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("toposampler.extras.find_spec", lambda name: None if name in EXTRAS else object())
    assert main(arguments.format(tmp=tmp_path).split()) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_evaluate_in_a_notebook_gives_the_metrics_of_a_result(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["toposampler.metrics.evaluate"], "MTOP_BATCH", 10)  # seconds less
    config = make_config("dmgan_pl", training__evaluation_samples=100)
    result = toposampler.train(config)
    model = toposampler.load(run_folder(config))
    own = toposampler.evaluate(model, n=100, seed=config.seed)
    assert own == pytest.approx(result["metrics"], rel=1e-6)
    assert toposampler.evaluate(run_folder(config), n=100, seed=7) != own
    with pytest.raises(UserError, match="the data lines have changed"):
        toposampler.evaluate(Model(config, model.system, model.step, model.shape, "0" * 64))


def test_a_result_ends_in_words_and_six_metrics_and_leaves_the_rest_to_its_file(
    make_config: Callable[..., RunConfig],
) -> None:
    metrics = {"score": 0.5, "off_support_nn99": 0.02, "active_generators": 2.0, "mode_mass_0": 0.7, "jsd_nats": 0.1}
    metrics |= {"coverage_k5_component_3": 1.0, "fid_2000": 3.0}
    makers = [{"id": 3, "component": 1, "mass": 0.7, "purity": 1.0, "off": 0.025}]
    result = {"metrics": metrics, "active_generators": 2, "generator_steps": 2000, "seconds": 1.5, "model": "m"}
    words = {"verdict": "2 components", "warnings": ["component 0 is missing"], "evaluated": 1000}
    result |= words | {"findings": {"makers": makers}, "real": {"n": 500, "metrics": {"score": 0.04}}}
    config = make_config("dmgan_pl", tracking__enabled=False)
    lines = list(ending(config, result))
    assert lines[:2] == ["2 components", "warning: component 0 is missing"]
    assert [line.split() for line in lines[2:11]] == [
        ["generator", "component", "mass", "in", "it", "off", "data"],
        ["3", "1", "0.700", "100", "%", "2.5", "%"],
        ["score", "0.5", "better:", "less", "500", "real:", "0.04"],
        ["off_support_nn99", "0.02", "better:", "less", "95", "%:", "0.013", "to", "0.0307"],
        ["jsd_nats", "0.1", "better:", "less"],
        ["fid_2000", "3", "better:", "less"],
        ["active_generators", "2"],
        ["generator_steps", "2,000"],
        ["seconds", "1.5"],
    ]
    assert lines[11] == f"metrics  2 more in {run_folder(config) / 'result.json'}, and in the report"
    assert lines[-1].startswith("model")
    report = run_folder(config) / "figures" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    assert list(ending(config, result))[-1] == f"report   {report.as_uri()}"
    of_an_earlier_version = {
        key: result[key] for key in ("metrics", "active_generators", "generator_steps", "seconds", "model")
    }
    assert next(ending(config, of_an_earlier_version)).split() == ["score", "0.5", "better:", "less"]


def test_help_of_the_package_shows_what_a_notebook_needs() -> None:
    shown = pydoc.plain(pydoc.render_doc(toposampler))
    for name in toposampler.__all__:
        assert f"{name}{inspect.signature(getattr(toposampler, name))}" in " ".join(shown.split())
        assert name in dir(toposampler)
    assert {"evaluate", "list_systems", "load", "train"} <= set(toposampler.__all__)
    assert toposampler.list_systems()["wgan_gp"] == "WGAN-GP: Improved Training of Wasserstein GANs."
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = toposampler.trian
