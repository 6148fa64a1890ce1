"""The benchmark of color images, on a CPU with the smallest sizes: legs, its table, and data that are not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "images.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--data", str(folder / "data")]
    command += ["--output", str(folder / "runs"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.slow
def test_legs_end_and_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, middle in (("faces", 60), ("bedrooms", 190)):
        place = tmp_path / "data" / "faces_bedrooms" / part
        place.mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(middle - 50, middle + 50, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    first = run(tmp_path, "--minutes", "0.00001")
    assert first.returncode == 75, first.stderr
    assert "cifar10: skipped:" in first.stdout
    assert "stacked_mnist: skipped:" in first.stdout
    assert "faces_bedrooms-r3gan-tiny: to be resumed" in first.stdout
    last = run(tmp_path, "--minutes", "5")
    assert last.returncode == 0, last.stderr
    found = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["faces_bedrooms-r3gan-tiny", "faces_bedrooms-dmgan_pl-tiny"]
    for row in found["rows"]:
        assert row["complete"]
        assert row["images_seen"] == 4 * 8
        assert row["images_per_s"] == pytest.approx(32 / (60 * row["minutes"]))
        assert row["share_of_bf16_peak"] is None
        assert row["metrics"]
    assert len(found["rows"][1]["prior"]) == 5
