"""Altered configurations of runs and sweeps: each is read, or refused by UserError; nothing else, no big allocation.

Seeded: alteration i is the same in every run. `make test` takes 500 in all, `make test-slow` 10,000 runs and 2,000
sweeps. A failure names the number and keeps the file.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from alterations import little_memory, read_or_refused

from toposampler.config import flatten, to_yaml
from toposampler.training.config import RunConfig, load_config
from toposampler.tuning import config as tuning
from toposampler.tuning.config import load_sweep

ROOT = Path(__file__).parent.parent.parent
CONFIGS = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
SWEEP = (ROOT / "tuning" / "lines.yaml").read_text().replace("../configs", str(ROOT / "configs"))

# What one may write where a value stands: as text, since half of it is about how YAML is read.
VALUES = [
    *re.findall(
        r"\S+",
        r"""null ~ true false yes no on off 0 -1 1 2 3 10 64 010 0x1F 0o17 1_000 1:30 1e3 1e-4 1e999 .inf -.inf .nan
        12e4567 0.5 -0.5
        9223372036854775808 4294967296 100000000 30000 1e11 !!int !!set !!python/none !x *a &a [] {} [1] [1,2]
        [1,2,3] [[1]] [true] {a:1} "1" '1' "" '~' lines dmgan_pl wgan_gp s3://b/x file:///x ~/x ~nobody/x ../x /dev/null
        a/b a@b a'b 007 1.10 2024-01-05 2024_01_05 x fp32 none ready bf16 sharded "\0" "\ud800" "\Uffffffff" ä <<""",
    ),
    *(
        "[" * 40,
        "{a: " * 40,
        "9" * 400,
        "0x" + "f" * 5000,
        "x" * 5000,
        "a: b",
        "{a: 1}",
        "[1, 2",
        "|",
        "- 1",
        "? x",
        "%",
    ),
]
NUMBERS = ["0", "1", "2", "16", "100", "0.1", "0.5", "1e-3", "1e3", "0x10", "2.5"]
CHARACTERS = " \n\t:,[]{}&*!|>'\"%@`#-?~01e.x\\\0\ufeff\x85é"
KEYS = ["name", "n", "seed", "dim", "path", "weights", "betas", "nothing", "", "a.b", "<<", "0", "null", "k" * 3000]


def altered(text: str, rng: random.Random) -> str:
    """`text`, a YAML file, with one or two alterations: of values, keys, lines or characters."""
    for _ in range(rng.choice((1, 1, 2))):
        lines = text.splitlines() or [""]
        i = rng.randrange(len(lines))
        key, colon, value = lines[i].partition(": ")
        match rng.randrange(11):
            case 0 | 1 | 2 if colon:
                lines[i] = f"{key}: {rng.choice(VALUES)}"
            case 3 if "{" in value:
                part = rng.choice(
                    value.replace("{", ",").replace("}", ",").replace("[", ",").replace("]", ",").split(",")
                )
                lines[i] = lines[i].replace(part, f" a: {rng.choice(VALUES)}" if ":" in part else rng.choice(VALUES), 1)
            case 4:
                lines.insert(i, f"{' ' * rng.choice((0, 0, 2, 4))}{rng.choice(KEYS)}: {rng.choice(VALUES)}")
            case 5:
                lines[i] = lines[i].replace(key.strip(), rng.choice(KEYS), 1)
            case 6:
                del lines[i]
            case 7 | 8 | 9:  # another number, which may well be right
                lines[i] = re.sub(r"(?<=[ \[])[0-9.]+", lambda _: rng.choice(NUMBERS), lines[i], count=1)
            case _:
                content = list("\n".join(lines))
                for _ in range(rng.randint(1, 3)):
                    content[rng.randrange(len(content))] = rng.choice(CHARACTERS)
                lines = "".join(content).split("\n")
        text = "\n".join(lines)
    return text


def overridden(rng: random.Random) -> list[str]:
    """A key or two on the command line, or none."""
    keys = rng.sample(ALL_KEYS, rng.choice((0, 0, 0, 1, 2)))
    return [part for key in keys for part in (f"--{key}={rng.choice(VALUES)}",)]


ALL_KEYS = sorted(
    {key for text in CONFIGS for key in flatten(yaml.safe_load(text))}
    | {
        f"{section}.{key}"
        for section in ("training", "cluster", "tracking")
        for key in RunConfig.model_fields[section].annotation.model_fields
    }  # type: ignore[union-attr]
)


def finite(value: Any) -> bool:
    """Whether no number in a configuration is infinite or none."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(finite, parts)) and (not isinstance(value, float) or math.isfinite(value))


def fuzz(
    count: int,
    seed: int,
    text_of: Callable[[random.Random], str],
    read: Callable[[Path, random.Random], None],
    folder: Path,
) -> int:
    """Read `count` altered files; how many were taken. What is not refused as it should be fails the test."""
    taken = 0
    file = folder / "altered.yaml"
    with little_memory():
        for i in range(seed, seed + count):
            rng = random.Random(i)
            file.write_bytes(altered(text_of(rng), rng).encode(errors="surrogatepass"))
            taken += read_or_refused(partial(read, file, rng), f"alteration {i}")
    return taken


def read_run(file: Path, rng: random.Random) -> None:
    config = load_config(file, overridden(rng))
    assert finite(config.model_dump(mode="json"))
    if rng.random() < 0.2:
        file.write_text(to_yaml(config))
        assert load_config(file) == config, "what is written is read as the same"


def runs(count: int, folder: Path) -> None:
    taken = fuzz(count, 0, lambda rng: rng.choice(CONFIGS), read_run, folder)
    assert 0.05 * count < taken < 0.7 * count, "alterations of both kinds"


def sweeps(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "DRAWS", 3)  # random points of each space
    taken = fuzz(count, 1_000_000, lambda _: SWEEP, lambda file, _: load_sweep(file) and None, folder)
    assert 0.05 * count < taken < 0.7 * count


def test_altered_runs(tmp_path: Path) -> None:
    runs(400, tmp_path)


def test_altered_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps(100, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_altered_runs(tmp_path: Path) -> None:
    runs(10_000, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_altered_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps(2000, tmp_path, monkeypatch)
