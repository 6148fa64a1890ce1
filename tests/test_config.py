"""Configuration: overrides, messages that name key, value and what would be right, and what may change on resume."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from toposampler.config import OptimizerConfig, describe, merge_overrides, parse_overrides, to_yaml
from toposampler.errors import UserError
from toposampler.systems.toposampler import TopoSamplerConfig
from toposampler.training.config import RunConfig, differences, load_config, run_folder

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DATA_NAMES = (
    "one of array, cifar10, circles, digits, face_bed, folder, gaussians, lines, mnist, npy, shards, spheres, "
    "stacked_mnist, swiss_roll"
)
LINES = ROOT / "configs" / "lines_dmgan_pl.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_names_of_the_configs_are_their_files_names() -> None:
    assert len(CONFIGS) >= 6
    for path in CONFIGS:
        assert load_config(path).name == path.stem.replace("_", "-")


def test_overrides_are_typed() -> None:
    arguments = ["--data.weights", "[0.4,0.2,0.2,0.2]", "--training.batch_size=32", "--cluster.use_gpu", "true"]
    config = load_config(LINES, [*arguments, "--system.prior.entropy_weight", "1e-2", "--name", "7"])
    assert config.data.model_dump()["weights"] == (0.4, 0.2, 0.2, 0.2)
    assert config.training.batch_size == 32
    assert config.cluster.use_gpu is True
    assert config.system.model_dump()["prior"]["entropy_weight"] == 0.01
    assert run_folder(config) == Path("runs/7").absolute()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system.n_generatorz", "20"], "system.n_generatorz: unknown key. Did you mean 'n_generators'?"),
        (["--sistem.name", "x"], "sistem: unknown key. Did you mean 'system'?"),
        (["--training.batch_size", "many"], "training.batch_size: input should be a valid integer, .*got 'many'"),
        (["--training.batch_size", "-4"], r"training.batch_size: input should be greater than .* 2 \(got -4\)"),
        (["--system.n_generators", "0"], r"system.n_generators: input should be greater than .* 1 \(got 0\)"),
        (["--data.n", "-1"], r"data.n: input should be greater than or equal to 2 \(got -1\)"),
        (["--data.weights", "[0.7,0.1,0.1,0.2]"], "data.weights: weights must .* sum to 1, .* with sum 1.1"),
        (["--data.weights", "[1]"], "data.weights: needs 4 weights, one per component, got 1"),
        (
            ["--data.name", "linez"],
            r"data.name: 'linez' is not known. Did you mean 'lines'\? Choose one of 'array', 'cifar10', 'circles', 'di",
        ),
        (["--system.generator.betas", "[0.5,1.5]"], r"system.generator: betas must lie in \[0, 1\)"),
        (["--training.precision", "fp8"], "training.precision: input should be 'fp32', .* or 'fp64' .*got 'fp8'"),
        (["--system.penalty.weight", ".nan"], "system.penalty.weight: input should be .* finite number"),
        (["--cluster.num_workers", "65"], r"training.batch_size \(64\) is less than cluster.num_workers \(65\)"),
        (
            ["--cluster.placement", "sharded", "--cluster.num_workers", "11"],
            "cluster.placement sharded: 10 generators cannot live on 11 workers; set cluster.num_workers to 10 or less",
        ),
        (["--cluster.min_workers", "2"], "cluster: min_workers 2 is more than num_workers 1"),
        (["--cluster.gpus_per_worker", "1.5"], "cluster: gpus_per_worker 1.5: above 1 it must be a whole number"),
        (["--cluster.resources_per_worker", '{"CPU": 2}'], "set CPUs by cpus_per_worker"),
        (["--cluster.resources_per_worker", '{"big": 0}'], "big must be positive, got 0"),
        (["--name", "a/b"], "name: a run's name holds letters, digits"),
        (["--seed", "4294967296"], r"seed: a seed is less than 4294967296 .*the run of another seed .got 4294967296"),
        (["--data.seed", "4294967296"], "data.seed: a seed is less than 4294967296"),
        (["--name", "x" * 300], r"name: a run's name has at most 200 .*this one has 300 \(got 'x{76}\.\.\.\)"),
        (["--training.batch_size", "9" * 400], r"batch_size: input .* integer, such as 64 \(got '9{76}\.\.\.\)"),
        (["--seed"], "--seed needs a value"),
        (["seed", "1"], "unexpected argument 'seed'"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(LINES, arguments)


@pytest.mark.parametrize("address", ["s3://b/runs", "gs://b", "hdfs://h:8020/x", "file:///x", "az://c/x", "S3://b"])
def test_data_in_remote_storage_are_refused_and_home_is_written_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "remote storage is not supported yet: give a folder or file that all machines see"
    places = {"data.path": ["--data.name", "npy"], "data.labels": ["--data", "{name: npy, path: x}"]}
    for key, others in {**places, "data.root": ["--data.name", "mnist"]}.items():
        with pytest.raises(UserError, match=f"{key}: {said}"):
            load_config(LINES, [*others, f"--{key}", address])
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(LINES, ["--output", "~/runs", "--data", "{name: npy}", "--data.path", "~/a.npy"])
    assert (config.output, str(config.data.model_dump()["path"])) == ("/home/me/runs", "/home/me/a.npy")
    assert load_config(LINES, ["--output", "~"]).output == "/home/me"
    with pytest.raises(UserError, match="output: there is no home folder ~nobody-here"):
        load_config(LINES, ["--output", "~nobody-here/runs"])
    with pytest.raises(UserError, match="output: a file's name has at most 255 bytes, and one here has 258"):
        load_config(LINES, ["--output", f"runs/{129 * 'é'}"])


@pytest.mark.parametrize(
    "text", ["2024_01_05", "1.10", "0123456", "12e4567", "007", "no", "null", "true", "0x1F", "1e5"]
)
def test_a_text_key_takes_the_text_as_typed(text: str, tmp_path: Path) -> None:
    """YAML 1.1 made of these 20240105, 1.1, 42798, inf, 7 and False, each the name of another run."""
    assert load_config(LINES, ["--name", text]).name == text
    file = tmp_path / "run.yaml"
    file.write_text(f"name: {text}\ndata: {{name: npy, path: {text}}}\nsystem: {{name: wgan_gp}}\n")
    config = load_config(file)
    assert (config.name, str(config.data.model_dump()["path"])) == (text, text)
    file.write_text(to_yaml(config))
    assert load_config(file) == config


def test_texts_of_the_command_line_are_not_read_as_yaml() -> None:
    for text in ("20:30", "a: b", "a #b", "[x]", "'q'", "{a: 1}"):
        assert load_config(LINES, ["--tracking.experiment", text]).tracking.experiment == text
    assert load_config(LINES, ["--tracking.uri", "null"]).tracking.uri is None


NUMBERS = [
    key
    for key, (default, _) in {key: (default, meaning) for key, default, meaning in describe(RunConfig)}.items()
    if " (" not in key and re.fullmatch(r"-?[0-9.e-]+", default)
]


@pytest.mark.parametrize(
    "value", ["true", "010", "1:30", "1_000", "'1'", "yes", ".inf", ".nan", "0x", "1e999", "1.2.3"]
)
def test_a_number_key_takes_numbers_only(value: str) -> None:
    assert len(NUMBERS) > 15
    for key in NUMBERS:
        with pytest.raises(UserError, match=rf"{key}: input should be "):
            load_config(LINES, [f"--{key}", value])


@pytest.mark.parametrize("value", ["1", "0", "yes", "on", "no", "'true'", "True_", "1.0"])
def test_a_boolean_key_takes_booleans_only(value: str) -> None:
    with pytest.raises(UserError, match=r"cluster.use_gpu: input should be true or false \(got"):
        load_config(LINES, ["--cluster.use_gpu", value])


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--cluster.num_workers", "100000000", "--cluster.min_workers", "1"], "cluster.num_workers"),
        (["--data", "{name: spheres, number: 30000}"], "data.number"),
        (["--data", "{name: spheres, dimension: 100000000}"], "data.dimension"),
        (["--data", "{name: gaussians, n_modes: 100000000}"], "data.n_modes"),
        (["--data", "{name: gaussians, layout: grid, side: 100000}"], "data.side"),
        (["--data.n", "100000000000"], "data.n"),
        (["--system.n_generators", "1000000000"], "system.n_generators"),
        (["--system.latent.dim", "1000000000"], "system.latent.dim"),
        (["--system.generator_width", "100000000000"], "system.generator_width"),
        (["--system.critic_width", "100000000000"], "system.critic_width"),
        (["--training.batch_size", "1000000000"], "training.batch_size"),
        (["--training.evaluation_samples", "1000000000"], "training.evaluation_samples"),
    ],
)
def test_sizes_are_bounded_before_anything_is_allocated(arguments: list[str], key: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=f"{key}: input should be less than or equal to"):
            load_config(LINES, arguments)
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally:
        tracemalloc.stop()


def test_a_message_names_twenty_faults_and_counts_the_others() -> None:
    with pytest.raises(UserError) as caught:
        load_config(LINES, [argument for i in range(50) for argument in (f"--system.key{i}", "1")])
    assert str(caught.value).endswith("\n  and 30 more")


def test_batch_norm_needs_one_worker() -> None:
    author = ROOT / "configs" / "lines_dmgan_pl_author.yaml"
    assert load_config(author).system.couples_samples
    with pytest.raises(UserError, match="normalizes over its batch, which 2 workers would cut apart"):
        load_config(author, ["--cluster.num_workers", "2"])


def test_one_network_cannot_be_sharded() -> None:
    for name in ("spheres_toposampler", "lines_wgan_gp"):
        with pytest.raises(UserError, match=r"sharded needs a system with an ensemble of generators, and .* has one"):
            load_config(ROOT / "configs" / f"{name}.yaml", ["--cluster.placement", "sharded"])


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_config(LINES, ["--seed", "-1", "--training.critic_steps", "0", "--system.nothing", "1"])
    assert all(key in str(caught.value) for key in ("seed", "training.critic_steps", "system.nothing"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a: given twice"),
        ("seed: 0x_", "seed: input should be a valid integer, such as 64 .got '0x_'"),
        ("a: [", "not valid YAML"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("name: x", "data: a value"),
    ],
)
def test_a_bad_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "bad.yaml")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml does not exist"):
        load_config(tmp_path / "none.yaml")


def test_merging_leaves_the_original_alone() -> None:
    content = {"a": {"b": 1}}
    assert merge_overrides(content, parse_overrides(["--a.c", "2", "--d.e.f", "x"])) == {
        "a": {"b": 1, "c": "2"},
        "d": {"e": {"f": "x"}},
    }
    assert content == {"a": {"b": 1}}


def test_a_section_given_in_part_keeps_the_rest_of_its_default() -> None:
    config = load_config(LINES, ["--system.critic.learning_rate", "0.5"])
    assert config.system.critic == OptimizerConfig(learning_rate=0.5, betas=(0.0, 0.9))  # not the class's (.5, .9)
    gated = load_config(LINES, ["--system", "{name: toposampler, noise: {branches: 3}}"])
    assert isinstance(gated.system, TopoSamplerConfig)
    assert (gated.system.noise.kind, gated.system.noise.branches) == ("gate", 3)


def test_every_key_is_described_with_its_true_default() -> None:
    rows = {key: (default, meaning) for key, default, meaning in describe(RunConfig)}
    assert all(meaning for _, meaning in rows.values())
    rates = {key: default for key, (default, _) in rows.items() if key.startswith("system.generator.learning_rate (")}
    assert [rate for key, rate in rates.items() if "wgan_gp" in key] == ["0.001"]  # the section's own, not the class's
    assert rows["data.name"] == ("required", DATA_NAMES)
    assert any(key.startswith("system.n_generators (") and "dmgan, dmgan_pl" in key for key in rows)


def test_only_the_mathematics_must_stay_the_same_on_resume() -> None:
    config = load_config(LINES)
    elsewhere = load_config(LINES, ["--output", "x", "--cluster.num_workers", "2", "--tracking.enabled", "false"])
    assert differences(config, elsewhere) == []
    other = load_config(LINES, ["--seed", "1", "--data.n", "100"])
    assert differences(config, other) == ["seed: 0 -> 1", "data.n: 50000 -> 100"]
