"""The two sets of photographs that the benchmarks of images train on, as a folder of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from toposampler.errors import UserError

PARTS = ("bedrooms", "faces")


def faces_and_bedrooms(data: Path, output: Path) -> Path:
    """The folder with the sub-folders `bedrooms` and `faces`: `faces_bedrooms` below `data`, or one below `output`.

    The latter is made of the archives `data`/PART/*.npz, whose `images` are (N, H, W, 3) uint8. Raises UserError if
    there is neither.
    """
    if (data / "faces_bedrooms").is_dir():
        return data / "faces_bedrooms"
    archives = {part: sorted((data / part).glob("*.npz")) for part in PARTS}
    if missing := [part for part, found in archives.items() if not found]:
        raise UserError(f"{data} has no folder faces_bedrooms, and no archive {missing[0]}/*.npz of which to make one")
    place = output / "faces_bedrooms"
    for part, (archive, *_) in archives.items():
        with np.load(archive) as content:
            images = content["images"]
        (place / part).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            if not (file := place / part / f"{i:05}.png").exists():
                Image.fromarray(image).save(file)
    return place
