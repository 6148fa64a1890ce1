"""Altered model directories and checkpoints: each is loaded and gives finite samples, or is refused by UserError.

An alteration of a file is tried as it is, which its check sum finds, and with every check sum made right again, as one
who attacks would. Seeded: alteration i is the same in every run. `make test` takes some hundreds, `make test-slow`
every byte of the small files and 2,000 of the weights. A failure names the file and the number.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from alterations import altered_bytes, little_memory, read_or_refused

from toposampler.config import validate
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import checkpoints
from toposampler.training.manifest import CONFIG, MANIFEST, SAMPLES, WEIGHTS, check_sum
from toposampler.training.model import save_model

VALUES = (None, True, 0, -1, 1, 2, 3, 0.5, 1e-300, 1e308, 2**31, 2**63, 10**30, "", "x", "\0", "é", "a" * 5000, "../x")
VALUES += (
    "os:system",
    "lines",
    "default",
    [],
    [[]],
    [2],
    [2] * 20,
    {},
    {"x": 1},
    {"name": "os:system", "sha256": None},
)
BYTES = (lambda b: b ^ 1, lambda b: b ^ 128, lambda _: 0, lambda _: ord("9"), lambda _: ord('"'))
"""what becomes of a byte"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, beside the run it is of: with an encoder, a learned prior, and standardized points."""
    output = tmp_path_factory.mktemp("runs")
    content: dict[str, Any] = {
        "name": "run",
        "output": str(output),
        "data": {"name": "lines", "n": 100, "standardize": True},
        "system": {"name": "dmgan_pl", "n_generators": 2, "generator_width": 8, "critic_width": 8},
        "training": {"batch_size": 8, "generator_steps": 2, "checkpoint_every": 2, "evaluation_samples": 100},
    }
    train(validate(RunConfig, content))
    save_model(output / "run", output / "model", "MIT")
    return output / "model"


def loaded(model: Path) -> None:
    """Load what was altered, both of its weights, and draw from it."""
    for ema in (True, False):
        x, ids = load_model(model, ema).sample(8, seed=1)
        assert torch.isfinite(x).all()
        assert len(x) == len(ids) == 8


def sealed(model: Path) -> None:
    """Make the check sums right again, of the files and of the manifest."""
    manifest = json.loads((model / MANIFEST).read_text())
    if isinstance(files := manifest.get("files"), dict):
        files |= {name: hashlib.sha256((model / name).read_bytes()).hexdigest() for name in (CONFIG, WEIGHTS, SAMPLES)}
    manifest["sha256"] = check_sum(manifest)
    (model / MANIFEST).write_text(json.dumps(manifest))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in JSON `content`, of whatever depth."""
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield (*path, key)
        yield from places(content[key], (*path, key))


def with_value(text: str, rng: random.Random) -> str:
    """The JSON `text` with another value somewhere, or without one, or with one more."""
    content = json.loads(text)
    *way, key = rng.choice(list(places(content)))
    part = content
    for step in way:
        part = part[step]
    match rng.randrange(8):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[rng.choice(("x", "", "name", "a.b", "\0", "k" * 300))] = rng.choice(VALUES)
        case 2 if isinstance(part[key], int | float):
            part[key] = part[key] * rng.choice((2, 10, 1000, -1, 0.5))
        case _:
            part[key] = rng.choice(VALUES)
    return json.dumps(content)


def tried(saved: Path, folder: Path, name: str, content: bytes, what: str, seal: bool) -> bool:
    """Whether the model is taken with `content` in place of its file `name`."""
    model = folder / "model"
    shutil.copytree(saved, model)
    try:
        (model / name).write_bytes(content)
        if seal:
            sealed(model)
        return read_or_refused(lambda: loaded(model), what)
    finally:
        shutil.rmtree(model)


def every_byte(saved: Path, folder: Path, changes: int, step: int) -> None:
    """Alter each `step`-th byte of the small files in as many ways as `changes` says."""
    for name in (MANIFEST, CONFIG, SAMPLES):
        content = (saved / name).read_bytes()
        for i in range(0, len(content), step if name != SAMPLES else 20 * step):
            for change in BYTES[:changes]:
                altered = content[:i] + bytes([change(content[i])]) + content[i + 1 :]
                if altered == content:
                    continue
                what = f"{name}, byte {i} as {altered[i]}"
                assert not tried(saved, folder, name, altered, what, seal=False) or name == MANIFEST, what
                if name == CONFIG:
                    tried(saved, folder, name, altered, f"{what}, sealed", seal=True)


def altered_tensors(content: bytes, rng: random.Random) -> bytes:
    """The tensors of a weights file, of which one is changed in name, type, shape or values."""
    tensors = safetensors.torch.load(content)
    name = rng.choice(sorted(tensors))
    x = tensors[name]
    match rng.randrange(6):
        case 0:
            del tensors[name]
        case 1:
            tensors[rng.choice(("x", "", "system.", "average", "transform.x", "system.x", "é"))] = tensors.pop(name)
        case 2:
            tensors[name] = x.to(rng.choice((torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64)))
        case 3:
            shapes = (x.flatten(), x[None], x.flatten()[:1], x.flatten()[:0], torch.cat((x, x)), x.flatten()[0])
            tensors[name] = rng.choice(shapes).clone()
        case _:
            number = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e-45))
            tensors[name] = x.index_fill(0, torch.tensor([rng.randrange(len(x))]), number)
    return safetensors.torch.save(tensors)


def altered_weights(content: bytes, rng: random.Random) -> bytes:
    """A weights file with altered bytes, another header, or other tensors."""
    length = int.from_bytes(content[:8], "little")
    match rng.randrange(4):
        case 0:
            header = with_value(content[8 : 8 + length].decode(), rng).encode()
            return len(header).to_bytes(8, "little") + header + content[8 + length :]
        case 1:
            return altered_bytes(content, rng)
        case _:
            return altered_tensors(content, rng)


def parts_altered(saved: Path, folder: Path, count: int) -> None:
    """Alter values of the manifest and of the configuration, and the weights, `count` times each; sealed."""
    alterations: dict[str, Callable[[bytes, random.Random], bytes]] = {
        MANIFEST: lambda content, rng: with_value(content.decode(), rng).encode(),
        CONFIG: lambda content, rng: with_value(content.decode(), rng).encode(),
        WEIGHTS: altered_weights,
    }
    for name, alter in alterations.items():
        content, taken = (saved / name).read_bytes(), 0
        for i in range(count):
            altered = alter(content, random.Random(i))
            taken += tried(saved, folder, name, altered, f"{name}, alteration {i}", seal=True)
        assert 0 < taken < 0.7 * count, (name, taken)


def checkpoints_altered(saved: Path, folder: Path, count: int) -> None:
    """Alter the bytes of the checkpoint, or a value in it, `count` times."""
    (path,) = checkpoints(saved.parent / "run" / "checkpoints")
    content, altered = path.read_bytes(), folder / path.name
    for i in range(count):
        rng = random.Random(i)
        if rng.random() < 0.3:
            altered.write_bytes(altered_bytes(content, rng))
        else:
            state = torch.load(path, weights_only=True)
            *way, key = rng.choice(list(places(state)))
            part = state
            for step in way:
                part = part[step]
            part[key] = rng.choice((*VALUES, torch.ones(2), torch.tensor(float("nan"))))
            torch.save(state, altered)
        read_or_refused(lambda: loaded(altered), f"checkpoint, alteration {i}")


@pytest.mark.parametrize("name", [MANIFEST, CONFIG, WEIGHTS, SAMPLES])
def test_a_file_that_is_none(saved: Path, tmp_path: Path, name: str) -> None:
    """Cut off, a link, a folder, a pipe that nobody writes to, or larger than any memory: refused, and soon."""
    content, path = (saved / name).read_bytes(), tmp_path / "model" / name
    for length in (0, 1, 8, len(content) // 2, len(content) - 1):
        assert not tried(saved, tmp_path, name, content[:length], f"{name}, {length} bytes", seal=False)

    def linked(target: str) -> None:
        path.unlink()
        path.symlink_to(target)

    def replaced(make: Callable[[Path], object]) -> None:
        path.unlink()
        make(path)

    for what in (
        lambda: linked(str(saved / name)),
        lambda: linked("/dev/zero"),
        lambda: linked(name),
        lambda: replaced(Path.mkdir),
        lambda: replaced(os.mkfifo),
        lambda: os.truncate(path, 2**42),
    ):
        shutil.copytree(saved, tmp_path / "model")
        what()
        assert not read_or_refused(lambda: loaded(tmp_path / "model"), name)
        shutil.rmtree(tmp_path / "model")


def test_other_files_beside_a_models_own_are_left_alone(saved: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved, tmp_path / "model"))
    for name in ("setup.py", "system.pt", ".hidden", "weights.bin", "config.yaml"):
        (model / name).write_bytes(b"\x80\x04cos\nsystem\n")
    (model / "checkpoints").mkdir()
    loaded(model)


def test_altered_models(saved: Path, tmp_path: Path) -> None:
    with little_memory():
        every_byte(saved, tmp_path, changes=1, step=97)
        parts_altered(saved, tmp_path, 20)
        checkpoints_altered(saved, tmp_path, 20)


@pytest.mark.slow
def test_every_byte_of_a_model(saved: Path, tmp_path: Path) -> None:
    with little_memory():
        every_byte(saved, tmp_path, changes=len(BYTES), step=1)


@pytest.mark.slow
def test_altered_values_and_weights_of_a_model(saved: Path, tmp_path: Path) -> None:
    with little_memory():
        parts_altered(saved, tmp_path, 2000)
        checkpoints_altered(saved, tmp_path, 1000)
